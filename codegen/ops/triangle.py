"""The triangle of matrices above or below a diagonal; zeros elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from codegen.build import Converter
from codegen.ir import Array
from codegen.kernel import Instance, Layer
from codegen.plain import item_footprints, operands, plain_kernel, reference

__all__ = ["KERNELS", "ONNX", "OP", "Triangle", "reference"]


@dataclass(frozen=True, slots=True)
class Triangle:
    """Elements with column - row >= `diagonal` of the last two axes stay (upper), or those <= it."""

    kind: ClassVar[str] = "triangle"
    diagonal: int
    upper: bool

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The operand's shape; ValueError unless it holds matrices."""
        (shape,) = shapes
        if len(shape) < 3:
            raise ValueError(f"{list(shape)} holds no matrices")
        return shape

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The triangles."""
        (x,) = inputs
        rows, columns = x.shape[-2:]
        distance = np.arange(columns) - np.arange(rows)[:, None]
        kept = distance >= self.diagonal if self.upper else distance <= self.diagonal
        return np.where(kept, x, np.zeros((), x.dtype))

    def result_type(self, types: tuple[str, ...]) -> str:
        """That of the operand."""
        return types[0]


OP = Triangle
ONNX: Mapping[str, Converter] = {}


def _instance(layer: Layer) -> Instance:
    op, shape = layer.node.op, layer.output.shape
    assert isinstance(op, Triangle)
    (x,), constants = operands(layer)
    return Instance(
        label="x".join(map(str, shape[1:])),
        params={
            "x": x,
            "count": prod(shape[:-2]),
            "rows": shape[-2],
            "columns": shape[-1],
            "diagonal": op.diagonal,
            "sign": ">=" if op.upper else "<=",
        },
        constants=constants,
    )


KERNELS = (
    plain_kernel(
        "triangle",
        "ops/triangle.c.j2",
        _instance,
        lambda layer: 12.0 * layer.output.size,
        item_footprints,
    ),
)
