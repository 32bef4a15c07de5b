"""Functions of float32 numbers, computed step by step as the C in templates/math/ does: same bytes.

NumPy's own differ in the last bits from machine to machine. Every operation here is one rounding of
IEEE 754 binary32, on both sides; the C is compiled without contraction of products and sums.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def rint(x: Floats) -> Floats:
    """`real_rint`: to the nearest whole number, halves to even; -0.0 stays."""
    magnitude = np.abs(x)
    big = np.float32(2**23)
    rounded = (magnitude + big) - big
    return np.where(magnitude < big, np.where(x < 0, -rounded, rounded), x).astype(np.float32)
