"""Moving and picking reals in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from codegen.copies import Move, cut, joined, padded, transposed
from codegen.floats.rewrite import Lowering, Rewriter
from codegen.indices import smallest_type
from codegen.ir import Node, Tensor
from codegen.ops.concat import Concat
from codegen.ops.gather import along
from codegen.ops.pad import Pad
from codegen.ops.resize import Resize
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


def _resize(node: Node, new: Rewriter) -> None:
    """Rows, then columns, by tables of their indices."""
    op, name = node.op, node.inputs[0]
    assert isinstance(op, Resize)
    for axis, numbers, made in (
        (0, op.rows, f"{node.output}.rows"),
        (1, op.columns, node.output),
    ):
        values = np.array([numbers])
        values = values.astype(smallest_type(values))
        table = f"{made}.places"
        new.tensors[table] = Tensor(table, values.shape, None, values, dtype=values.dtype.name)
        op_along = along(new.shape(name)[1:], axis, (len(numbers),))
        name = new.emit(op_along, (name, table), made, node)


LOWERINGS: Mapping[str, Lowering] = {
    "concat": _copied(_concat),
    "pad": _copied(_pad),
    "resize": _resize,
    "slice": _copied(_slice),
    "transpose": _copied(_transpose),
}
