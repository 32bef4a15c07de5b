"""Addition and subtraction of two operands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from codegen.broadcast import broadcast_shape, same_rank
from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.elementwise import elementwise_footprints, operand_names
from codegen.ir import Array, Tensor
from codegen.kernel import Instance, Kernel, Layer
from codegen.loops import broadcast_strides, loops
from codegen.quant.fixed import INT8_MAX, INT8_MIN, clamp_range, requantization, saturated


@dataclass(frozen=True, slots=True)
class Add:
    """signs[0] · x + signs[1] · y, broadcast, clamped if asked. A constant operand comes second."""

    kind: ClassVar[str] = "add"
    signs: tuple[int, int] = (1, 1)
    clamp: tuple[float, float] | None = None
    bits: int = 15  # of the integer multipliers; 15 suits 16-bit multiply instructions

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The broadcast shape."""
        return broadcast_shape(shapes)

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The signed sum."""
        x, y = as_floats(inputs)
        total = np.asarray(self.signs[0] * x + self.signs[1] * y, np.float32)
        return total if self.clamp is None else np.clip(total, *self.clamp)


def _add(node: OnnxNode, b: Builder, signs: tuple[int, int] = (1, 1)) -> None:
    b.write(node, _pair(node, b, (b.read(node, 0), b.read(node, 1)), signs))


def _sub(node: OnnxNode, b: Builder) -> None:
    _add(node, b, (1, -1))


def _sum(node: OnnxNode, b: Builder) -> None:
    total = b.read(node, 0)
    for index in range(1, len(node.inputs)):
        total = _pair(node, b, (total, b.read(node, index)), (1, 1))
    b.write(node, total)


def _pair(node: OnnxNode, b: Builder, names: tuple[str, str], signs: tuple[int, int]) -> str:
    x, y = same_rank(node, b, names)
    if b.is_constant(x):
        x, y, signs = y, x, (signs[1], signs[0])
    return b.emit(Add(signs), (x, y), node.sources)


OP = Add
ONNX: Mapping[str, Converter] = {"Add": _add, "Sub": _sub, "Sum": _sum}


# Integers: the reference, and the kernels that reproduce it.

NARROW_BITS = 21  # of multipliers whose sums fit 32 bits; wider ones take 64
MAX_SHIFT = 28  # keeps sum and rounding within 32 bits
MAX_WIDE_SHIFT = 46


def _multipliers(
    op: Add, inputs: tuple[Tensor, ...], out: Tensor, label: str
) -> tuple[int, int, int]:
    """Signed multipliers of both operands and their common shift."""
    a, b = inputs
    real = (a.grid.scale / out.grid.scale, b.grid.scale / out.grid.scale)
    limit = MAX_SHIFT if op.bits <= NARROW_BITS else MAX_WIDE_SHIFT
    requant = requantization(real, label, op.bits, limit)
    first, second = requant.multipliers
    return op.signs[0] * first, op.signs[1] * second, requant.shift


def reference(op: Add, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor) -> Array:
    """int8 sum: ((a - za) * Ma + (b - zb) * Mb + 2**(s-1)) >> s, one rounding for both operands."""
    a, b = inputs
    first, second, shift = _multipliers(op, inputs, out, out.name)
    total = (values[0].astype(np.int64) - a.grid.zero_point) * first
    total = total + (values[1].astype(np.int64) - b.grid.zero_point) * second
    low, high = clamp_range(op.clamp, out.grid)
    rounded = (total + (1 << (shift - 1))) >> shift
    return saturated(rounded + out.grid.zero_point, low, high)


def _instance(layer: Layer) -> Instance:
    op = layer.node.op
    assert isinstance(op, Add)
    a, b = layer.inputs
    first, second, shift = _multipliers(op, layer.inputs, layer.output, layer.label)
    constant = (1 << (shift - 1)) - a.grid.zero_point * first - b.grid.zero_point * second
    low, high = clamp_range(op.clamp, layer.output.grid)
    names, constants = operand_names(layer)
    shape = layer.output.shape
    walked = {
        "a": broadcast_strides(a.shape, shape),
        "b": broadcast_strides(b.shape, shape),
    }
    return Instance(
        label="x".join(map(str, shape[1:])),
        params={
            "a": names[0],
            "b": names[1],
            "loops": loops(shape, walked),
            "wide": op.bits > NARROW_BITS,
            "multiplier_a": first,
            "multiplier_b": second,
            "constant": constant,
            "shift": shift,
            "zero_point": layer.output.grid.zero_point,
            "low": low,
            "high": high,
        },
        constants=constants,
    )


def _dsp_serves(layer: Layer) -> bool:
    """Whether words of both operands meet, multipliers fit 16 bits, and no sum leaves 32."""
    op = layer.node.op
    assert isinstance(op, Add)
    alike = all(t.shape == layer.output.shape for t in layer.activations)
    if not layer.core.dsp or len(layer.activations) != 2 or not alike or layer.output.size % 4:
        return False
    first, second, shift = _multipliers(op, layer.inputs, layer.output, layer.label)
    if op.bits > 15 or not 1 <= shift <= 31:
        return False
    return abs(_first_sum(layer)) + 128 * (abs(first) + abs(second)) < 1 << 31


def _first_sum(layer: Layer) -> int:
    """Zero points of all three tensors and the rounding: what the sums of raw operands start from."""
    op = layer.node.op
    assert isinstance(op, Add)
    a, b = layer.inputs
    first, second, shift = _multipliers(op, layer.inputs, layer.output, layer.label)
    folded = (1 << (shift - 1)) - a.grid.zero_point * first - b.grid.zero_point * second
    return folded + (layer.output.grid.zero_point << shift)


def _dsp_pass(layer: Layer) -> tuple[int, int]:
    """Words that are loaded together, and how often in a pass."""
    size = layer.output.size
    return (1 if size % 8 else 2), (1 if size % 16 else 2)


def _dsp_instance(layer: Layer) -> Instance:
    op = layer.node.op
    assert isinstance(op, Add)
    portable = _instance(layer)
    first, second, _ = _multipliers(op, layer.inputs, layer.output, layer.label)
    low, high = clamp_range(op.clamp, layer.output.grid)
    words, repeats = _dsp_pass(layer)
    extra = {
        "words": words,
        "repeats": repeats,
        "passes": layer.output.size // (4 * words * repeats),
        "packed": (first & 0xFFFF) | (second & 0xFFFF) << 16,
        "sum_start": _first_sum(layer),
        "low_bytes": None if low == INT8_MIN else (low & 0xFF) * 0x01010101,
        "high_bytes": None if high == INT8_MAX else (high & 0xFF) * 0x01010101,
    }
    return replace(portable, params={**portable.params, **extra})


def _dsp_cycles(layer: Layer) -> float:
    op = layer.node.op
    assert isinstance(op, Add)
    low, high = clamp_range(op.clamp, layer.output.grid)
    limiting = 4 * ((low > INT8_MIN) + (high < INT8_MAX))
    words, repeats = _dsp_pass(layer)
    together = words * repeats
    a_pass = together * (20 + limiting + 2) + 5  # a load behind a store takes one cycle
    return 30 + layer.output.size // (4 * together) * a_pass


KERNELS = (
    Kernel(
        name="add.dsp",
        template="ops/add.c.j2",
        assembly="ops/add.dsp.S.j2",
        serves=_dsp_serves,
        instance=_dsp_instance,
        cycles=_dsp_cycles,
        footprints=elementwise_footprints,
    ),
    Kernel(
        name="add.portable",
        template="ops/add.c.j2",
        serves=lambda layer: True,
        instance=_instance,
        cycles=lambda layer: 14.0 * layer.output.size,
        footprints=elementwise_footprints,
    ),
)
