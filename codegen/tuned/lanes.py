"""What kernels for the DSP extension share: when SMMLA and SSAT requantize, and words of packed halves.

`SMMLA o, acc, M, R` then `SSAT o, #8, o, asr #t` is the rule clamp(zp + ((acc * M + 2**(s-1)) >> s)) exactly,
with t = s - 32 and R = 2**(t-1) + (zp << t): the rounding constant is a multiple of 2**32 once t >= 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codegen.ir import Array, IntArray, Tensor
from codegen.kernel import Constant
from codegen.quant.fixed import INT8_MAX, INT8_MIN
from codegen.requantize import Scaling

EVEN_ODD = (0, 2, 1, 3)  # order in which SXTB16 and SXTB16 ROR #8 deliver the bytes of a word
ADDEND_LIMIT = 1 << 30  # |R| below it: R + high word never leaves 32 bits


@dataclass(frozen=True, slots=True)
class Lane:
    """Requantization of accumulators that hold 2**scale times the sum."""

    shift: int
    addend: int
    low: int
    high: int

    def params(self) -> dict[str, object]:
        """For templates. A clamp is None where saturation to int8 does its work."""
        return {
            "shift": self.shift,
            "addend": self.addend,
            "low": self.low if self.low > INT8_MIN else None,
            "high": self.high if self.high < INT8_MAX else None,
        }


def lane(scaling: Scaling, scale: int = 0) -> Lane | None:
    """The two-instruction form of a rule; None when it has none."""
    q = scaling.q
    if scaling.shifts is not None or q["float"] or q["wide"] or q["pre"]:
        return None
    numbers = [q[key] for key in ("shift", "zero_point", "low", "high")]
    post, zero_point, low, high = (int(n) for n in numbers if isinstance(n, int))
    shift = post + scale
    addend = (1 << (shift - 1)) + (zero_point << shift)
    if not 1 <= shift <= 31 or abs(addend) >= ADDEND_LIMIT:
        return None
    return Lane(shift, addend, low, high)


def halves(low: IntArray, high: IntArray) -> IntArray:
    """Words of two 16-bit halves, as signed 32-bit integers."""
    words = (low.astype(np.int64) & 0xFFFF) | ((high.astype(np.int64) & 0xFFFF) << 16)
    return signed(words)


def signed(words: IntArray) -> IntArray:
    """Words modulo 2**32 as signed 32-bit integers."""
    wrapped: IntArray = ((words.astype(np.int64) + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
    return wrapped


def stream(words: IntArray, weight_bytes: int) -> Constant:
    """All that a kernel reads from flash, in the order in which it reads it."""
    return Constant("stream", "int32_t", words, weight_bytes)


def folded_bias(x: Tensor, w: Tensor, b: Tensor) -> IntArray:
    """bias - zp * sum(w): what the sums of raw inputs start from."""
    values: Array = w.values.astype(np.int64).reshape(len(w.values), -1)
    bias: IntArray = b.values.astype(np.int64) - x.grid.zero_point * values.sum(axis=1)
    return bias
