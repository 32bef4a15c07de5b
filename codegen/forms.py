"""Operators that the importer inserts by itself: a new shape, or another form of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from codegen.ir import Array

Shape = tuple[int, ...]


def _checked(shapes: tuple[Shape, ...], wanted: Shape) -> Shape:
    if prod(shapes[0]) != prod(wanted):
        raise ValueError(f"{list(shapes[0])} does not fill {list(wanted)}")
    return wanted


def _sample_by_sample(x: Array, shape: Shape) -> Array:
    return x.reshape((x.shape[0], *shape[1:]))


@dataclass(frozen=True, slots=True)
class Reshape:
    """`shape` is the whole new shape, batch included."""

    kind: ClassVar[str] = "reshape"
    shape: Shape

    def infer(self, shapes: tuple[Shape, ...]) -> Shape:
        """The new shape."""
        return _checked(shapes, self.shape)

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The operand under the new shape, sample by sample."""
        return _sample_by_sample(inputs[0], self.shape)


@dataclass(frozen=True, slots=True)
class ToFloat:
    """Reals that are to be quantized become plain float32 numbers, under a new shape."""

    kind: ClassVar[str] = "to_float"
    shape: Shape

    def infer(self, shapes: tuple[Shape, ...]) -> Shape:
        """The new shape."""
        return _checked(shapes, self.shape)

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The operand under the new shape, sample by sample."""
        return _sample_by_sample(np.asarray(inputs[0], np.float32), self.shape)

    def result_type(self, types: tuple[str, ...]) -> str:
        """float32."""
        return "float32"


@dataclass(frozen=True, slots=True)
class ToGrid:
    """Plain float32 numbers become reals that are to be quantized, under a new shape."""

    kind: ClassVar[str] = "to_grid"
    shape: Shape

    def infer(self, shapes: tuple[Shape, ...]) -> Shape:
        """The new shape."""
        return _checked(shapes, self.shape)

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The operand under the new shape, sample by sample."""
        return _sample_by_sample(inputs[0], self.shape)
