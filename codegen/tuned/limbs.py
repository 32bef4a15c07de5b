"""Requantization on cores without a long multiply: a multiplier in two to four limbs of `bits` bits.

    q = acc * m0 + ((acc * m1) >> bits)                          two limbs
    q = acc * m0 + ((acc * m1 + ((acc * m2) >> bits)) >> bits)   three, and so on
    result = low + clamp((q + addend) >> shift, 0, high - low)

q is floor(acc * m / 2**(bits * (limbs - 1))) exactly, so that the form is monotone, as is the layer's own
rule: the two agree everywhere when they agree around each threshold between two results. A threshold that
is first reached at T asks that T reaches it and T - 1 does not; for a given m both bound the addend.

Where no addend meets all thresholds (float32 products of ONNX's rounding tie now and then), the few sums on
the wrong side of one are *patched*: taken for their neighbours on the right side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codegen.ir import Array, IntArray, Quant, Tensor
from codegen.quant.fixed import INT32_MAX, Requant
from codegen.quant.float_rounding import FloatRequant, Patch
from codegen.quant.thresholds import first_sums
from codegen.requantize import ONE, Rounding, reach, rule
from codegen.tuned.lanes import folded_bias

MOST_LIMBS = 4
MOST_BITS = 15
MOST_LOWER_BITS = 31
WINDOW = 64  # multipliers tried on either side of the ideal one,
FINEST = 29  # apart by so many bits at least
WORDS = 5  # a channel's constants, in the order of `Limbs.words`; patches follow
MOST_PATCHES = 4


@dataclass(frozen=True, slots=True)
class Limbs:
    """One channel's constants: two limbs, the highest first, and the lower ones where it needs more."""

    m0: int
    m1: int
    lower: tuple[int, ...]
    addend: int
    shift: int
    patches: tuple[Patch, ...] = ()

    def words(self, limbs: int, patches: int) -> list[int]:
        """As kernels read them: 0 in place of the lower limbs stands for two limbs.

        Args:
            limbs: how many a channel of the layer has at most.
            patches: the same of patches; some that change nothing fill up.
        """
        padded = (*self.lower, 0, 0)[: limbs - 2]
        packed = sum(limb << 16 * i for i, limb in enumerate(padded))
        filled = (*self.patches, *(Patch(0, 0) for _ in range(patches - len(self.patches))))
        constants = [self.m0, self.m1, self.addend, packed, self.shift]
        return constants + [number for patch in filled for number in patch]


@dataclass(frozen=True, slots=True)
class Form:
    """A layer's rule in limbs, proved equal to it for every sum that the layer can reach."""

    bits: int
    low: int
    high: int
    channels: tuple[Limbs, ...]

    @property
    def limbs(self) -> int:
        """How many a channel has at most."""
        return max(2 + len(channel.lower) for channel in self.channels)

    @property
    def patches(self) -> int:
        """How many a channel has at most."""
        return max(len(channel.patches) for channel in self.channels)

    def words(self) -> IntArray:
        """(channels, WORDS + 2 * patches)."""
        rows = [channel.words(self.limbs, self.patches) for channel in self.channels]
        return np.array(rows, np.int64)

    def params(self) -> dict[str, object]:
        """For templates."""
        return {
            "limbs": self.limbs,
            "limb_bits": self.bits,
            "patches": self.patches,
            "low": self.low,
            "span": self.high - self.low,
        }

    def apply(self, sums: IntArray) -> IntArray:
        """Results of sums (..., channels), as the kernels compute them."""
        results = np.empty_like(sums)
        for index, channel in enumerate(self.channels):
            column = sums[..., index].copy()
            for total, instead in channel.patches:
                column[sums[..., index] == total] = instead
            inner = np.zeros_like(column)
            for limb in reversed((channel.m1, *channel.lower)):
                inner = (column * limb + inner) >> self.bits
            steps = (column * channel.m0 + inner + channel.addend) >> channel.shift
            results[..., index] = self.low + np.clip(steps, 0, self.high - self.low)
        return results


