"""Operators that copy elements to other places of a tensor, all known at compile time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.copies import Move, Shape, cut, expanded, joined, transposed
from codegen.limits import MAX_ACTIVATION
from codegen.loops import strides
from codegen.lowering.plain.shapes import axis_of, reshape
from codegen.ops.slice import wanted_spans
from codegen.ops.transpose import moves_only_units
from targets.errors import UnsupportedModel


def move(
    b: Builder, names: Sequence[str], make: Callable[[], Move], sources: tuple[str, ...]
) -> str:
    """A copy of plain tensors: of constants at compile time, and none where only the shape changes.

    Raises:
        UnsupportedModel: `make` raises ValueError, or the result is too large.
    """
    label = sources[0] if sources else "move"
    try:
        op = make()
        op.infer(tuple(b.shape(name) for name in names))
    except ValueError as error:
        raise UnsupportedModel(f"{label!r}: {error}", node=label) from error
    if prod(op.shape) > MAX_ACTIVATION:
        raise UnsupportedModel(f"{label!r}: the result is too large", node=label)
    if _keeps_order(op, b.tensors[names[0]].size):
        return reshape(b, names[op.parts[0].operand], op.shape[1:], sources)
    if all(b.is_constant(name) for name in names):
        data = op.evaluate(tuple(b.tensors[name].values for name in names))
        return b.plain_constant(data[0], f"{names[0]}.moved", b.dtype(names[0]))
    return b.emit(op, tuple(names), sources)


def _keeps_order(op: Move, size: int) -> bool:
    """Whether the result is the first operand, element by element."""
    if not op.is_full or len(op.parts) != 1 or op.parts[0].operand or size != prod(op.shape):
        return False
    steps = zip(op.parts[0].steps, strides(op.shape), op.shape, strict=True)
    return op.parts[0].start == 0 and all(have == want or n == 1 for have, want, n in steps)


def transpose(b: Builder, x: str, perm: Sequence[int], sources: tuple[str, ...]) -> str:
    """A plain tensor with its axes, the one for samples not counted, in another order."""
    shape = b.plain_shape(x)
    if sorted(perm) == list(range(len(shape))) and moves_only_units(shape, tuple(perm)):
        return reshape(b, x, tuple(shape[axis] for axis in perm), sources)
    order = (0, *(axis + 1 for axis in perm))
    return move(b, (x,), lambda: transposed(b.shape(x), order), sources)


def part(b: Builder, x: str, spans: Sequence[range], sources: tuple[str, ...]) -> str:
    """A plain tensor's elements at the indices of a range along every axis."""
    return move(b, (x,), lambda: cut(b.shape(x), (range(1), *spans)), sources)


def expand(b: Builder, x: str, shape: Shape, sources: tuple[str, ...]) -> str:
    """A plain tensor broadcast to a shape; axes of size 1 are put in front."""
    old = b.plain_shape(x)
    x = reshape(b, x, (1,) * (len(shape) - len(old)) + old, sources)
    return move(b, (x,), lambda: expanded(b.shape(x), (1, *shape)), sources)


