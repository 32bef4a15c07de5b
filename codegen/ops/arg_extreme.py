"""Where along an axis the greatest or least element lies."""

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

__all__ = ["KERNELS", "ONNX", "OP", "ArgExtreme", "reference"]


@dataclass(frozen=True, slots=True)
class ArgExtreme:
    """The index of the greatest (least) element along `axis`, which stays with size 1; NaN is beyond all.

    `last` takes the last of equal ones, else the first is taken.
    """

    kind: ClassVar[str] = "arg_extreme"
    axis: int
    least: bool = False
    last: bool = False

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The shape with an axis of size 1."""
        (shape,) = shapes
        if not 0 < self.axis < len(shape):
            raise ValueError(f"axis {self.axis} of shape {list(shape)}")
        return (*shape[: self.axis], 1, *shape[self.axis + 1 :])

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The indices, int64."""
        (x,) = inputs
        search = np.argmin if self.least else np.argmax
        if not self.last:
            return np.asarray(search(x, self.axis, keepdims=True), np.int64)
        backwards = search(np.flip(x, self.axis), self.axis, keepdims=True)
        return np.asarray(x.shape[self.axis] - 1 - backwards, np.int64)

    def result_type(self, types: tuple[str, ...]) -> str:
        """int64."""
        return "int64"


OP = ArgExtreme
ONNX: Mapping[str, Converter] = {}


def _instance(layer: Layer) -> Instance:
    op, x = layer.node.op, layer.inputs[0]
    assert isinstance(op, ArgExtreme)
    (operand,), constants = operands(layer)
    walked = {"x": strides(x.shape)}
    comparison = ("<" if op.least else ">") + ("=" if op.last else "")
    floats = " || item != item" if op.last else " || (item != item && most == most)"
    return Instance(
        label=f"{'x'.join(map(str, x.shape[1:]))}_{op.axis}",
        params={
            "operand": operand,
            "loops": loops(layer.output.shape, walked),
            "size": x.shape[op.axis],
            "step": walked["x"][op.axis],
            "condition": f"item {comparison} most" + (floats if x.dtype == "float32" else ""),
        },
        constants=constants,
    )


KERNELS = (
    plain_kernel(
        "arg_extreme",
        "ops/arg_extreme.c.j2",
        _instance,
        lambda layer: 20.0 * prod(layer.inputs[0].shape),
    ),
)