def weighted(
    operands: tuple[Tensor, ...],
    y: Quant,
    limits: tuple[int, int],
    rounding: Rounding,
    label: str,
    shift: int | None,
) -> Form | None:
    """The form of a layer with operands x, w, b, for sums of weights times raw inputs."""
    x, w, b = operands
    own = rule((x.grid, w.grid), y, ONE, rounding, label, shift)
    return fitted(own, reach(x.grid, w, b), folded_bias(x, w, b), y, limits)


def fitted(
    own: Requant | FloatRequant,
    ends: tuple[IntArray, IntArray],
    bias: IntArray,
    y: Quant,
    limits: tuple[int, int],
) -> Form | None:
    """The rule in limbs, as few as each channel needs; None where a channel has no such form.

    Args:
        own: the layer's rule.
        ends: least and largest sum of every channel, bias included.
        bias: what sums get before the rule; it goes into the addends, so that kernels sum products alone.
        y: grid of the output.
        limits: least and largest result.
    """
    lowest, highest = ends[0] - bias, ends[1] - bias
    wanted = np.arange(limits[0] + 1, limits[1] + 1)

    def apply(sums: Array) -> Array:
        biased: IntArray = sums.astype(np.int64) + bias
        return own.apply(biased, y.zero_point, *limits)

    first = first_sums(apply, wanted, lowest, highest)
    crossed = (first > lowest[:, None]) & (first <= highest[:, None])
    varies: npt.NDArray[np.bool_] = np.any(crossed, axis=1)
    # Sums may be a register's: one more bit keeps products of a limb and a sum below 2**31.
    largest = np.maximum(np.abs(lowest), np.abs(highest))[varies].max(initial=1)
    bits = min(MOST_BITS, 31 - int(largest).bit_length())
    if bits < 1:
        return None
    channels = []
    for channel, scale in enumerate(_scales(own, len(lowest))):
        reached = int(lowest[channel]), int(highest[channel])
        found = (
            _channel(first[channel], reached, scale, bits)
            if varies[channel]
            else _constant(first[channel], reached)
        )
        if found is None:
            return None
        channels.append(found)
    return Form(bits, *limits, tuple(channels))


def _scales(own: Requant | FloatRequant, channels: int) -> list[float]:
    if isinstance(own, FloatRequant):
        scales = list(own.scales)
    else:
        scales = [multiplier / 2.0**own.shift for multiplier in own.multipliers]
    return scales * channels if len(scales) == 1 else scales


def _constant(first: IntArray, ends: tuple[int, int]) -> Limbs:
    """A channel that has one result: as many steps as lie at or below its least sum."""
    return Limbs(0, 0, (), int((first <= ends[0]).sum()), 0)


def _channel(first: IntArray, ends: tuple[int, int], scale: float, bits: int) -> Limbs | None:
    # With more lower bits there is no precision to gain, and 64 bits could not hold the products below.
    tried = [n for n in range(2, MOST_LIMBS + 1) if bits * (n - 1) <= MOST_LOWER_BITS]
    for limbs in tried:
        found = _search(first, ends, scale, bits, limbs, patched=False)
        if found is not None:
            return found
    patched = [_search(first, ends, scale, bits, limbs, patched=True) for limbs in tried]
    return min((p for p in patched if p is not None), key=lambda p: len(p.patches), default=None)


def _search(
    first: IntArray, ends: tuple[int, int], scale: float, bits: int, limbs: int, patched: bool
) -> Limbs | None:
    """The multiplier nearest to the ideal one for which some addend meets every threshold.

    With `patched` the ideal one, for an addend that misses few thresholds.
    """
    lower = bits * (limbs - 1)
    for shift in range(30, 0, -1):
        ideal = round(scale * 2.0 ** (shift + lower))
        step = max(1, ideal >> FINEST)
        if (ideal + WINDOW * step) >> (lower + bits):
            continue
        tried = ideal + step * np.array(sorted(range(-WINDOW, WINDOW + 1), key=abs))
        tried = tried[tried > 0]
        low, high = _addends(first, ends, tried, lower, shift)
        if patched:
            return _patched(first, ends, (ideal, shift), bits, limbs)
        addends = (low + high) // 2
        in_range = _in_range(ends, tried, lower, addends)
        fits = (low <= high) & in_range
        if fits.any():
            at = int(np.argmax(fits))
            m0, m1, *rest = _split(int(tried[at]), bits, limbs)
            return Limbs(m0, m1, tuple(rest), int(addends[at]), shift)
        if in_range.all():
            return None  # a smaller shift leaves the multiplier fewer bits still
    return None


