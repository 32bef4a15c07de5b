"""Explicit padding becomes the padding of the operator behind it."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from codegen.ir import Graph, Node, Op
from codegen.ops.average_pool import AveragePool
from codegen.ops.conv2d import Conv2D
from codegen.ops.max_pool import MaxPool
from codegen.ops.pad import Pad
from codegen.rewrite import merged_sources, rebuilt, uses


def fuse_pad(graph: Graph) -> Graph:
    """A Pad of rows and columns becomes the pads of

    1. Conv2D, if it pads zeros;
    2. AveragePool, if it pads zeros and the pool counts its padding or has none;
    3. MaxPool, if it pads minus infinity.

    A Pad that others read too stays for them.
    """
    producers = uses(graph).producers
    nodes = []
    for node in graph.nodes:
        before = producers.get(node.inputs[0])
        op = _fused(before.op, node.op) if before and isinstance(before.op, Pad) else None
        if before is None or op is None:
            nodes.append(node)
            continue
        inputs = (before.inputs[0], *node.inputs[1:])
        nodes.append(Node(op, inputs, node.output, merged_sources(before, node)))
    return rebuilt(graph, nodes, graph.tensors, {})


def _fused(pad: Pad, op: Op) -> Op | None:
    if len(pad.pads) != 4 or any(pad.pads[0]) or any(pad.pads[3]):
        return None
    (top, bottom), (left, right) = pad.pads[1:3]
    added = (top, left, bottom, right)
    if isinstance(op, Conv2D) and pad.value == 0:
        return replace(op, pads=_sum(op.pads, added))
    if not isinstance(op, MaxPool | AveragePool):
        return None
    pads = _sum(op.pads, added)
    too_wide = any(size >= op.kernel[axis % 2] for axis, size in enumerate(pads))
    if isinstance(op, MaxPool):
        return replace(op, pads=pads) if pad.value == -inf and not too_wide else None
    if pad.value == 0 and not too_wide and (op.count_include_pad or not any(op.pads)):
        return replace(op, pads=pads, count_include_pad=True)
    return None


def _sum(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, int, int, int]:
    top, left, bottom, right = (x + y for x, y in zip(a, b, strict=True))
    return top, left, bottom, right
