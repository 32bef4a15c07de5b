"""Copies of boxes of elements between tensors: transposing, slicing, joining, padding, repeating.

All shapes are whole, axis 0 included: it is the axis for samples, of size 1, and no copy moves along it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import ClassVar, NamedTuple

import numpy as np

from codegen.ir import Array
from codegen.loops import broadcast_strides, strides

Shape = tuple[int, ...]


class Part(NamedTuple):
    """A box of the result, and where its elements lie in an operand.

    Attributes:
        operand: which one.
        begin: the box's first index in the result, for every axis.
        extents: its size along every axis.
        start: the first element in the operand, counted from the sample's start.
        steps: elements of the operand from one index of an axis to the next; may be 0 or negative.
    """

    operand: int
    begin: Shape
    extents: Shape
    start: int
    steps: Shape

    def reach(self) -> tuple[int, int]:
        """The first and the last element that the box takes from its operand."""
        ends = [(size - 1) * step for size, step in zip(self.extents, self.steps, strict=True)]
        low = self.start + sum(end for end in ends if end < 0)
        return low, self.start + sum(end for end in ends if end > 0)


@dataclass(frozen=True, slots=True)
class Move:
    """A result of `shape` made of boxes that do not overlap; `fill` stands where there is none."""

    kind: ClassVar[str] = "move"
    shape: Shape
    parts: tuple[Part, ...]
    fill: float = 0

    def __post_init__(self) -> None:
        """Names the fields of parts that come from a file (codegen/graph_file.py) as mere tuples."""
        object.__setattr__(self, "parts", tuple(Part(*part) for part in self.parts))

    @property
    def is_full(self) -> bool:
        """Whether the boxes leave no element out."""
        return sum(prod(part.extents) for part in self.parts) == prod(self.shape)

    def infer(self, shapes: tuple[Shape, ...]) -> Shape:
        """The shape; ValueError where a box leaves its operand or the result."""
        for part in self.parts:
            low, high = part.reach()
            ends = [b + n for b, n in zip(part.begin, part.extents, strict=True)]
            inside = all(end <= size for end, size in zip(ends, self.shape, strict=True))
            if low < 0 or high >= prod(shapes[part.operand]) or not inside or min(part.begin) < 0:
                raise ValueError(f"{part} leaves {list(shapes[part.operand])} or {self.shape}")
        return self.shape

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The copies, sample by sample."""
        samples = max(len(x) for x in inputs)
        result = np.full((samples, *self.shape[1:]), self.fill, inputs[0].dtype)
        for part in self.parts:
            x = inputs[part.operand]
            flat = np.ascontiguousarray(x).reshape(len(x), -1)
            steps = (flat.strides[0], *(step * flat.itemsize for step in part.steps[1:]))
            seen = np.lib.stride_tricks.as_strided(
                flat[:, part.start :], (len(x), *part.extents[1:]), steps, writeable=False
            )
            box = [slice(b, b + n) for b, n in zip(part.begin, part.extents, strict=True)]
            result[(slice(None), *box[1:])] = seen
        return result

    def result_type(self, types: tuple[str, ...]) -> str:
        """That of the operands."""
        if len(set(types)) > 1:
            raise ValueError(f"operands of types {', '.join(types)}")
        return types[0]


def whole(shape: Shape, steps: Sequence[int], start: int = 0) -> Move:
    """A result that one operand fills, read with these steps."""
    return Move(shape, (Part(0, (0,) * len(shape), shape, start, tuple(steps)),))


def transposed(shape: Shape, perm: Sequence[int]) -> Move:
    """Axis i of the result is axis perm[i] of the operand. ValueError unless axis 0 stays."""
    if sorted(perm) != list(range(len(shape))) or perm[0] != 0:
        raise ValueError(f"{list(perm)} is no order of {len(shape)} axes")
    steps = strides(shape)
    return whole(tuple(shape[axis] for axis in perm), [steps[axis] for axis in perm])


def cut(shape: Shape, spans: Sequence[range]) -> Move:
    """Along every axis the indices of a range; its step may be negative. ValueError if one is empty."""
    if not all(spans):
        raise ValueError("the part is empty")
    steps = strides(shape)
    start = sum(span.start * step for span, step in zip(spans, steps, strict=True))
    walked = [span.step * step for span, step in zip(spans, steps, strict=True)]
    return whole(tuple(len(span) for span in spans), walked, start)


def joined(shapes: Sequence[Shape], axis: int) -> Move:
    """The operands one behind the other along an axis. ValueError unless their other axes are equal."""
    frames = {(shape[:axis], shape[axis + 1 :]) for shape in shapes}
    if not 1 <= axis < len(shapes[0]) or len(frames) != 1:
        raise ValueError(f"shapes {[list(s) for s in shapes]} do not join along axis {axis}")
    begins = (0, *accumulate(shape[axis] for shape in shapes))
    parts = tuple(
        Part(i, tuple(begin if a == axis else 0 for a in range(len(shape))), shape, 0, steps)
        for i, (shape, begin) in enumerate(zip(shapes, begins, strict=False))
        for steps in (strides(shape),)
    )
    return Move((*shapes[0][:axis], begins[-1], *shapes[0][axis + 1 :]), parts)


def padded(shape: Shape, pads: Sequence[tuple[int, int]], fill: float) -> Move:
    """A border of one number, (before, behind) for every axis; negative ones cut away."""
    result = tuple(size + sum(pair) for size, pair in zip(shape, pads, strict=True))
    begin = tuple(max(before, 0) for before, _ in pads)
    extents = tuple(
        size + min(before, 0) + min(behind, 0)
        for size, (before, behind) in zip(shape, pads, strict=True)
    )
    steps = strides(shape)
    start = sum(max(-before, 0) * step for (before, _), step in zip(pads, steps, strict=True))
    if min(extents) < 1 or min(result) < 1:
        raise ValueError(f"pads {[list(pair) for pair in pads]} leave nothing of {list(shape)}")
    return Move(result, (Part(0, begin, extents, start, steps),), fill)


def bordered(shape: Shape, pads: Sequence[tuple[int, int]]) -> Move:
    """As `padded`, but the border repeats the only element of operand 1."""
    inner = padded(shape, pads, 0)
    result, begins = inner.shape, inner.parts[0].begin
    ends = tuple(b + n for b, n in zip(begins, inner.parts[0].extents, strict=True))
    parts = list(inner.parts)
    for axis, size in enumerate(result):  # full behind this axis, as large as the box before it
        for low, high in ((0, begins[axis]), (ends[axis], size)):
            begin = (*begins[:axis], low, *(0,) * (len(result) - axis - 1))
            end = (*ends[:axis], high, *result[axis + 1 :])
            if high > low:
                extents = tuple(e - b for b, e in zip(begin, end, strict=True))
                parts.append(Part(1, begin, extents, 0, (0,) * len(result)))
    return Move(result, tuple(parts))


def expanded(shape: Shape, to: Shape) -> Move:
    """The operand repeated along its axes of size 1. Both shapes have equally many axes."""
    if np.broadcast_shapes(shape, to) != to:
        raise ValueError(f"{list(shape)} does not expand to {list(to)}")
    return whole(to, broadcast_strides(shape, to))
