"""Powers.

pow: exp2(y log2(x)), log2 in double-float arithmetic (Dekker, A Floating-Point Technique for Extending the
Available Precision, 1971): its relative error of 2**-29 leaves one of 2**-22 after the product with y.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from codegen.real_math.bits import INFINITY, NAN, Floats, bits, f, of_bits, pick, polynomial
from codegen.real_math.exponentials import scaled
from codegen.real_math.logarithms import split
from codegen.real_math.rounding import rint, trunc

TWO_PER_LN2 = f(2.88539)
TWO_PER_LN2_LOW = f(3.85192598e-08)
HIGH_HALF = np.uint32(0xFFFFF000)
FARTHEST = f(8589934592.0)  # 2**33; such a power of the number next to 1 is out of range already

Int64 = npt.NDArray[np.int64]


def product_tail(a: Floats, b: Floats, product: Floats) -> Floats:
    """`real_product_tail`: a * b - product, exactly, for product = a * b rounded."""
    a_high, b_high = of_bits(bits(a) & HIGH_HALF), of_bits(bits(b) & HIGH_HALF)
    a_low, b_low = a - a_high, b - b_high
    return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def log2(x: Floats) -> tuple[Floats, Floats]:
    """`real_log2`: the logarithm of 0 < x < infinity as a sum of two numbers."""
    m, k = split(x)
    u = m + f(1)
    u_low = (m - u) + f(1)
    u_low = pick((m < f(1), (f(1) - u) + m), otherwise=u_low)
    rest = m - f(1)
    s = rest / u
    product = s * u
    s_low = ((rest - product) - product_tail(s, u, product) - s * u_low) / u
    z = s * s
    high = TWO_PER_LN2 * s
    low = product_tail(np.full_like(s, TWO_PER_LN2), s, high)
    low = low + (TWO_PER_LN2 * s_low + TWO_PER_LN2_LOW * s)
    low = low + s * z * polynomial(z, 0.961796701, 0.577082872, 0.411706239, 0.340220451)
    total = k + high
    rest = pick((k == 0, f(0)), otherwise=high - (total - k))
    return total, rest + low


def exp2(high: Floats, low: Floats) -> Floats:
    """`real_exp2`: 2**(high + low) for a small low."""
    inside = (high > f(-151)) & (high < f(128.5))
    kept = pick((inside, high), otherwise=f(0))
    n = rint(kept)
    r = (kept - n) + low
    found = scaled(
        f(1)
        + r
        * polynomial(
            r,
            0.693147182, 0.240226507, 0.0555041023, 0.00961803738, 0.00133339386, 0.000154670081,
            1.5195933e-05,
        ),
        n.astype(np.int32),
    )  # fmt: skip
    return pick((inside, found), (high > 0, INFINITY), otherwise=f(0))


def _magnitude(x: Floats, y: Floats) -> Floats:
    """`real_pow_magnitude`: x**y for x >= 0, neither of them NaN, x not 1, y not 0."""
    usual = (x > 0) & (x < INFINITY)
    high, low = log2(pick((usual, x), otherwise=f(2)))
    bounded = pick((y > FARTHEST, FARTHEST), (y < -FARTHEST, -FARTHEST), otherwise=y)
    product = bounded * high
    rest = product_tail(bounded, high, product) + bounded * low
    grows = (x > f(1)) == (y > 0)
    return pick((usual, exp2(product, rest)), (grows, INFINITY), otherwise=f(0))


def pow(x: Floats, y: Floats) -> Floats:
    """`real_pow`, with C's special cases."""
    x, y = np.broadcast_arrays(x, y)
    whole = trunc(y) == y
    half = y * f(0.5)
    odd = whole & (trunc(half) != half)
    found = _magnitude(np.abs(x), y)
    signed = np.where(odd & (bits(x) >> np.uint32(31) != 0), -found, found)
    return pick(
        ((y == 0) | (x == f(1)), f(1)),
        (np.isnan(x) | np.isnan(y), x + y),
        ((x == f(-1)) & (np.abs(y) == INFINITY), f(1)),
        ((x < 0) & (x > -INFINITY) & ~whole, NAN),
        otherwise=signed,
    )


def int_pow(x: Int64, n: Int64) -> Int64:
    """`real_int_pow`: x**n modulo 2**64; of a negative n the whole part, and 0 of 0."""
    x, n = np.broadcast_arrays(np.asarray(x, np.int64), np.asarray(n, np.int64))
    base, left = x.astype(np.uint64), np.maximum(n, 0).astype(np.uint64)
    total = np.ones_like(base)
    while np.any(left):
        total = np.where((left & np.uint64(1)) != 0, total * base, total)
        base = base * base
        left = left >> np.uint64(1)
    found = total.astype(np.int64)
    inverse = np.where(x == -1, np.where(n & 1, -1, 1), np.where(x == 1, 1, 0))
    return np.where(n < 0, inverse, found)
