"""Operators that read places from a tensor of indices, known or not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.indices import Index, smallest_type
from codegen.ir import IntArray
from codegen.limits import MAX_ACTIVATION
from codegen.loops import strides
from codegen.lowering.plain.copies import part
from codegen.lowering.plain.shapes import axis_of, reshape
from codegen.ops.gather import Gather, along
from codegen.ops.one_hot import OneHot
from codegen.ops.scatter import REDUCTIONS, Scatter
from codegen.ops.top_k import TopK
from codegen.ops.triangle import Triangle


def pick(b: Builder, x: str, axis: int, numbers: IntArray, sources: tuple[str, ...]) -> str:
    """A plain tensor's elements at known indices along an axis, in any order and any number."""
    shape = b.plain_shape(x)
    span = _span(numbers)
    if span is not None:
        spans = [span if i == axis else range(n) for i, n in enumerate(shape)]
        return part(b, x, spans, sources)
    table = b.plain_constant(numbers.astype(smallest_type(numbers)), f"{x}.places")
    return b.emit(along(shape, axis, (len(numbers),)), (x, table), sources)


def _span(numbers: IntArray) -> range | None:
    """Numbers that follow each other in even steps, as a range."""
    first, step = int(numbers[0]), int(numbers[1] - numbers[0]) if len(numbers) > 1 else 1
    if step == 0 or not np.array_equal(numbers, first + step * np.arange(len(numbers))):
        return None
    return range(first, first + step * len(numbers), step)


def known(node: OnnxNode, b: Builder, index: int, size: int) -> IntArray | None:
    """Constant indices of an axis of `size`, counted from the front; None where they are computed."""
    name = b.get(node.inputs[index])
    if not b.is_constant(name):
        return None
    numbers = b.static(node, index)
    assert numbers is not None
    found = numbers.astype(np.int64)
    if found.size and (found.min() < -size or found.max() >= size):
        raise node.unsupported(f"an index is beyond the {size} elements of its axis")
    return np.asarray(found % size)