def _transpose(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    perm = node.integers("perm") or tuple(reversed(range(len(b.plain_shape(x)))))
    b.write(node, transpose(b, x, perm, node.sources))


def _slice(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    b.write(node, part(b, x, wanted_spans(node, b, b.plain_shape(x)), node.sources))


def _split(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    shape = b.plain_shape(x)
    axis = axis_of(node, node.integer("axis", 0), len(shape))
    sizes = b.integers(node, "split", 1)
    if sizes is None:
        parts = node.integer("num_outputs", len(node.outputs))
        each = -(-shape[axis] // parts) if parts > 0 else 0
        sizes = (*(each,) * (parts - 1), shape[axis] - each * (parts - 1))
    if len(sizes) != len(node.outputs) or sum(sizes) != shape[axis]:
        raise node.unsupported(f"parts of {list(sizes)} do not make {shape[axis]}")
    begin = 0
    for output, size in zip(node.outputs, sizes, strict=True):
        spans = [range(n) for n in shape]
        spans[axis] = range(begin, begin + size)
        if output:
            b.set(output, part(b, x, spans, node.sources))
        begin += size


def _concat(node: OnnxNode, b: Builder) -> None:
    names = [b.plain(node, index) for index in range(len(node.inputs))]
    axis = axis_of(node, node.integer("axis", 1), len(b.plain_shape(names[0]))) + 1
    b.write(node, move(b, names, lambda: joined([b.shape(n) for n in names], axis), node.sources))


def _expand(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    wanted = b.integers(node, "shape", 1) or ()
    try:
        shape = np.broadcast_shapes(b.plain_shape(x), wanted)
    except ValueError as error:
        raise node.unsupported(f"{b.plain_shape(x)} does not expand to {wanted}") from error
    b.write(node, expand(b, x, shape, node.sources))


def _tile(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    shape = b.plain_shape(x)
    repeats = b.integers(node, "repeats", 1) or ()
    if node.opset < 6:
        axis = axis_of(node, (b.integers(node, "axis", 2) or (0,))[0], len(shape))
        repeats = tuple(repeats[0] if i == axis else 1 for i in range(len(shape)))
    if len(repeats) != len(shape) or min(repeats, default=1) < 1:
        raise node.unsupported(f"repeats {list(repeats)} do not suit {list(shape)}")
    for axis, count in enumerate(repeats):
        if count > 1:
            x = _repeated(b, x, axis, count, node.sources)
    b.write(node, x)


def _repeated(b: Builder, x: str, axis: int, count: int, sources: tuple[str, ...]) -> str:
    """`count` copies one behind the other along an axis."""
    shape = b.plain_shape(x)
    before, behind = prod(shape[:axis]), prod(shape[axis:])
    apart = reshape(b, x, (before, 1, behind), sources)
    copies = expand(b, apart, (before, count, behind), sources)
    whole = (*shape[:axis], count * shape[axis], *shape[axis + 1 :])
    return reshape(b, copies, whole, sources)


def _blocks(node: OnnxNode) -> int:
    size = node.integer("blocksize", 0)
    if size < 1:
        raise node.unsupported(f"blocks of size {size}")
    return size


def _image(node: OnnxNode, b: Builder) -> tuple[str, Shape]:
    x = b.plain(node, 0)
    if len(b.plain_shape(x)) != 4:
        raise node.unsupported("the operand has not four axes")
    return x, b.plain_shape(x)


_TO_SPACE = {"DCR": (0, 3, 4, 1, 5, 2), "CRD": (0, 1, 4, 2, 5, 3)}
_TO_DEPTH = {"DCR": (0, 3, 5, 1, 2, 4), "CRD": (0, 1, 3, 5, 2, 4)}


def _order(node: OnnxNode, orders: Mapping[str, Shape]) -> Shape:
    mode = node.text("mode", "DCR")
    if mode not in orders:
        raise node.unsupported(f"mode {mode} is not supported")
    return orders[mode]


def _depth_to_space(node: OnnxNode, b: Builder) -> None:
    x, (n, c, h, w) = _image(node, b)
    size, order = _blocks(node), _order(node, _TO_SPACE)
    rest = c // size**2
    blocks = (n, size, size, rest, h, w) if order[1] == 3 else (n, rest, size, size, h, w)
    moved = transpose(b, reshape(b, x, blocks), order, node.sources)
    b.write(node, reshape(b, moved, (n, rest, h * size, w * size)))


def _space_to_depth(node: OnnxNode, b: Builder) -> None:
    x, (n, c, h, w) = _image(node, b)
    size, order = _blocks(node), _order(node, _TO_DEPTH)
    blocks = (n, c, h // size, size, w // size, size)
    moved = transpose(b, reshape(b, x, blocks), order, node.sources)
    b.write(node, reshape(b, moved, (n, c * size**2, h // size, w // size)))


ONNX: Mapping[str, Converter] = {
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Tile": _tile,
    "Transpose": _transpose,
}
