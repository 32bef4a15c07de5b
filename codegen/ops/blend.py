"""Weighted sums of neighbours along one axis: how Resize interpolates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from codegen.build import Converter, as_floats
from codegen.ir import Array, FloatArray
from codegen.kernel import Instance, Layer
from codegen.plain import operands, plain_kernel, reference

__all__ = ["KERNELS", "ONNX", "OP", "Blend", "reference"]


@dataclass(frozen=True, slots=True)
class Blend:
    """Element i along `axis` is the sum of operand 0 from index operand1[i] on, times operand2[i].

    Operands 1, (1, count), and 2, (1, count, taps), are constants; no window leaves the axis.
    """

    kind: ClassVar[str] = "blend"
    axis: int

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The shape of operand 0 with `count` elements along the axis."""
        shape, first, weights = shapes
        if not 1 <= self.axis < len(shape) or first != weights[:2]:
            raise ValueError(f"windows {list(weights)} along axis {self.axis} of {list(shape)}")
        if weights[2] > shape[self.axis]:
            raise ValueError(f"windows of {weights[2]} elements in {list(shape)}")
        return (*shape[: self.axis], first[1], *shape[self.axis + 1 :])

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The sums, from the first neighbour on, in float32."""
        x, weights = as_floats((inputs[0], inputs[2]))
        at = inputs[1][0].astype(np.int64)
        shape = (-1,) + (1,) * (x.ndim - 1 - self.axis)
        total: FloatArray = np.take(x, at, axis=self.axis) * weights[0, :, 0].reshape(shape)
        for tap in range(1, weights.shape[2]):
            total += np.take(x, at + tap, axis=self.axis) * weights[0, :, tap].reshape(shape)
        return total

    def result_type(self, types: tuple[str, ...]) -> str:
        """float32; ValueError for operands of other types."""
        if types[0] != "float32" or types[2] != "float32":
            raise ValueError(f"it interpolates numbers of type {types[0]}")
        return "float32"


OP = Blend
ONNX: Mapping[str, Converter] = {}


def _instance(layer: Layer) -> Instance:
    op, shape = layer.node.op, layer.inputs[0].shape
    assert isinstance(op, Blend)
    (x, first, weights), constants = operands(layer)
    _, count, taps = layer.inputs[2].shape
    return Instance(
        label="x".join(map(str, layer.output.shape[1:])),
        params={
            "x": x,
            "first": first,
            "weights": weights,
            "outer": prod(shape[: op.axis]),
            "length": shape[op.axis],
            "inner": prod(shape[op.axis + 1 :]),
            "count": count,
            "taps": taps,
        },
        constants=constants,
    )


def _cycles(layer: Layer) -> float:
    return layer.output.size * (40.0 + 100.0 * layer.inputs[2].shape[2])


KERNELS = (plain_kernel("blend", "ops/blend.c.j2", _instance, _cycles),)
