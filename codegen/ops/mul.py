"""Elementwise product of two operands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.broadcast import broadcast_shape, same_rank
from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.elementwise import elementwise_footprints, operand_names
from codegen.ir import Array, Tensor
from codegen.kernel import Instance, Kernel, Layer
from codegen.loops import broadcast_strides, loops
from codegen.quant.fixed import clamp_range
from codegen.requantize import ONE, Rounding, rule, scaling


@dataclass(frozen=True, slots=True)
class Mul:
    """x · y, broadcast, clamped if asked. A constant operand comes second."""

    kind: ClassVar[str] = "mul"
    clamp: tuple[float, float] | None = None
    rounding: Rounding = "half_up"

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


# Integers: the reference, and the kernels that reproduce it.


def reference(op: Mul, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor) -> Array:
    """int8 product: (a - za) * (b - zb), one rounding."""
    a, b = inputs
    first = values[0].astype(np.int32) - a.grid.zero_point
    product = first * (values[1].astype(np.int32) - b.grid.zero_point)
    low, high = clamp_range(op.clamp, out.grid)
    requant = rule((a.grid, b.grid), out.grid, ONE, op.rounding, out.name)
    return requant.apply(product, out.grid.zero_point, low, high)


_REACH = (np.array([-255 * 255]), np.array([255 * 255]))


def _instance(layer: Layer) -> Instance:
    op = layer.node.op
    assert isinstance(op, Mul)
    a, b = layer.inputs
    requant = rule((a.grid, b.grid), layer.output.grid, ONE, op.rounding, layer.label)
    names, constants = operand_names(layer)
    shape = layer.output.shape
    walked = {
        "a": broadcast_strides(a.shape, shape),
        "b": broadcast_strides(b.shape, shape),
    }
    limits = clamp_range(op.clamp, layer.output.grid)
    return Instance(
        label="x".join(map(str, shape[1:])),
        params={
            "a": names[0],
            "b": names[1],
            "loops": loops(shape, walked),
            "zero_a": a.grid.zero_point,
            "zero_b": b.grid.zero_point,
            **scaling(requant, _REACH, layer.output.grid, limits).immediates(),
        },
        constants=constants,
    )


KERNELS = (
    Kernel(
        name="mul.portable",
        template="ops/mul.c.j2",
        serves=lambda layer: True,
        instance=_instance,
        cycles=lambda layer: 18.0 * layer.output.size,
        footprints=elementwise_footprints,
    ),
)
