"""One number out of many: sums, products, extremes along axes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from codegen.build import Converter
from codegen.ir import Array
from codegen.kernel import Instance, Layer
from codegen.loops import loops, strides
from codegen.plain import alias, c_number, ctype, operands, plain_kernel, reference
from codegen.scalar import FUNCTIONS
from codegen.scalar.form import highest, lowest

__all__ = ["KERNELS", "ONNX", "OP", "Reduce", "reference"]


@dataclass(frozen=True, slots=True)
class Reduce:
    """Elements along `axes`, one after the other in row-major order, by a function of two.

    Attributes:
        function: "add", "multiply", "maximum" or "minimum" (codegen.scalar).
        axes: ascending; they stay, with size 1. Axis 0, the samples, is none of them.
        element: what is done to every element first: "abs", "square" or nothing.
    """

    kind: ClassVar[str] = "reduce"
    function: str
    axes: tuple[int, ...]
    element: str = ""

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The shape with axes of size 1."""
        (shape,) = shapes
        if not all(0 < axis < len(shape) for axis in self.axes):
            raise ValueError(f"axes {self.axes} of shape {list(shape)}")
        return tuple(1 if axis in self.axes else size for axis, size in enumerate(shape))

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The function of all elements along the axes."""
        (x,) = inputs
        last = tuple(range(x.ndim - len(self.axes), x.ndim))
        moved = np.moveaxis(x, self.axes, last)
        flat = moved.reshape(*moved.shape[: x.ndim - len(self.axes)], -1)
        total = np.full(flat.shape[:-1], start(self.function, x.dtype.name), x.dtype)
        with np.errstate(all="ignore"):
            if self.element:
                flat = FUNCTIONS[self.element].compute((flat,), ())
            for index in range(flat.shape[-1]):
                total = FUNCTIONS[self.function].compute((total, flat[..., index]), ())
        shape = tuple(1 if axis in self.axes else size for axis, size in enumerate(x.shape))
        return np.asarray(total.reshape(shape))

    def result_type(self, types: tuple[str, ...]) -> str:
        """The type of the elements."""
        FUNCTIONS[self.element or self.function].result_type(
            (types[0],) * (1 if self.element else 2)
        )
        return FUNCTIONS[self.function].result_type(types * 2)


def start(function: str, dtype: str) -> float:
    """What changes nothing: 0 for sums, 1 for products, the least number for the greatest one."""
    if function in ("maximum", "minimum"):
        return lowest(dtype) if function == "maximum" else highest(dtype)
    return {"add": 0, "multiply": 1}[function]


OP = Reduce
ONNX: Mapping[str, Converter] = {}


def _instance(layer: Layer) -> Instance:
    op, x = layer.node.op, layer.inputs[0]
    assert isinstance(op, Reduce) and x.dtype is not None
    (operand,), constants = operands(layer)
    walked = {"x": strides(x.shape)}
    kept = tuple(1 if axis in op.axes else size for axis, size in enumerate(x.shape))
    reduced = tuple(size if axis in op.axes else 1 for axis, size in enumerate(x.shape))
    inner = [{**axis, "name": f"r{index}"} for index, axis in enumerate(loops(reduced, walked))]
    element = FUNCTIONS[op.element].expression(x.dtype, ()) if op.element else "a"
    return Instance(
        label=f"{op.element}{op.function}_{'x'.join(map(str, x.shape[1:]))}_{'_'.join(map(str, op.axes))}",
        params={
            "operand": operand,
            "outer": loops(kept, walked),
            "inner": inner,
            "start": c_number(start(op.function, x.dtype), ctype(x)),
            "element": re.sub(r"\ba\b", "item", element),
            "expression": FUNCTIONS[op.function].expression(x.dtype, ()),
            "type": alias(x.dtype),
        },
        constants=constants,
    )


KERNELS = (
    plain_kernel(
        "reduce",
        "ops/reduce.c.j2",
        _instance,
        lambda layer: 60.0 * prod(layer.inputs[0].shape),
    ),
)
