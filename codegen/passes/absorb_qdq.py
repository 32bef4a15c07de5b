"""Quantize and Dequantize markers become the grids of tensors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codegen.forms import Reshape
from codegen.ir import Graph, Node, Quant, Tensor
from codegen.ops.concat import Concat
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.ops.lookup import Lookup
from codegen.ops.max_pool import MaxPool
from codegen.ops.pad import Pad
from codegen.ops.resize import Resize
from codegen.ops.slice import Slice
from codegen.ops.transpose import Transpose
from codegen.qdq import Dequantize, Quantize, quantize, real_range, stored_range
from codegen.rewrite import rebuilt, uses
from targets.errors import UnsupportedModel

MOVES = (MaxPool, Reshape, Resize, Slice, Transpose)


def absorb_qdq(graph: Graph) -> Graph:
    """The graph without markers. It is left as it is where it has none.

    1. A Quantize gives its operand the grid; where the operand has another one already, it becomes
       an identity lookup, which requantizes. A Dequantize must agree with its operand's grid.
       So the first marker at an input and the last at an output leave only the port's grid.
    2. Relu and Clip whose bounds the grid of the result cannot exceed are removed: saturation does
       their work. Their operand takes the grid.
    3. Operators that only move or pick values have one grid: it is passed on backward (rounding
       commutes with them), then forward; where both sides have different ones, an identity lookup
       follows.
    4. Weights get zero point 0 and one scale per output channel, biases one scale per channel.
    """
    if all(tensor.quant is None for tensor in graph.tensors.values()) and not any(
        isinstance(node.op, Quantize | Dequantize) for node in graph.nodes
    ):
        return graph
    for rule in (_markers, _saturating, _spread, _requantized, _weights):
        graph = rule(graph)
    return graph


def _markers(graph: Graph) -> Graph:
    tensors, alias = dict(graph.tensors), dict[str, str]()
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = tuple(alias.get(name, name) for name in node.inputs)
        x = tensors[inputs[0]]
        if not isinstance(node.op, Quantize | Dequantize):
            nodes.append(replace(node, inputs=inputs))
        elif x.quant in (None, node.op.quant):
            data = None if x.data is None else quantize(x.data, node.op.quant)
            tensors[x.name] = replace(x, quant=node.op.quant, data=data)
            alias[node.output] = x.name
        elif isinstance(node.op, Dequantize):
            why = f"DequantizeLinear {node.label!r} reads integers of another scale or zero point"
            raise UnsupportedModel(why, node=node.label)
        else:
            tensors[node.output] = replace(tensors[node.output], quant=node.op.quant)
            nodes.append(Node(Lookup("identity"), inputs, node.output, node.sources))
    return rebuilt(graph, nodes, tensors, alias)


def _saturating(graph: Graph) -> Graph:
    index, tensors, alias = uses(graph), dict(graph.tensors), dict[str, str]()
    nodes: list[Node] = []
    for node in graph.nodes:
        bounds = node.op.bounds() if isinstance(node.op, Lookup) else None
        x, grid = node.inputs[0], tensors[node.output].quant
        if bounds is None or grid is None or tensors[x].quant or not index.sole_reader(x):
            nodes.append(node)
            continue
        low, high = real_range(grid)
        if low < bounds[0] or high > bounds[1]:
            nodes.append(node)
            continue
        tensors[x] = replace(tensors[x], quant=grid)
        alias[node.output] = x
    return rebuilt(graph, nodes, tensors, alias)


def _spread(graph: Graph) -> Graph:
    tensors = dict(graph.tensors)

    def give(name: str, grid: Quant | None) -> None:
        if grid is not None and tensors[name].quant is None and tensors[name].data is None:
            tensors[name] = replace(tensors[name], quant=grid)

    for node in reversed(graph.nodes):
        if isinstance(node.op, (*MOVES, Concat, Pad)):
            for name in node.inputs:
                give(name, tensors[node.output].quant)
    for node in graph.nodes:
        grids = {tensors[name].quant for name in node.inputs}
        if isinstance(node.op, (*MOVES, Concat)) or _pads_on_grid(node, grids):
            give(node.output, grids.pop() if len(grids) == 1 else None)
    return replace(graph, tensors=tensors)


def _pads_on_grid(node: Node, grids: set[Quant | None]) -> bool:
    if not isinstance(node.op, Pad):
        return False
    (grid,) = grids
    if grid is None:
        return False
    low, high = real_range(grid)
    steps = node.op.value / grid.scale
    return low <= node.op.value <= high and steps == round(steps)


def _requantized(graph: Graph) -> Graph:
    tensors = dict(graph.tensors)
    nodes: list[Node] = []
    for node in graph.nodes:
        before, after = tensors[node.inputs[0]].quant, tensors[node.output].quant
        if not isinstance(node.op, MOVES) or before == after or before is None or after is None:
            nodes.append(node)
            continue
        moved = f"{node.output}/moved"
        tensors[moved] = replace(tensors[node.output], name=moved, quant=before)
        nodes.append(replace(node, output=moved))
        nodes.append(Node(Lookup("identity"), (moved,), node.output, node.sources))
    return rebuilt(graph, nodes, tensors, {})


def _weights(graph: Graph) -> Graph:
    tensors = dict(graph.tensors)
    for node in graph.nodes:
        if isinstance(node.op, Conv2D | Dense):
            for name in node.inputs[1:]:
                tensors[name] = _per_channel(node, tensors[name])
    return replace(graph, tensors=tensors)


def _per_channel(node: Node, tensor: Tensor) -> Tensor:
    quant, data = tensor.quant, tensor.data
    if quant is None or data is None:
        return tensor
    channels = tensor.shape[0]
    if quant.axis not in (None, 0):
        why = f"{node.label!r}: the weights have scales along axis {quant.axis}, not per output"
        raise UnsupportedModel(why, node=node.label)
    repeat = channels if quant.axis is None else 1
    zeros = np.asarray(quant.zero_points * repeat, np.int64)
    centred = data.astype(np.int64) - zeros.reshape(-1, *(1,) * (data.ndim - 1))
    low, high = stored_range(quant)
    if centred.min() < low or centred.max() > high:
        why = f"{node.label!r}: weights minus their zero point do not fit 8 bits"
        raise UnsupportedModel(why, hint="quantize the weights symmetrically", node=node.label)
    grid = Quant(quant.scales * repeat, (0,) * channels, 0, quant.width)
    return replace(tensor, quant=grid, data=centred.astype(data.dtype))
