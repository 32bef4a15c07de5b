"""Reading places in a tensor from a tensor of indices: what gathering and scattering share.

As ONNX says, an index from -size to -1 counts from the end. One beyond that is taken for the nearest that
exists, in NumPy and in C: no index reads or writes outside of a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from codegen.ir import Array, IntArray

Shape = tuple[int, ...]
INTEGERS = frozenset(
    {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"}
    | {"int2", "int4", "uint2", "uint4"}
)
WIDE: Mapping[str, str] = {"i64": "int64_t", "u32": "int64_t", "f32": "float"}
"""What holds numbers of a type in calculations with indices; int32_t the others."""


def walked(extents: Shape, steps: Sequence[int]) -> IntArray:
    """The element that each index of a box stands at: sum of index times step, (1, *extents[1:])."""
    total = np.zeros((1,) * len(extents), np.int64)
    for axis, step in enumerate(steps):
        shape = tuple(-1 if a == axis else 1 for a in range(len(extents)))
        total = total + (np.arange(extents[axis], dtype=np.int64) * step).reshape(shape)
    return np.broadcast_to(total, (1, *extents[1:]))


class Index(NamedTuple):
    """How a place follows from a tuple of consecutive indices.

    Attributes:
        places: elements of the indices' tensor from one index of a loop's axis to the next.
        sizes: of the axes that a tuple's indices run along.
        steps: elements of the tensor that is read or written from one index to the next.
    """

    places: Shape
    sizes: Shape
    steps: Shape

    def check(self, indices: Shape, extents: Shape) -> None:
        """ValueError if loops over `extents` leave the tensor of indices."""
        ends = sum((n - 1) * step for n, step in zip(extents, self.places, strict=True))
        if ends + len(self.sizes) > prod(indices) or len(self.sizes) != len(self.steps):
            raise ValueError(f"indices of shape {list(indices)} do not suit {list(extents)}")

    def furthest(self) -> int:
        """The last element that indices alone lead to."""
        return sum((n - 1) * step for n, step in zip(self.sizes, self.steps, strict=True))

    def offsets(self, indices: Array, extents: Shape) -> IntArray:
        """The element that every tuple stands for, (samples, *extents[1:])."""
        flat = indices.reshape(len(indices), -1).astype(np.int64)
        at = walked(extents, self.places)[0]
        total = np.zeros((len(flat), *extents[1:]), np.int64)
        for number, (size, step) in enumerate(zip(self.sizes, self.steps, strict=True)):
            raw = flat[:, at + number]
            total += np.clip(np.where(raw < 0, raw + size, raw), 0, size - 1) * step
        return total

    def rows(self) -> list[dict[str, int]]:
        """Size and step of every index of a tuple, for templates."""
        return [{"size": n, "step": step} for n, step in zip(self.sizes, self.steps, strict=True)]


def check_type(dtype: str) -> None:
    """ValueError for indices that are no integers."""
    if dtype not in INTEGERS:
        raise ValueError(f"indices of type {dtype}")


def smallest_type(numbers: IntArray) -> str:
    """The type that takes the least flash for numbers from 0 on."""
    most = int(numbers.max())
    return np.min_scalar_type(most).name if most < 1 << 16 else "int32"
