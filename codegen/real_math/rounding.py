"""Rounding, square roots and remainders: exact, or correctly rounded."""

from __future__ import annotations

import numpy as np

from codegen.real_math.bits import NAN, Floats, bits, f, of_bits, pick

BIG = f(2**23)  # from here on all numbers are whole


def rint(x: Floats) -> Floats:
    """`real_rint`: to the nearest whole number, halves to even; -0.0 stays."""
    magnitude = np.abs(x)
    rounded = (magnitude + BIG) - BIG
    signed = of_bits(bits(rounded) | (bits(x) & np.uint32(0x80000000)))
    return pick((magnitude < BIG, signed), otherwise=x)


def trunc(x: Floats) -> Floats:
    """`real_trunc`: without what is behind the point; -0.0 stays, and -0.5 becomes -0.0."""
    small = np.abs(x) < BIG
    whole = np.where(small, x, f(0)).astype(np.int32).astype(np.float32)
    signed = of_bits(bits(whole) | (bits(x) & np.uint32(0x80000000)))
    return pick((small, signed), otherwise=x)


def floor(x: Floats) -> Floats:
    """`real_floor`: the largest whole number that is not larger."""
    whole = trunc(x)
    return pick((whole > x, whole - f(1)), otherwise=whole)


def ceil(x: Floats) -> Floats:
    """`real_ceil`: the smallest whole number that is not smaller; -0.5 becomes -0.0."""
    whole = trunc(x)
    return pick((whole < x, whole + f(1)), otherwise=whole)


def sqrt(x: Floats) -> Floats:
    """`real_sqrt`: correctly rounded, which makes NumPy's the same."""
    return pick((x < 0, NAN), otherwise=np.sqrt(x))


def fmod(x: Floats, y: Floats) -> Floats:
    """`real_fmod`: the remainder of a division towards zero, exact, which makes NumPy's the same."""
    return pick((np.isfinite(x) & (y != 0) & ~np.isnan(y), np.fmod(x, y)), otherwise=NAN)


def modulo(x: Floats, y: Floats) -> Floats:
    """`real_modulo`: the remainder with the sign of the divisor, as Python's %."""
    rest = fmod(x, y)
    zero = of_bits(bits(y) & np.uint32(0x80000000))
    apart = (rest < 0) != (y < 0)
    return pick(
        (np.isnan(rest), rest),
        (rest == 0, zero),
        (apart, rest + y),
        otherwise=rest,
    )
