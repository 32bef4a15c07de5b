"""A function of single numbers, element by element, operands broadcast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.build import Converter
from codegen.ir import Array
from codegen.kernel import Instance, Layer
from codegen.loops import broadcast_strides, loops
from codegen.plain import alias, item_footprints, operands, plain_kernel, reference
from codegen.scalar import FUNCTIONS

__all__ = ["KERNELS", "ONNX", "OP", "Map", "reference"]


@dataclass(frozen=True, slots=True)
class Map:
    """`function` (codegen.scalar) of operands of one rank; `parameters` are its constants, float32."""

    kind: ClassVar[str] = "map"
    function: str
    parameters: tuple[float, ...] = ()

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The broadcast shape."""
        if len(shapes) != FUNCTIONS[self.function].operands:
            raise ValueError(f"{self.function} of {len(shapes)} operands")
        return np.broadcast_shapes(*shapes)

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The function of every element."""
        with np.errstate(all="ignore"):
            return np.asarray(FUNCTIONS[self.function].compute(inputs, self.parameters))

    def result_type(self, types: tuple[str, ...]) -> str:
        """That of the operands, unless the function has its own."""
        return FUNCTIONS[self.function].result_type(types)


OP = Map
ONNX: Mapping[str, Converter] = {}


def _instance(layer: Layer) -> Instance:
    op, out = layer.node.op, layer.output
    assert isinstance(op, Map) and out.dtype is not None
    rows, constants = operands(layer)
    names = "abc"[: len(rows)]
    told = layer.inputs[-1].dtype
    assert told is not None
    walked = {
        name: broadcast_strides(tensor.shape, out.shape)
        for name, tensor in zip(names, layer.inputs, strict=True)
    }
    return Instance(
        label=f"{op.function}_{'x'.join(map(str, out.shape[1:])) or 1}",
        params={
            "operands": [{"name": n, **row} for n, row in zip(names, rows, strict=True)],
            "loops": loops(out.shape, walked),
            "expression": FUNCTIONS[op.function].expression(told, op.parameters),
            "type": alias(out.dtype),
        },
        constants=constants,
    )


KERNELS = (
    plain_kernel(
        "map",
        "ops/map.c.j2",
        _instance,
        lambda layer: 60.0 * layer.output.size,
        item_footprints,
    ),
)
