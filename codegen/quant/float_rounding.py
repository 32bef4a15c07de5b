"""ONNX's own requantization, in integers: for models that arrive quantized.

ONNX (QLinearConv, QuantizeLinear) computes rint(float32(acc) * scale) + zero_point: float32 product, halves
to even. The C code has no floats, so that rule is met in one of three ways, byte for byte:

* *fitted*: an ordinary fixed-point multiplier that gives the same result for every accumulator the layer
  can reach. Both functions are monotone, so it is enough that they agree around the 255 output
  thresholds; each threshold bounds the multiplier from both sides, and any integer left will do.
* *mended*: where no multiplier meets all thresholds, one that meets most. At each of the others exactly
  one accumulator is on the wrong side; it is taken for its neighbour (a `Patch`) before it is multiplied.
* *exact*: float32 arithmetic spelled out in integers, where no multiplier fits (scales near a dyadic
  number, whose ties need rounding to even).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from codegen.ir import Array, IntArray
from codegen.quant.fixed import INT8_MAX, INT8_MIN, Requant, picked, requantization, saturated
from codegen.quant.thresholds import first_sums
from targets.errors import UnsupportedModel

STEPS_LIMIT = 1024  # beyond it every result saturates
MANTISSA_BITS = 24
MOST_PATCHES = 32  # of a channel


class Patch(NamedTuple):
    """A sum, and the one that it is taken for."""

    total: int
    instead: int


@dataclass(frozen=True, slots=True)
class MendedRequant:
    """Fixed-point multipliers that are right for every sum but the patched ones.

    Attributes:
        requant: the multipliers.
        patches: of every channel, none for most; their replacements give the right results.
    """

    requant: Requant
    patches: tuple[tuple[Patch, ...], ...]


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

    def mended(self, lowest: IntArray, highest: IntArray, zero_point: int) -> MendedRequant | None:
        """Multipliers with the same results but for a few sums; None where those are too many.

        The arguments are those of `fitted`.
        """
        ideal = requantization(self.scales, self.label)
        wanted = self._thresholds(lowest, highest, zero_point)
        best = [
            _most_allowed(first, (int(low), int(high)), ideal, (channel, zero_point))
            for channel, (first, low, high) in enumerate(zip(wanted, lowest, highest, strict=True))
        ]
        requant = Requant(tuple(best), ideal.shift)
        values = np.arange(INT8_MIN + 1, INT8_MAX + 1)
        found = first_sums(lambda sums: requant.apply(sums, zero_point), values, lowest, highest)
        if np.abs(found - wanted).max() > 1 or (found != wanted).sum(axis=1).max() > MOST_PATCHES:
            return None
        patches = tuple(_patches(mine, first) for mine, first in zip(found, wanted, strict=True))
        mended = MendedRequant(requant, patches)
        return mended if self._agrees(mended, zero_point) else None

    def _agrees(self, mended: MendedRequant, zero_point: int) -> bool:
        """Whether all patches lead to sums that have the right results."""
        listed = [(c, *patch) for c, found in enumerate(mended.patches) for patch in found]
        channels, totals, instead = np.array(listed, np.int64).reshape(-1, 3).T
        right = self.apply(totals, zero_point, pick=channels)
        given = mended.requant.apply(instead, zero_point, pick=channels)
        return np.array_equal(given, right)

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
    for bounds in _bounds(thresholds, reach, shift, zero_point):
        least, most = max(least, bounds[0]), min(most, bounds[1])
        if least > most:
            return None
    return least, most


def _bounds(
    thresholds: list[int], reach: tuple[int, int], shift: int, zero_point: int
) -> Iterator[tuple[int, int]]:
    """The multipliers, least and most, that each threshold allows from either side."""
    for value, threshold in zip(range(INT8_MIN + 1, INT8_MAX + 1), thresholds, strict=True):
        needed = ((value - zero_point) << shift) - (1 << (shift - 1))
        # At the threshold acc * M >= needed, one below it acc * M < needed, that is <= needed - 1.
        if threshold <= reach[1]:
            yield _solve(threshold, needed)
        if threshold > reach[0]:
            yield _solve(-(threshold - 1), 1 - needed)


def _most_allowed(
    first: IntArray, reach: tuple[int, int], ideal: Requant, at: tuple[int, int]
) -> int:
    """The multiplier that most thresholds allow; of several, the one nearest to the ideal one.

    Args:
        first: the channel's thresholds.
        reach: its least and its largest sum.
        ideal: multipliers and shift of the layer.
        at: the channel, the output's zero point.
    """
    channel, zero_point = at
    own = ideal.multipliers[channel]
    bounds = np.array(list(_bounds(first.tolist(), reach, ideal.shift, zero_point)), np.int64)
    if not len(bounds):
        return own
    least, most = bounds.T
    tried = np.unique([own, *least[least > 0], *most[most < 2**31 - 1]])
    allowed = ((least <= tried[:, None]) & (tried[:, None] <= most)).sum(axis=1)
    best = tried[allowed == allowed.max()]
    return int(best[np.argmin(np.abs(best - own))])


def _patches(found: IntArray, wanted: IntArray) -> tuple[Patch, ...]:
    """Patches for thresholds that are one apart: a sum that is reached too early, or too late."""
    early, late = found < wanted, found > wanted
    patches = [Patch(int(total), int(total) - 1) for total in found[early]]
    patches += [Patch(int(total), int(total) + 1) for total in wanted[late]]
    return tuple(sorted(patches))


def _solve(factor: int, bound: int) -> tuple[int, int]:
    """The M in 0..2**31 - 1 with factor * M >= bound, as (least, most); empty when least > most."""
    if factor == 0:
        return (0, 2**31 - 1) if bound <= 0 else (1, 0)
    if factor > 0:
        return -(-bound // factor), 2**31 - 1
    return 0, bound // factor
