"""Channels that hold the same values for every input are read as one.

1. Channels are numbered by what they compute: two of one tensor have the same number if their weights,
   summed over input channels of the same number, their bias and their scale are equal; channel-wise
   operators, depthwise convolutions and flattening pass numbers on.
2. A convolution or dense layer that reads several channels of one number reads the first alone: the columns
   of the others are added to its column, and become zero. Where a sum leaves -127..127, that column stays.

Sums stay the same for every input. Nobody reads the other channels then: codegen.prune removes them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from codegen.channels import flattens, is_channelwise, is_depthwise, mixes
from codegen.ir import Array, Graph, IntArray, Node, Tensor

MOST_WEIGHT = 127
Numbers = tuple[int, ...]


def merge(graph: Graph) -> Graph:
    """The same function, with equal channels read once; the graph itself where there are none."""
    numbers = numbered(graph)
    tensors: dict[str, Tensor] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        folded = _folded(graph, node, numbers) if mixes(graph, node) else None
        if folded is not None:
            tensors[folded.name] = folded
            node = replace(node, inputs=(node.inputs[0], folded.name, *node.inputs[2:]))  # noqa: PLW2901
        nodes.append(node)
    if not tensors:
        return graph
    return replace(graph, tensors={**graph.tensors, **tensors}, nodes=tuple(nodes))


def numbered(graph: Graph) -> dict[str, Numbers]:
    """For every activation a number per channel: equal numbers of one tensor mean equal values."""
    found: dict[str, Numbers] = {}
    for port in graph.inputs:
        found[port.tensor] = tuple(range(graph.tensors[port.tensor].shape[-1]))
    for node in graph.nodes:
        found[node.output] = _compressed(_keys(graph, node, found))
    return found


def _compressed(keys: Sequence[Hashable]) -> Numbers:
    """The index of the first equal key."""
    first: dict[Hashable, int] = {}
    return tuple(first.setdefault(key, index) for index, key in enumerate(keys))


def _keys(graph: Graph, node: Node, found: Mapping[str, Numbers]) -> Sequence[Hashable]:
    """What each channel of a node's result computes."""
    channels = graph.tensors[node.output].shape[-1]
    if mixes(graph, node):
        return _row_keys(graph, node, _summed(graph, node, found[node.inputs[0]]))
    if is_depthwise(graph, node):
        weights = graph.tensors[node.inputs[1]].values.reshape(channels, -1)
        rows = _row_keys(graph, node, weights)
        return list(zip(found[node.inputs[0]], rows, strict=True))
    if is_channelwise(graph, node):
        operands = [_operand(graph.tensors[name], found, channels) for name in node.inputs]
        return list(zip(*operands, strict=True))
    if flattens(graph, node):
        inner = found[node.inputs[0]]
        return [(index // len(inner), inner[index % len(inner)]) for index in range(channels)]
    return range(channels)


def _summed(graph: Graph, node: Node, numbers: Numbers) -> IntArray:
    """Weights of a layer as (rows, everything), summed over input channels of one number."""
    weights: IntArray = graph.tensors[node.inputs[1]].values.astype(np.int64)
    total = np.zeros_like(weights)
    for channel, number in enumerate(numbers):
        total[..., number] += weights[..., channel]
    return total.reshape(len(weights), -1)


def _row_keys(graph: Graph, node: Node, rows: Array) -> list[Hashable]:
    """Weights, bias and scale of each row."""
    weights, bias = (graph.tensors[name] for name in node.inputs[1:3])
    scales = weights.grid.scales
    return [
        (row.tobytes(), int(bias.values[index]), scales[index if len(scales) > 1 else 0])
        for index, row in enumerate(rows)
    ]


def _operand(tensor: Tensor, found: Mapping[str, Numbers], channels: int) -> list[Hashable]:
    """What an operand of a channel-wise operator gives to each channel; a single one serves all."""
    depth = tensor.shape[-1]
    index = range(channels) if depth == channels else (0,) * channels
    if tensor.data is None:
        return [found[tensor.name][channel] for channel in index]
    return [tensor.values[..., channel].tobytes() for channel in index]


def _folded(graph: Graph, node: Node, numbers: Mapping[str, Numbers]) -> Tensor | None:
    """The weights of a layer with equal columns joined; None if there are none that can be."""
    weights = graph.tensors[node.inputs[1]]
    data: IntArray = weights.values.astype(np.int64)
    most = min(MOST_WEIGHT, 2 ** (weights.grid.width - 1) - 1)  # of weights of few bits, less
    changed = False
    for channel, number in enumerate(numbers[node.inputs[0]]):
        joined = data[..., number] + data[..., channel]
        if channel == number or not data[..., channel].any():
            continue
        if np.abs(joined).max() <= most:
            data[..., number], data[..., channel] = joined, 0
            changed = True
    if not changed:
        return None
    shared = len(graph.consumers(weights.name)) > 1
    name = f"{weights.name} for {node.output}" if shared else weights.name
    return replace(weights, name=name, data=data.astype(weights.values.dtype))
