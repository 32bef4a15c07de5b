"""How sums come back to int8: the rule, and what kernels need for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from codegen.ir import IntArray, Quant, Tensor
from codegen.kernel import Constant
from codegen.quant.fixed import (
    Requant,
    accumulator_bound,
    at_shift,
    check_accumulator,
    requantization,
    template_params,
)
from codegen.quant.float_rounding import FloatRequant, Patch

Rounding = Literal["half_up", "float32"]
"""Ours (docs/quantization.md, 2), or ONNX's, for models that arrived quantized (section 5)."""


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """A rule as the templates take it.

    Attributes:
        multipliers: int32, one per channel (or per entry that the kernel chooses from).
        shifts: uint8 beside them, for ONNX's rule where no fixed-point multiplier fits; else None.
        q: numbers for the `requantize` macro.
        mended: where no fixed-point multiplier fits, the one that nearly does, with patches; else None.
        patches: sums of every channel to replace before they are multiplied; empty where there are none.
    """

    multipliers: IntArray
    shifts: IntArray | None
    q: dict[str, object]
    mended: Scaling | None = None
    patches: tuple[tuple[Patch, ...], ...] = ()

    @property
    def fixed(self) -> Scaling:
        """The fixed-point form for kernels that can replace sums; this rule itself where there is none."""
        return self.mended or self

    def constants(self) -> tuple[Constant, ...]:
        """The arrays in flash, for kernels that look their multiplier up."""
        arrays = (Constant("multipliers", "int32_t", self.multipliers),)
        if self.shifts is None:
            return arrays
        return (*arrays, Constant("shifts", "uint8_t", self.shifts))

    def immediates(self) -> dict[str, object]:
        """Template params, for kernels that have one multiplier."""
        shift = 0 if self.shifts is None else int(self.shifts[0])
        return {"multiplier": int(self.multipliers[0]), "shift": shift, "q": self.q}


def rule(
    numerators: tuple[Quant, ...],
    y: Quant,
    counts: IntArray,
    rounding: Rounding,
    label: str,
    shift: int | None = None,
) -> Requant | FloatRequant:
    """Real multipliers scale * scale ... / (y_scale * counts) as integers or as float32.

    Args:
        numerators: grids whose scales multiply; the last may be per channel.
        y: grid of the output.
        counts: divisors (1 for sums, the number of elements for means), one or one per entry.
        rounding: which rule.
        label: the layer, for messages.
        shift: of the fixed-point multipliers, where it was decided before; None = the best one.
    """
    if rounding == "float32":
        # In onnxruntime's order of operations, each one rounded to float32.
        product = np.ones(1, np.float32)
        for grid in numerators:
            product = product * np.array(grid.scales, np.float32)
        scales = product / np.float32(y.scale) / counts.astype(np.float32)
        return FloatRequant(tuple(float(scale) for scale in scales), label)
    real = np.prod([np.array(grid.scales[:1]) for grid in numerators[:-1]])
    real = real * np.array(numerators[-1].scales) / y.scale / counts
    if shift is not None:
        return at_shift(real.tolist(), shift)
    return requantization(real.tolist(), label)


ONE = np.ones(1, np.int64)


def scaling(
    requant: Requant | FloatRequant,
    reach: tuple[IntArray, IntArray],
    y: Quant,
    limits: tuple[int, int] = (-128, 127),
) -> Scaling:
    """A rule for sums between reach[0] and reach[1] (per multiplier)."""
    bound = int(max(np.abs(reach[0]).max(), np.abs(reach[1]).max()))
    if isinstance(requant, FloatRequant):
        fitted = requant.fitted(*reach, y.zero_point)
        if fitted is None:
            mantissas, shifts = requant.parts()
            exact: dict[str, object] = {
                "float": True,
                "zero_point": y.zero_point,
                "low": limits[0],
                "high": limits[1],
            }
            return Scaling(mantissas, shifts, exact, _mended(requant, reach, y, limits))
        requant = fitted
    q = template_params(requant, bound, y.zero_point, limits)
    return Scaling(np.array(requant.multipliers), None, q)


def _mended(
    requant: FloatRequant,
    reach: tuple[IntArray, IntArray],
    y: Quant,
    limits: tuple[int, int],
) -> Scaling | None:
    found = requant.mended(*reach, y.zero_point)
    if found is None:
        return None
    bound = int(max(np.abs(reach[0]).max(), np.abs(reach[1]).max()))
    q = template_params(found.requant, bound, y.zero_point, limits)
    return Scaling(np.array(found.requant.multipliers), None, q, None, found.patches)


def weighted(
    operands: tuple[Tensor, ...],
    y: Quant,
    limits: tuple[int, int],
    rounding: Rounding,
    label: str,
    shift: int | None,
) -> Scaling:
    """The scaling of a layer with operands x, w, b.

    Raises:
        UnsupportedModel: the accumulator may leave 32 bits.
    """
    x, w, b = operands
    check_accumulator(accumulator_bound(w.values, b.values, x.grid.zero_point), label)
    requant = rule((x.grid, w.grid), y, ONE, rounding, label, shift)
    return scaling(requant, reach(x.grid, w, b), y, limits)


def reach(x: Quant, w: Tensor, b: Tensor) -> tuple[IntArray, IntArray]:
    """Least and largest accumulator of every channel, over all int8 inputs."""
    weights = w.values.astype(np.int64).reshape(len(w.values), -1)
    ends = weights * (-128 - x.zero_point), weights * (127 - x.zero_point)
    bias = b.values.astype(np.int64)
    return bias + np.minimum(*ends).sum(axis=1), bias + np.maximum(*ends).sum(axis=1)


def sum_reach(x: Quant, counts: IntArray) -> tuple[IntArray, IntArray]:
    """Least and largest sum of `counts` values x - zp."""
    return counts * (-128 - x.zero_point), counts * (127 - x.zero_point)
