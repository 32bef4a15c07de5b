"""Logarithms.

log: x = m 2**k with sqrt(1/2) <= m < sqrt(2); with f = m - 1 and s = f / (2 + f), log(m) = 2 atanh(s)
= f - s (f - R(s²)), where R is a polynomial (Muller, Elementary Functions, 2016, chapter 11).
log1p: Kahan's correction of log(1 + x) for the rounding of 1 + x (Goldberg, What Every Computer Scientist
Should Know About Floating-Point Arithmetic, 1991, theorem 4).
"""

from __future__ import annotations

import numpy as np

from codegen.real_math.bits import INFINITY, NAN, Floats, bits, f, of_bits, pick, polynomial

LN2_HIGH = f(0.692382812)
LN2_LOW = f(0.000764368044)
SQRT_HALF = np.uint32(0x3F3504F3)


def split(x: Floats) -> tuple[Floats, Floats]:
    """`real_mantissa`, `real_exponent`: x = m * 2**k, sqrt(1/2) <= m < sqrt(2); 0 < x < infinity."""
    tiny = x < f(1.17549435e-38)
    words = bits(pick((tiny, x * f(2**25)), otherwise=x))
    moved = words - SQRT_HALF
    exponent = moved.view(np.int32) >> 23
    mantissa = of_bits((moved & np.uint32(0x007FFFFF)) + SQRT_HALF)
    return mantissa, (exponent - np.where(tiny, 25, 0)).astype(np.float32)


def log(x: Floats) -> Floats:
    """`real_log`: of 0 minus infinity, of negative numbers NaN."""
    inside = (x > 0) & (x < INFINITY)
    m, k = split(pick((inside, x), otherwise=f(1)))
    rest = m - f(1)
    s = rest / (f(2) + rest)
    z = s * s
    r = z * polynomial(z, 0.666667759, 0.399775386, 0.298718542)
    found = k * LN2_HIGH + (rest - (s * (rest - r) - k * LN2_LOW))
    return pick((inside, found), (x == 0, -INFINITY), (x < 0, NAN), otherwise=x)


def log1p(x: Floats) -> Floats:
    """`real_log1p`: log(1 + x)."""
    u = f(1) + x
    off = u - f(1)
    safe = pick((off == 0, f(1)), otherwise=off)
    found = log(u) * (x / safe)
    return pick((off == 0, x), (u == INFINITY, u), otherwise=found)
