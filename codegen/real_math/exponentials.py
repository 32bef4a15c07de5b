"""Exponentials, and what is made of them.

exp: Cody and Waite's reduction (Software Manual for the Elementary Functions, 1980, chapter 6):
x = n ln 2 + r with ln 2 in two parts of which the first has so few bits that its product with n is exact. On
|r| <= ln(2)/2 a polynomial, fitted for the least largest relative error.
"""

from __future__ import annotations

import numpy as np

from codegen.real_math.bits import INFINITY, Floats, Ints, f, of_bits, pick, polynomial
from codegen.real_math.logarithms import LN2_HIGH, LN2_LOW, log1p
from codegen.real_math.rounding import rint

PER_LN2 = f(1.44269502)
REDUCED = f(0.346573591)  # ln(2) / 2


def power_of_two(n: Ints) -> Floats:
    """`real_power_of_two`: 2**n for -126 <= n <= 127."""
    return of_bits(((n + 127).astype(np.uint32)) << np.uint32(23))


def scaled(x: Floats, n: Ints) -> Floats:
    """`real_scaled`: x * 2**n for |n| <= 252, in two steps of which only the last can round."""
    half = n >> 1
    return x * power_of_two(half) * power_of_two(n - half)


def tail(r: Floats) -> Floats:
    """`real_exp_tail`: exp(r) - 1 - r for |r| <= ln(2)/2."""
    return r * r * polynomial(r, 0.5, 0.166665211, 0.041668389, 0.00836871937, 0.0013814593)


def exp(x: Floats) -> Floats:
    """`real_exp`."""
    inside = (x > f(-104)) & (x < f(88.7228394))
    kept = pick((inside, x), otherwise=f(0))
    n = rint(kept * PER_LN2)
    r = (kept - n * LN2_HIGH) - n * LN2_LOW
    found = scaled(f(1) + (r + tail(r)), n.astype(np.int32))
    return pick((np.isnan(x), x), (x <= f(-104), f(0)), (~inside, INFINITY), otherwise=found)


def expm1(x: Floats) -> Floats:
    """`real_expm1`: exp(x) - 1 without cancellation around zero; -0.0 stays."""
    near = np.abs(x) < REDUCED
    small = pick((near, x), otherwise=f(0))
    return pick((x == 0, x), (near, small + tail(small)), otherwise=exp(x) - f(1))


def sigmoid(x: Floats) -> Floats:
    """`real_sigmoid`: 1 / (1 + exp(-x)), by the exponential of a number that is not positive."""
    e = exp(-np.abs(x))
    return pick((x < 0, e / (f(1) + e)), otherwise=f(1) / (f(1) + e))


def tanh(x: Floats) -> Floats:
    """`real_tanh`: by expm1(-2|x|); -0.0 stays."""
    e = expm1(f(-2) * np.abs(x))
    found = -e / (e + f(2))
    return pick((x == 0, x), (x < 0, -found), otherwise=found)


def softplus(x: Floats) -> Floats:
    """`real_softplus`: log(1 + exp(x))."""
    rest = log1p(exp(-np.abs(x)))
    return pick((x > 0, x + rest), otherwise=rest)
