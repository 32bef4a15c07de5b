"""Where the largest or smallest elements of an axis stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from codegen.build import Converter
from codegen.ir import Array
from codegen.kernel import Instance, Layer
from codegen.plain import operands, plain_kernel, reference

__all__ = ["KERNELS", "ONNX", "OP", "TopK", "reference"]


@dataclass(frozen=True, slots=True)
class TopK:
    """Indices of the `count` first elements along `axis`: from the largest or smallest on.

    Of equal ones the one in front is first; NaN is larger than all numbers.
    """

    kind: ClassVar[str] = "top_k"
    axis: int
    count: int
    largest: bool

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The operand's shape with `count` elements along the axis."""
        (shape,) = shapes
        if not 1 <= self.axis < len(shape) or not 1 <= self.count <= shape[self.axis]:
            raise ValueError(f"{self.count} elements along axis {self.axis} of {list(shape)}")
        return (*shape[: self.axis], self.count, *shape[self.axis + 1 :])

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The indices, int64."""
        (x,) = inputs
        real = np.issubdtype(x.dtype, np.floating)
        missing = np.isnan(x) if real else np.zeros(x.shape, bool)
        numbers = np.where(missing, np.zeros_like(x), x)
        if self.largest:  # ~ turns the order of integers round, without overflow
            missing, numbers = ~missing, np.negative(numbers) if real else np.invert(numbers)
        order = np.lexsort((numbers, missing), axis=self.axis)
        return np.take(order, range(self.count), axis=self.axis).astype(np.int64)

    def result_type(self, types: tuple[str, ...]) -> str:
        """int64."""
        return "int64"


OP = TopK
ONNX: Mapping[str, Converter] = {}


def _instance(layer: Layer) -> Instance:
    op, shape = layer.node.op, layer.inputs[0].shape
    assert isinstance(op, TopK)
    (x,), constants = operands(layer)
    return Instance(
        label=f"{op.count}_of_{'x'.join(map(str, shape[1:]))}",
        params={
            "x": x,
            "outer": prod(shape[: op.axis]),
            "length": shape[op.axis],
            "inner": prod(shape[op.axis + 1 :]),
            "count": op.count,
            "largest": op.largest,
        },
        constants=constants,
    )


def _cycles(layer: Layer) -> float:
    op = layer.node.op
    assert isinstance(op, TopK)
    return 20.0 * layer.inputs[0].size * op.count


KERNELS = (plain_kernel("top_k", "ops/top_k.c.j2", _instance, _cycles),)
