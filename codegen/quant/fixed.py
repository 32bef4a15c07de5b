"""Fixed-point requantization: the one rounding rule of the generated code (docs/quantization.md, 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from codegen.ir import Array, IntArray, Quant
from targets.errors import UnsupportedModel

INT8_MIN, INT8_MAX = -128, 127
INT32_MAX = 2**31 - 1
MAX_SHIFT = 62


def saturated(values: Array, low: int = INT8_MIN, high: int = INT8_MAX) -> npt.NDArray[np.int8]:
    """Integers or whole floats as int8, limited to low..high."""
    limited: npt.NDArray[np.int8] = np.clip(values, low, high).astype(np.int8)
    return limited


@dataclass(frozen=True, slots=True)
class Requant:
    """Real multipliers as integers: real = multiplier / 2**shift, one multiplier per output channel.

    The shift serves all channels of a layer, so that the C code has it as an immediate. It is the
    largest for which every multiplier fits 31 bits; a channel whose multiplier is 2**k times smaller
    than the largest one keeps 31 - k bits, which moves no result by more than 2**(k-23) steps.
    """

    multipliers: tuple[int, ...]
    shift: int

    def apply(
        self,
        accumulator: Array,
        zero_point: int,
        low: int = INT8_MIN,
        high: int = INT8_MAX,
        pick: Array | None = None,
    ) -> npt.NDArray[np.int8]:
        """int8 of `accumulator` (..., channels): clamp(zp + ((acc * M + 2**(s-1)) >> s)).

        One rounding, halves towards plus infinity, on the exact 64-bit product. `pick` says which
        multiplier each element takes, where that is not the one of its channel.
        """
        multipliers = np.array(self.multipliers, np.int64)
        product: IntArray = accumulator.astype(np.int64) * picked(multipliers, pick)
        shifted = (product + (1 << (self.shift - 1))) >> self.shift
        return saturated(shifted + zero_point, low, high)


def picked(multipliers: npt.NDArray[Any], pick: Array | None) -> npt.NDArray[Any]:
    """The multipliers themselves, or those that an index array names."""
    if pick is None:
        return multipliers
    chosen: npt.NDArray[Any] = multipliers[pick.astype(np.int64)]
    return chosen


def at_shift(real: Sequence[float], shift: int) -> Requant:
    """The integer form of real multipliers for a shift that is already decided."""
    return Requant(tuple(round(value * 2.0**shift) for value in real), shift)


def requantization(
    real: Sequence[float], node: str, max_bits: int = 31, max_shift: int = MAX_SHIFT
) -> Requant:
    """The integer form of positive real multipliers, with `max_bits` bits for the largest.

    Raises:
        UnsupportedModel: a multiplier is not finite and positive, or too large for its bits.
    """
    largest = max(real)
    limit = 2.0 ** (max_bits - 1)
    if not (np.all(np.isfinite(real)) and min(real) >= 0 and 0 < largest < limit):
        raise UnsupportedModel(
            f"{node}: the scales give a multiplier of {largest:g}, outside (0, {limit:g})",
            hint="check the scales of the layer's input, weights and output",
            node=node,
        )
    shift = min(math.floor(max_bits - math.log2(largest)), max_shift)
    while shift > 1 and round(largest * 2.0**shift) >= 2**max_bits:
        shift -= 1
    return at_shift(real, shift)


@dataclass(frozen=True, slots=True)
class HighWord:
    """The same requantization by the high word of a 32 x 32 bit product.

    out = zp + ((((acc << pre) * M >> 32) + round) >> post): exactly `Requant.apply` as long as
    `acc << pre` fits 32 bits, because the rounding constant is a multiple of 2**32.
    """

    pre: int
    post: int

    @property
    def rounding(self) -> int:
        """The addend before the last shift: 2**(post-1)."""
        return 1 << (self.post - 1)


def high_word(requant: Requant, bound: int) -> HighWord | None:
    """The high-word form for accumulators of at most `bound` in magnitude; None when it would overflow."""
    pre = max(0, 33 - requant.shift)
    if bound << pre > INT32_MAX:
        return None
    return HighWord(pre, requant.shift + pre - 32)


def clamp_range(clamp: tuple[float, float] | None, grid: Quant) -> tuple[int, int]:
    """The integers that a fused activation allows on a grid: all of int8 without one."""
    if clamp is None:
        return INT8_MIN, INT8_MAX
    low, high = (
        float(np.clip(np.rint(limit / grid.scale) + grid.zero_point, INT8_MIN, INT8_MAX))
        for limit in clamp
    )
    return int(low), int(high)


def accumulator_bound(weights: Array, bias: Array, zero_point: int) -> int:
    """Largest magnitude that bias + sum((x - zp) * w) can reach for any int8 x.

    Args:
        weights: (channels, ...) integers.
        bias: (channels,) integers.
    """
    reach = max(INT8_MAX - zero_point, zero_point - INT8_MIN)
    rows = np.abs(weights.astype(np.int64)).reshape(len(weights), -1).sum(axis=1)
    # Partial sums of the C code start at bias - zp * sum(w): bound those as well.
    folded = np.abs(bias.astype(np.int64)) + abs(zero_point) * rows
    return int((folded + max(reach, 128) * rows).max(initial=0))


def check_accumulator(bound: int, node: str) -> None:
    """Raises UnsupportedModel when an accumulator might leave 32 bits."""
    if bound > INT32_MAX:
        raise UnsupportedModel(
            f"{node}: the accumulator can reach {bound}, beyond 32 bits",
            hint="the layer's bias is too large for its scales, or its dot product is too long",
            node=node,
        )


def template_params(
    requant: Requant, bound: int, zero_point: int, limits: tuple[int, int] = (INT8_MIN, INT8_MAX)
) -> dict[str, object]:
    """The `q` of the templates' requantize macro, for accumulators of at most `bound`."""
    high = high_word(requant, bound)
    common = {"float": False, "zero_point": zero_point, "low": limits[0], "high": limits[1]}
    if high is None:
        rounding = 1 << (requant.shift - 1)
        return {"wide": True, "pre": 0, "shift": requant.shift, "rounding": rounding, **common}
    return {
        "wide": False,
        "pre": high.pre,
        "shift": high.post,
        "rounding": high.rounding,
        **common,
    }


def exact_matmul(x: Array, w: Array) -> npt.NDArray[np.int32]:
    """x (..., K) times w (N, K) transposed, exact, in int32.

    Done in floating point, because BLAS is: float32 holds every sum below 2**24, float64 below 2**53.
    """
    reach = int(np.abs(w.astype(np.int64)).sum(axis=1).max(initial=0)) * 255
    dtype = np.float32 if reach < 2**24 else np.float64
    product: npt.NDArray[np.int32] = (x.astype(dtype) @ w.T.astype(dtype)).astype(np.int32)
    return product


def stable_matmul(x: Array, w: Array) -> npt.NDArray[np.float32]:
    """x (..., K) times w (N, K) transposed, float32, alike on every machine.

    BLAS adds in an order of its own on every processor and number of threads. In float64 its differences
    vanish when the sum is rounded to float32, save for sums within 2**-29 of a tie. Without it, weights
    rounded one after the other (codegen.quant.rounding.gptq) would differ from machine to machine.
    """
    product: npt.NDArray[np.float32] = (x.astype(np.float64) @ w.T.astype(np.float64)).astype(
        np.float32
    )
    return product
