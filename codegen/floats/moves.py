"""Moving and picking reals in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from codegen.copies import Move, cut, joined, padded, transposed
from codegen.floats.rewrite import Lowering, Rewriter
from codegen.ir import Node
from codegen.ops.concat import Concat
from codegen.ops.pad import Pad
from codegen.ops.slice import Slice
from codegen.ops.transpose import Transpose

Shapes = tuple[tuple[int, ...], ...]


def _copied(make: Callable[[Node, Shapes], Move]) -> Lowering:
    def lower(node: Node, new: Rewriter) -> None:
        op = make(node, tuple(new.shape(name) for name in node.inputs))
        new.emit(op, node.inputs, node.output, node)

    return lower


def _concat(node: Node, shapes: Shapes) -> Move:
    assert isinstance(node.op, Concat)
    return joined(shapes, node.op.axis)


def _pad(node: Node, shapes: Shapes) -> Move:
    assert isinstance(node.op, Pad)
    return padded(shapes[0], node.op.pads, node.op.value)


def _slice(node: Node, shapes: Shapes) -> Move:
    op = node.op
    assert isinstance(op, Slice)
    parts = zip(op.begins, op.sizes, op.steps, strict=True)
    return cut(shapes[0], [range(b, b + n * step, step) for b, n, step in parts])


def _transpose(node: Node, shapes: Shapes) -> Move:
    assert isinstance(node.op, Transpose)
    return transposed(shapes[0], node.op.perm)


LOWERINGS: Mapping[str, Lowering] = {
    "concat": _copied(_concat),
    "pad": _copied(_pad),
    "slice": _copied(_slice),
    "transpose": _copied(_transpose),
}
