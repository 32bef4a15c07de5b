"""Activations on grids of 16 levels, one in a byte.

The outputs of layers that can limit their results anyway (convolutions, dense layers, sums and products)
take the values -128..-113: the lower end is int8's own, so that a kernel limits one end at most. What the
network's ports hold stays on 256 levels, and so do the results of all other operators, which follow the
grid of their input or have one of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from codegen.ir import Graph, Node, Quant, per_tensor
from codegen.ops.add import Add
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.ops.mul import Mul
from codegen.quant.clipping import Range
from codegen.quant.quantize import SAME_GRID

BITS = 4
STEPS = (1 << BITS) - 1
LEAST = -128
LIMITING = (Conv2D, Dense, Add, Mul)


def grid(values: Range) -> Quant:
    """Asymmetric grid of 16 levels over a range, 0 among them."""
    low, high = min(values.low, 0.0), max(values.high, 0.0)
    scale = (high - low) / STEPS or 1.0
    return per_tensor(scale, LEAST + int(np.clip(np.rint(-low / scale), 0, STEPS)))


def narrow(graph: Graph, found: Mapping[str, Range]) -> Graph:
    """The float graph with 16 levels for the outputs of its limiting layers, as clamps and grids.

    Args:
        graph: a float graph.
        found: calibrated ranges, for grids of 4 bits.
    """
    tensors, nodes = dict(graph.tensors), []
    ends = _ports(graph)
    for node in graph.nodes:
        tensor = graph.tensors[node.output]
        if isinstance(node.op, LIMITING) and node.output not in ends and tensor.quant is None:
            coarse = grid(found[node.output])
            tensors[node.output] = replace(tensor, quant=coarse)
            nodes.append(replace(node, op=_limited(node, coarse)))
        else:
            nodes.append(node)
    return replace(graph, tensors=tensors, nodes=tuple(nodes))


def _limited(node: Node, coarse: Quant) -> Conv2D | Dense | Add | Mul:
    """The operator, its results within the grid."""
    op = node.op
    assert isinstance(op, LIMITING)
    zero, scale = coarse.zero_points[0], coarse.scale
    low, high = (LEAST - zero) * scale, (LEAST + STEPS - zero) * scale
    if op.clamp is not None:
        low, high = max(low, op.clamp[0]), min(high, op.clamp[1])
    return replace(op, clamp=(low, high))


def _ports(graph: Graph) -> set[str]:
    """What the network's outputs hold: them, and tensors that only move on the way there."""
    ends = {port.tensor for port in graph.outputs}
    for node in reversed(graph.nodes):
        if node.output in ends and node.op.kind in SAME_GRID:
            ends |= set(node.inputs)
    return ends
