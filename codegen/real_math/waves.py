"""Sine and cosine.

Reduction after Payne and Hanek (Radian Reduction for Trigonometric Functions, 1983): the mantissa is
multiplied, in integers, with the 96 bits of 2/pi that decide quadrant and fraction. It is exact to 2**-62
of a quadrant for every float32 number, and cheap on cores without floating point.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from codegen.real_math.bits import INFINITY, NAN, Floats, bits, f, pick, polynomial

TWO_OVER_PI = np.array(
    [0, 0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0, 0xDB629599, 0x3C439041, 0xFE5163AB], np.uint64
)  # fmt: skip
QUARTER = f(0.785398185)
UNIT = f(3.40612167e-19)  # pi / 2 in units of 2**62

Quadrants = npt.NDArray[np.uint32]
Longs = npt.NDArray[np.uint64]


def _word(first: npt.NDArray[np.int64], at: int, shift: npt.NDArray[np.uint64]) -> Longs:
    both = (TWO_OVER_PI[first + at] << np.uint64(32)) | TWO_OVER_PI[first + at + 1]
    return (both << shift) >> np.uint64(32)


def reduced(x: Floats) -> tuple[Floats, Quadrants]:
    """`real_quadrant`: |x| = r + q pi/2 with |r| <= pi/4, q modulo 4; |x| finite."""
    words = bits(np.abs(x))
    exponent = words >> np.uint32(23)
    near = np.abs(x) <= QUARTER
    position = np.where(near, 126, exponent).astype(np.int64) - 120
    first, shift = position >> 5, (position & 31).astype(np.uint64)
    mantissa = ((words & np.uint32(0x007FFFFF)) | np.uint32(0x00800000)).astype(np.uint64)
    product = (mantissa * _word(first, 2, shift)) >> np.uint64(32)
    product = product + mantissa * _word(first, 1, shift)
    product = product + ((mantissa * _word(first, 0, shift)) << np.uint64(32))
    quadrant = (product + np.uint64(1 << 61)) >> np.uint64(62)
    fraction = (product - (quadrant << np.uint64(62))).view(np.int64).astype(np.float32) * UNIT
    return (
        pick((near, np.abs(x)), otherwise=fraction),
        np.where(near, 0, quadrant & np.uint64(3)).astype(np.uint32),
    )


def _wave(r: Floats, quadrant: Quadrants) -> Floats:
    """`real_wave`: the sine of r + quadrant pi/2."""
    z = r * r
    sine = r + r * z * polynomial(z, -0.166666552, 0.008332178, -0.000195172732)
    cosine = (f(1) - f(0.5) * z) + z * z * polynomial(
        z, 0.0416666456, -0.00138873165, 2.44331277e-05
    )
    found = np.where((quadrant & 1) != 0, cosine, sine)
    return np.where((quadrant & 2) != 0, -found, found).astype(np.float32)


def sin(x: Floats) -> Floats:
    """`real_sin`; -0.0 stays."""
    finite = np.abs(x) < INFINITY
    r, quadrant = reduced(pick((finite, x), otherwise=f(0)))
    found = _wave(r, quadrant)
    return pick((~finite, NAN), (x == 0, x), (x < 0, -found), otherwise=found)


def cos(x: Floats) -> Floats:
    """`real_cos`."""
    finite = np.abs(x) < INFINITY
    r, quadrant = reduced(pick((finite, x), otherwise=f(0)))
    return pick((~finite, NAN), otherwise=_wave(r, quadrant + np.uint32(1)))
