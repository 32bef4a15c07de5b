"""Sums of all elements up to each, along an axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from codegen.build import Converter
from codegen.ir import Array
from codegen.kernel import Instance, Layer
from codegen.loops import loops, strides
from codegen.plain import operands, plain_kernel, reference
from codegen.scalar import FUNCTIONS

__all__ = ["KERNELS", "ONNX", "OP", "Cumulative", "reference"]


@dataclass(frozen=True, slots=True)
class Cumulative:
    """Sums along `axis` from the first element on, or from the last (`reverse`).

    `exclusive` leaves out the element itself.
    """

    kind: ClassVar[str] = "cumulative"
    axis: int
    exclusive: bool = False
    reverse: bool = False

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The operand's shape."""
        if not 0 < self.axis < len(shapes[0]):
            raise ValueError(f"axis {self.axis} of shape {list(shapes[0])}")
        return shapes[0]

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The sums, one addition after the other."""
        x = np.moveaxis(inputs[0], self.axis, 0)
        y, total = np.empty_like(x), np.zeros_like(x[0])
        for index in range(len(x))[:: -1 if self.reverse else 1]:
            after = total + x[index]
            y[index] = total if self.exclusive else after
            total = after
        return np.asarray(np.moveaxis(y, 0, self.axis))

    def result_type(self, types: tuple[str, ...]) -> str:
        """The type of the elements."""
        return FUNCTIONS["add"].result_type(types * 2)


OP = Cumulative
ONNX: Mapping[str, Converter] = {}


def _instance(layer: Layer) -> Instance:
    op, x = layer.node.op, layer.inputs[0]
    assert isinstance(op, Cumulative) and x.dtype is not None
    (operand,), constants = operands(layer)
    walked = {"x": strides(x.shape)}
    kept = tuple(1 if axis == op.axis else size for axis, size in enumerate(x.shape))
    size = x.shape[op.axis]
    return Instance(
        label=f"{'x'.join(map(str, x.shape[1:]))}_{op.axis}",
        params={
            "operand": operand,
            "loops": loops(kept, walked),
            "size": size,
            "position": f"({size - 1} - index)" if op.reverse else "index",
            "step": walked["x"][op.axis],
            "exclusive": op.exclusive,
            "sum": FUNCTIONS["add"].expression(x.dtype, ()),
        },
        constants=constants,
    )


KERNELS = (
    plain_kernel(
        "cumulative",
        "ops/cumulative.c.j2",
        _instance,
        lambda layer: 60.0 * prod(layer.inputs[0].shape),
    ),
)