def _patched(
    first: IntArray, ends: tuple[int, int], scale: tuple[int, int], bits: int, limbs: int
) -> Limbs | None:
    """Limbs for a multiplier and a shift, with the patches that its best addend needs."""
    multiplier, shift = scale
    lower = bits * (limbs - 1)
    inner = first[(first > ends[0]) & (first <= ends[1])]
    values = np.flatnonzero((first > ends[0]) & (first <= ends[1])) + 1
    least = (values << shift) - ((multiplier * inner) >> lower)
    most = (values << shift) - 1 - ((multiplier * (inner - 1)) >> lower)
    missed = ((least > least[:, None]) | (most < least[:, None])).sum(axis=1)
    addend = int(least[np.argmin(missed)])
    patches: list[Patch] = []
    for value, wanted in enumerate(first.tolist(), 1):
        # Where this form reaches the value: acc * multiplier >= ((value << shift) - addend) << lower.
        needed = ((value << shift) - addend) << lower
        reached = min(max(-(-needed // multiplier), ends[0]), ends[1] + 1)
        if abs(reached - wanted) + len(patches) > MOST_PATCHES:
            return None
        patches += [Patch(total, reached - 1) for total in range(reached, wanted)]
        patches += [Patch(total, reached) for total in range(wanted, reached)]
    if not _in_range(ends, np.array([multiplier]), lower, np.array([addend])).all():
        return None
    m0, m1, *rest = _split(multiplier, bits, limbs)
    found = Limbs(m0, m1, tuple(rest), addend, shift, tuple(patches))
    # Sums without a patch lie on the right side of every threshold; where thresholds are close, a neighbour
    # may be on the wrong side of the next one.
    totals = np.array([patch.total for patch in patches], np.int64)
    inside = all(ends[0] <= patch.instead <= ends[1] for patch in patches)
    results = Form(bits, 0, len(first), (found,)).apply(totals[:, None])[:, 0]
    right = (first[:, None] <= totals).sum(axis=0)
    return found if inside and np.array_equal(results, right) else None


def _split(multiplier: int, bits: int, limbs: int) -> list[int]:
    """Limbs from the highest."""
    mask = (1 << bits) - 1
    return [multiplier >> (bits * i) & mask for i in reversed(range(limbs))]


def _addends(
    first: IntArray, ends: tuple[int, int], multipliers: IntArray, lower: int, shift: int
) -> tuple[IntArray, IntArray]:
    """Least and largest addend of every multiplier."""
    steps = np.arange(1, len(first) + 1, dtype=np.int64) << shift
    reached, missed = first <= ends[1], first > ends[0]
    at = (multipliers[:, None] * first[reached]) >> lower
    before = (multipliers[:, None] * (first[missed] - 1)) >> lower
    low: IntArray = (steps[reached] - at).max(axis=1, initial=-(1 << 62))
    high: IntArray = (steps[missed] - 1 - before).min(axis=1, initial=1 << 62)
    return low, high


def _in_range(
    ends: tuple[int, int], multipliers: IntArray, lower: int, addends: IntArray
) -> npt.NDArray[np.bool_]:
    """Whether addend and product stay within 32 bits, for every multiplier."""
    least = ((multipliers * ends[0]) >> lower) + addends
    most = ((multipliers * ends[1]) >> lower) + addends
    fits: npt.NDArray[np.bool_] = (least >= -INT32_MAX - 1) & (most <= INT32_MAX)
    return fits & (np.abs(addends) <= INT32_MAX)
