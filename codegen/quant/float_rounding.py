"""ONNX's own requantization, in integers: for models that arrive quantized.

ONNX (QLinearConv, QuantizeLinear) computes rint(float32(acc) * scale) + zero_point: float32 product, halves
to even. The C code has no floats, so that rule is met in one of two ways, byte for byte:

* *fitted*: an ordinary fixed-point multiplier that gives the same result for every accumulator the layer
  can reach. Both functions are monotone, so it is enough that they agree around the 255 output
  thresholds; each threshold bounds the multiplier from both sides, and any integer left will do.
* *exact*: float32 arithmetic spelled out in integers, where no multiplier fits (scales near a dyadic
  number, whose ties need rounding to even).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codegen.ir import Array, IntArray
from codegen.quant.fixed import INT8_MAX, INT8_MIN, Requant, picked, requantization, saturated
from codegen.quant.thresholds import first_sums
from targets.errors import UnsupportedModel

STEPS_LIMIT = 1024  # beyond it every result saturates
MANTISSA_BITS = 24


@dataclass(frozen=True, slots=True)
class FloatRequant:
    """Requantization by float32 scales, one per output channel."""

    scales: tuple[float, ...]
    label: str

    def apply(
        self,
        accumulator: Array,
        zero_point: int,
        low: int = INT8_MIN,
        high: int = INT8_MAX,
        pick: Array | None = None,
    ) -> npt.NDArray[np.int8]:
        """int8 of `accumulator` (..., channels): clamp(rint(float32(acc) * scale) + zp).

        `pick` says which scale each element takes, where that is not the one of its channel.
        """
        scales = picked(np.array(self.scales, np.float32), pick)
        steps = np.rint(accumulator.astype(np.float32) * scales)
        limited = np.clip(steps, -STEPS_LIMIT, STEPS_LIMIT).astype(np.int32)
        return saturated(limited + zero_point, low, high)

    def fitted(self, lowest: IntArray, highest: IntArray, zero_point: int) -> Requant | None:
        """Fixed-point multipliers with the same results; None when a channel has none.

        Args:
            lowest: least accumulator of every channel.
            highest: largest accumulator of every channel.
            zero_point: of the output.
        """
        ideal = requantization(self.scales, self.label)
        thresholds = self._thresholds(lowest, highest, zero_point)
        multipliers = []
        for channel, first in enumerate(thresholds.tolist()):
            reach = int(lowest[channel]), int(highest[channel])
            allowed = _allowed(first, reach, ideal.shift, zero_point)
            if allowed is None:
                return None
            multipliers.append(min(max(ideal.multipliers[channel], allowed[0]), allowed[1]))
        return Requant(tuple(multipliers), ideal.shift)

    def parts(self) -> tuple[IntArray, IntArray]:
        """Mantissas of 24 bits and shifts: scale = mantissa / 2**shift, exactly."""
        fractions, exponents = np.frexp(np.array(self.scales, np.float32))
        mantissas = (fractions.astype(np.float64) * 2**MANTISSA_BITS).astype(np.int64)
        shifts = MANTISSA_BITS - exponents.astype(np.int64)
        if shifts.min(initial=1) < 1:
            raise UnsupportedModel(f"{self.label}: the scales give a multiplier of 2**23 or more")
        return mantissas, np.minimum(shifts, 63)

    def _thresholds(self, lowest: IntArray, highest: IntArray, zero_point: int) -> IntArray:
        """Smallest accumulator whose result is at least v, for v = -127..127, per channel.

        One beyond the highest accumulator where there is none.
        """
        wanted = np.arange(INT8_MIN + 1, INT8_MAX + 1)
        return first_sums(lambda sums: self.apply(sums, zero_point), wanted, lowest, highest)


def _allowed(
    thresholds: list[int], reach: tuple[int, int], shift: int, zero_point: int
) -> tuple[int, int] | None:
    """The multipliers M for which (acc * M + 2**(shift-1)) >> shift crosses at these thresholds."""
    least, most = 0, 2**31 - 1
    for value, threshold in zip(range(INT8_MIN + 1, INT8_MAX + 1), thresholds, strict=True):
        needed = ((value - zero_point) << shift) - (1 << (shift - 1))
        # At the threshold acc * M >= needed, one below it acc * M < needed, that is <= needed - 1.
        if threshold <= reach[1]:
            bounds = _solve(threshold, needed)
            least, most = max(least, bounds[0]), min(most, bounds[1])
        if threshold > reach[0]:
            bounds = _solve(-(threshold - 1), 1 - needed)
            least, most = max(least, bounds[0]), min(most, bounds[1])
        if least > most:
            return None
    return least, most


def _solve(factor: int, bound: int) -> tuple[int, int]:
    """The M in 0..2**31 - 1 with factor * M >= bound, as (least, most); empty when least > most."""
    if factor == 0:
        return (0, 2**31 - 1) if bound <= 0 else (1, 0)
    if factor > 0:
        return -(-bound // factor), 2**31 - 1
    return 0, bound // factor
