"""Requantization with one SMMUL and one SSAT: rounding and zero point lie in the bias.

Accumulators hold 2**scale times the sum, so a bias has `scale` bits below the sum's own. With the rule
clamp(zp + ((sum * M + 2**(s-1)) >> s)) and s = 32 - scale + shift, this looks for m near M and an
integer b with

    ((sum * 2**scale + b) * m) >> (32 + shift)

equal to it for every sum that a channel can reach. Both are monotone: they are equal when they are on both
sides of each threshold between two results. For a given m every threshold bounds b from both sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codegen.ir import IntArray
from codegen.requantize import Scaling

MOST_SHIFT = 22  # 255 results, 32 bits and a shift fit 64 bits
TRIED = 256  # multipliers on either side of the rule's own
FINENESS = 16  # parts of a unit of b by which neighbours move the outermost threshold


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """A layer's form: multipliers and what is added to each channel's scaled bias."""

    shift: int
    multipliers: IntArray
    addends: IntArray


def fold(scaling: Scaling, scale: int, ends: tuple[IntArray, IntArray]) -> Folded | None:
    """The form of a layer's rule; None where a channel has none.

    Args:
        scaling: the rule; one shift for all channels.
        scale: bits by which accumulators are scaled.
        ends: least and largest sum of every channel, bias included.
    """
    q = scaling.q
    if scaling.shifts is not None or q["float"] or q["wide"] or q["pre"]:
        return None
    post, zero_point, low, high = (_number(q, k) for k in ("shift", "zero_point", "low", "high"))
    shift = post + scale
    if not 1 <= shift <= MOST_SHIFT or np.any(scaling.multipliers <= 0):
        return None
    wanted = np.arange(low + 1, high + 1, dtype=np.int64)
    rounded = ((wanted - zero_point) << (32 + post)) - (1 << (31 + post))
    found = [
        _channel(-(-rounded // m), (int(least), int(most)), int(m), (scale, shift), wanted)
        for m, least, most in zip(scaling.multipliers, *ends, strict=True)
    ]
    fitting = [pair for pair in found if pair is not None]
    if len(fitting) < len(found):
        return None
    multipliers, addends = np.array(fitting, np.int64).reshape(-1, 2).T
    return Folded(shift, multipliers, addends)


def _number(q: dict[str, object], key: str) -> int:
    value = q[key]
    assert isinstance(value, int)
    return value


def _channel(
    first: IntArray, ends: tuple[int, int], multiplier: int, bits: tuple[int, int], wanted: IntArray
) -> tuple[int, int] | None:
    """A multiplier and an addend; `first` has the least sum of each wanted result."""
    scale, shift = bits
    reached, missed = first <= ends[1], first > ends[0]
    at = np.maximum(first[reached], ends[0]) << scale
    before = np.minimum(first[missed] - 1, ends[1]) << scale
    own: IntArray = np.array([multiplier], np.int64)
    for tried in (own, _near(multiplier, first, ends, scale)):
        # The least scaled sum, addend included, that gives each result.
        needed = -(-(wanted << (32 + shift)) // tried[:, None])
        low: IntArray = (needed[:, reached] - at).max(axis=1, initial=-(1 << 31))
        high: IntArray = (needed[:, missed] - 1 - before).min(axis=1, initial=1 << 31)
        addends = (low + high) >> 1
        most = max(abs(ends[0]), abs(ends[1])) << scale
        fits = (low <= high) & (most + np.abs(addends) < 1 << 31)
        if fits.any():
            best = int(np.argmax(fits))
            return int(tried[best]), int(addends[best])
    return None


def _near(multiplier: int, first: IntArray, ends: tuple[int, int], scale: int) -> IntArray:
    """Multipliers to try, nearest first."""
    crossed = first[(first > ends[0]) & (first <= ends[1])]
    furthest = int(np.abs(crossed).max(initial=1)) << scale
    step = max(1, multiplier // (FINENESS * furthest))
    steps = np.array(sorted(range(-TRIED, TRIED + 1), key=abs), np.int64)
    tried: IntArray = multiplier + step * steps
    return tried[(tried > 0) & (tried < 1 << 31)]
