"""Cross-layer equalization: channels between two layers get ranges alike, the network stays the same.

Nagel et al., "Data-free quantization", ICCV 2019. Relu is positively homogeneous: a channel's weights and
bias divided by s > 0, and what reads it multiplied by s, leave all outputs as they were.
With s = sqrt(r1 / r2), r1 and r2 the largest weights that write and read the channel, both
become sqrt(r1 * r2). Meant for one scale per layer; with one per channel there is little left to gain.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np

from codegen.ir import FloatArray, Graph, Node, Tensor
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.quant.floats import Floats

ROUNDS = 40  # over all pairs, at most
ENOUGH = 1e-3  # relative change of scales that ends the rounds
BETWEEN = frozenset({"max_pool", "average_pool"})  # of a scaled channel the scaled result


def equalize(graph: Graph) -> Graph:
    """The graph with equalized weights; layers that share constants, or whose results others read, stay.

    1. Pairs: Conv or Gemm, without a clamp or with Relu's, then Conv or Gemm that alone reads it, pools
       between or not; the channels of the first must be those of the second.
    2. All pairs in turn, until nothing moves.
    """
    pairs = _pairs(graph)
    for _ in range(ROUNDS):
        moved = 0.0
        for first, second in pairs:
            changed, factors = _balanced(graph, first, second)
            graph = graph.with_tensors(*changed)
            moved = max(moved, float(np.abs(np.log(factors)).max()))
        if moved < ENOUGH:
            break
    return graph


def _pairs(graph: Graph) -> list[tuple[Node, Node]]:
    found = []
    for node in graph.nodes:
        reader = _reader(graph, node)
        if reader is not None and _owns(graph, node) and _owns(graph, reader):
            found.append((node, reader))
    return found


def _reader(graph: Graph, node: Node) -> Node | None:
    """The layer that alone reads a layer's channels, if there is one and scales pass through."""
    if not isinstance(node.op, Conv2D | Dense) or node.op.clamp not in (None, (0.0, inf)):
        return None
    name = node.output
    while True:
        readers = graph.consumers(name)
        if len(readers) != 1 or graph.is_output(name):
            return None
        (reader,) = readers
        if isinstance(reader.op, Conv2D | Dense):
            channels = graph.tensors[node.output].shape[-1]
            return reader if graph.tensors[reader.inputs[0]].shape[-1] == channels else None
        if reader.op.kind not in BETWEEN:
            return None
        name = reader.output


def _owns(graph: Graph, node: Node) -> bool:
    """Whether a layer's constants are real numbers that nobody else reads."""
    constants = [graph.tensors[name] for name in node.inputs[1:]]
    return all(t.quant is None and len(graph.consumers(t.name)) == 1 for t in constants)


def _balanced(graph: Graph, first: Node, second: Node) -> tuple[tuple[Tensor, ...], Floats]:
    """Both layers' constants with the channels between them scaled, and the factors."""
    w1, b1 = (graph.tensors[name] for name in first.inputs[1:])
    w2 = graph.tensors[second.inputs[1]]
    written = np.abs(_real(w1)).reshape(len(_real(w1)), -1).max(axis=1)
    read = np.abs(_by_input(second, _real(w2), len(written))).max(axis=(0, 2))
    usable = (written > 0) & (read > 0)
    factors = np.sqrt(np.where(usable, written, 1.0) / np.where(usable, read, 1.0))
    rows = factors.reshape(-1, *(1,) * (len(w1.shape) - 1))
    scaled = _by_input(second, _real(w2), len(written)) * factors[:, None]
    return (
        replace(w1, data=_float32(_real(w1) / rows)),
        replace(b1, data=_float32(_real(b1) / factors)),
        replace(w2, data=_float32(_from_input(second, scaled, w2.shape))),
    ), factors


def _by_input(node: Node, w: Floats, channels: int) -> Floats:
    """A layer's weights as (others, input channels, others)."""
    groups = node.op.groups if isinstance(node.op, Conv2D) else 1
    outer, inner = len(w) // groups, channels // groups
    # (groups, outer, taps, inner) -> (outer, groups * inner, taps)
    split = w.reshape(groups, outer, -1, inner).transpose(1, 0, 3, 2)
    return split.reshape(outer, channels, -1)


def _from_input(node: Node, w: Floats, shape: tuple[int, ...]) -> Floats:
    """What `_by_input` took apart."""
    groups = node.op.groups if isinstance(node.op, Conv2D) else 1
    outer, channels, taps = w.shape
    split = w.reshape(outer, groups, channels // groups, taps).transpose(1, 0, 3, 2)
    return split.reshape(shape)


def _real(tensor: Tensor) -> Floats:
    return tensor.values.astype(np.float64)


def _float32(values: Floats) -> FloatArray:
    return values.astype(np.float32)