def _gather(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    shape = b.plain_shape(x)
    axis = axis_of(node, node.integer("axis", 0), len(shape))
    numbers = known(node, b, 1, shape[axis])
    if numbers is None:
        indices = b.plain(node, 1)
        op = along(shape, axis, b.plain_shape(indices))
        b.write(node, b.emit(op, (x, indices), node.sources))
        return
    if not numbers.size:
        raise node.unsupported("there are no indices")
    picked = pick(b, x, axis, numbers.reshape(-1), node.sources)
    whole = (*shape[:axis], *numbers.shape, *shape[axis + 1 :])
    b.write(node, reshape(b, picked, whole, node.sources))


def elements(b: Builder, x: str, indices: str, axis: int, sources: tuple[str, ...]) -> str:
    """GatherElements: every index picks one element along an axis."""
    shape, wanted = b.shape(x), b.shape(indices)
    steps = strides(shape)
    walks = tuple(0 if i == axis + 1 else step for i, step in enumerate(steps))
    index = Index(strides(wanted), (shape[axis + 1],), (steps[axis + 1],))
    return b.emit(Gather(wanted, walks, index), (x, indices), sources)


def _gather_elements(node: OnnxNode, b: Builder) -> None:
    x, indices = b.plain(node, 0), b.plain(node, 1)
    axis = _same_rank(node, b, x, indices)
    b.write(node, elements(b, x, indices, axis, node.sources))


def _same_rank(node: OnnxNode, b: Builder, x: str, indices: str) -> int:
    """The axis that indices run along; the other axes must be no longer than the tensor's."""
    shape, wanted = b.plain_shape(x), b.plain_shape(indices)
    if len(shape) != len(wanted):
        raise node.unsupported(f"indices {list(wanted)} for {list(shape)}")
    axis = axis_of(node, node.integer("axis", 0), len(shape))
    if any(n > size for i, (n, size) in enumerate(zip(wanted, shape, strict=True)) if i != axis):
        raise node.unsupported(f"indices {list(wanted)} leave {list(shape)}")
    return axis


def _tuples(node: OnnxNode, shape: tuple[int, ...], indices: tuple[int, ...], batch: int) -> int:
    """How many axes a tuple of indices names, after so many that both tensors share."""
    length = indices[-1] if indices else 0
    if not 0 <= batch < len(indices) or shape[:batch] != indices[:batch]:
        raise node.unsupported(f"indices {list(indices)} do not share {batch} axes with {shape}")
    if not 1 <= length <= len(shape) - batch:
        raise node.unsupported(f"tuples of {length} indices for {list(shape)}")
    return length


def _gather_nd(node: OnnxNode, b: Builder) -> None:
    x, indices = b.plain(node, 0), b.plain(node, 1)
    shape, wanted = b.plain_shape(x), b.plain_shape(indices)
    batch = node.integer("batch_dims", 0)
    end = batch + _tuples(node, shape, wanted, batch)
    steps, rows = strides(shape), wanted[batch:-1]
    whole = (1, *wanted[:-1], *shape[end:])
    walks = (0, *steps[:batch], *(0,) * len(rows), *steps[end:])
    places = (0, *strides(wanted)[:-1], *(0,) * len(shape[end:]))
    op = Gather(whole, walks, Index(places, shape[batch:end], steps[batch:end]))
    b.write(node, b.emit(op, (x, indices), node.sources))


def _reduction(node: OnnxNode) -> str:
    name = node.text("reduction", "none")
    if name not in REDUCTIONS:
        raise node.unsupported(f"reduction {name} is not supported")
    return name


def _scatter_elements(node: OnnxNode, b: Builder) -> None:
    names = tuple(b.plain(node, index) for index in range(3))
    axis = _same_rank(node, b, names[0], names[1]) + 1
    if b.shape(names[1]) != b.shape(names[2]):
        raise node.unsupported("indices and updates differ in shape")
    steps = strides(b.shape(names[0]))
    walks = tuple(0 if i == axis else step for i, step in enumerate(steps))
    index = Index(strides(b.shape(names[1])), (b.shape(names[0])[axis],), (steps[axis],))
    b.write(node, b.emit(Scatter(walks, index, _reduction(node)), names, node.sources))


def _scatter_nd(node: OnnxNode, b: Builder) -> None:
    names = tuple(b.plain(node, index) for index in range(3))
    shape, wanted, updates = (b.plain_shape(name) for name in names)
    end = _tuples(node, shape, wanted, 0)
    if updates != (*wanted[:-1], *shape[end:]):
        raise node.unsupported(f"updates {list(updates)} do not suit {list(shape)}")
    steps = strides(shape)
    walks = (0, *(0,) * (len(wanted) - 1), *steps[end:])
    places = (0, *strides(wanted)[:-1], *(0,) * len(shape[end:]))
    op = Scatter(walks, Index(places, shape[:end], steps[:end]), _reduction(node))
    b.write(node, b.emit(op, names, node.sources))


def _top_k(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    shape = b.plain_shape(x)
    axis = axis_of(node, node.integer("axis", -1), len(shape))
    count = b.static(node, 1) if len(node.inputs) > 1 else np.array(node.integer("k", 0))
    if count is None or count.size != 1:
        raise node.unsupported("the number of elements is missing")
    op = TopK(axis + 1, int(count.reshape(-1)[0]), node.integer("largest", 1) != 0)
    indices = b.emit(op, (x,), node.sources)
    if node.outputs[0]:
        b.set(node.outputs[0], elements(b, x, indices, axis, node.sources))
    if len(node.outputs) > 1 and node.outputs[1]:
        b.set(node.outputs[1], indices)


def _one_hot(node: OnnxNode, b: Builder) -> None:
    indices, depth, values = b.plain(node, 0), b.static(node, 1), b.plain(node, 2)
    if depth is None or depth.size != 1:
        raise node.unsupported("the depth is missing")
    size = float(depth.reshape(-1)[0])
    if not 1 <= size <= MAX_ACTIVATION:
        raise node.unsupported(f"a depth of {size}")
    axis = axis_of(node, node.integer("axis", -1), len(b.plain_shape(indices)) + 1)
    b.write(node, b.emit(OneHot(axis + 1, int(size)), (indices, values), node.sources))


def _trilu(node: OnnxNode, b: Builder) -> None:
    x, given = b.plain(node, 0), b.static(node, 1)
    far = max(b.shape(x))
    diagonal = 0 if given is None or not given.size else int(given.reshape(-1)[0])
    op = Triangle(min(max(diagonal, -far), far), node.integer("upper", 1) != 0)
    b.write(node, b.emit(op, (x,), node.sources))


ONNX: Mapping[str, Converter] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "OneHot": _one_hot,
    "ScatterND": _scatter_nd,
    "TopK": _top_k,
    "Trilu": _trilu,
}
