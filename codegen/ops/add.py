"""Addition and subtraction of two operands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.broadcast import broadcast_shape, same_rank
from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.ir import Array


@dataclass(frozen=True, slots=True)
class Add:
    """signs[0] · x + signs[1] · y, broadcast, clamped if asked. A constant operand comes second."""

    kind: ClassVar[str] = "add"
    signs: tuple[int, int] = (1, 1)
    clamp: tuple[float, float] | None = None

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The broadcast shape."""
        return broadcast_shape(shapes)

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The signed sum."""
        x, y = as_floats(inputs)
        total = np.asarray(self.signs[0] * x + self.signs[1] * y, np.float32)
        return total if self.clamp is None else np.clip(total, *self.clamp)


def _add(node: OnnxNode, b: Builder, signs: tuple[int, int] = (1, 1)) -> None:
    b.write(node, _pair(node, b, (b.read(node, 0), b.read(node, 1)), signs))


def _sub(node: OnnxNode, b: Builder) -> None:
    _add(node, b, (1, -1))


def _sum(node: OnnxNode, b: Builder) -> None:
    total = b.read(node, 0)
    for index in range(1, len(node.inputs)):
        total = _pair(node, b, (total, b.read(node, index)), (1, 1))
    b.write(node, total)


def _pair(node: OnnxNode, b: Builder, names: tuple[str, str], signs: tuple[int, int]) -> str:
    x, y = same_rank(node, b, names)
    if b.is_constant(x):
        x, y, signs = y, x, (signs[1], signs[0])
    return b.emit(Add(signs), (x, y), node.sources)


OP = Add
ONNX: Mapping[str, Converter] = {"Add": _add, "Sub": _sub, "Sum": _sum}
