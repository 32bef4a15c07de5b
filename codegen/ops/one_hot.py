"""Indices as rows of one number with another at the index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from codegen.build import Converter
from codegen.indices import WIDE
from codegen.ir import Array
from codegen.kernel import Instance, Layer
from codegen.plain import operands, plain_kernel, reference

__all__ = ["KERNELS", "ONNX", "OP", "OneHot", "reference"]


@dataclass(frozen=True, slots=True)
class OneHot:
    """A new `axis` of size `depth`: value 1 of operand 1 where the index in operand 0 is, else value 0.

    Indices from -depth on count from the end; others than those of the axis are nowhere.
    """

    kind: ClassVar[str] = "one_hot"
    axis: int
    depth: int

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The shape of the indices with the new axis; ValueError unless there are two values."""
        shape, values = shapes
        if not 1 <= self.axis <= len(shape) or self.depth < 1 or prod(values) != 2:
            raise ValueError(f"{self} of {list(shape)} with values {list(values)}")
        return (*shape[: self.axis], self.depth, *shape[self.axis :])

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The rows, sample by sample."""
        indices, values = inputs
        rank = indices.ndim + 1
        numbers = np.expand_dims(indices, self.axis)
        if not np.issubdtype(numbers.dtype, np.floating):
            numbers = numbers.astype(np.int64)
        places = np.arange(self.depth, dtype=numbers.dtype).reshape(
            (-1,) + (1,) * (rank - 1 - self.axis)
        )
        hot = (numbers == places) | (numbers == places - self.depth)
        pairs = values.reshape((len(values), 2, *(1,) * (rank - 1)))
        return np.where(hot, pairs[:, 1], pairs[:, 0])

    def result_type(self, types: tuple[str, ...]) -> str:
        """That of the values."""
        if types[0] == "bool":
            raise ValueError("indices are truth values")
        return types[1]


OP = OneHot
ONNX: Mapping[str, Converter] = {}


def _instance(layer: Layer) -> Instance:
    op, shape = layer.node.op, layer.inputs[0].shape
    assert isinstance(op, OneHot)
    (indices, values), constants = operands(layer)
    return Instance(
        label="x".join(map(str, layer.output.shape[1:])),
        params={
            "indices": indices,
            "values": values,
            "wide": WIDE.get(indices["type"], "int32_t"),
            "outer": prod(shape[: op.axis]),
            "inner": prod(shape[op.axis :]),
            "depth": op.depth,
        },
        constants=constants,
    )


KERNELS = (
    plain_kernel("one_hot", "ops/one_hot.c.j2", _instance, lambda layer: 20.0 * layer.output.size),
)
