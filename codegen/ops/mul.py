"""Elementwise product of two operands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.broadcast import broadcast_shape, same_rank
from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.ir import Array


@dataclass(frozen=True, slots=True)
class Mul:
    """x · y, broadcast, clamped if asked. A constant operand comes second."""

    kind: ClassVar[str] = "mul"
    clamp: tuple[float, float] | None = None

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The broadcast shape."""
        return broadcast_shape(shapes)

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The product."""
        x, y = as_floats(inputs)
        product = np.asarray(x * y, np.float32)
        return product if self.clamp is None else np.clip(product, *self.clamp)


def _mul(node: OnnxNode, b: Builder) -> None:
    x, y = same_rank(node, b, (b.read(node, 0), b.read(node, 1)))
    operands = (y, x) if b.is_constant(x) else (x, y)
    b.write(node, b.emit(Mul(), operands, node.sources))


def _div(node: OnnxNode, b: Builder) -> None:
    divisor = b.value(b.read(node, 1))
    if divisor is None or b.is_constant(b.read(node, 0)):
        raise node.unsupported("only division of an activation by a constant is supported")
    if not np.all(np.asarray(divisor, np.float32)):
        raise node.unsupported("the divisor holds a zero")
    inverse = b.constant(np.asarray(1.0 / divisor.astype(np.float64)), f"{node.label}.inverse")
    x, y = same_rank(node, b, (b.read(node, 0), inverse))
    b.write(node, b.emit(Mul(), (x, y), node.sources))


OP = Mul
ONNX: Mapping[str, Converter] = {"Div": _div, "Mul": _mul}
