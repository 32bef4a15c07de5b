"""The error function: an odd polynomial up to 1, beyond it 1 - exp(polynomial), the polynomial being a fit of
log(erfc(x)) (Abramowitz and Stegun, Handbook of Mathematical Functions, chapter 7, for the definitions).
"""

from __future__ import annotations

import numpy as np

from codegen.real_math.bits import Floats, bits, f, of_bits, pick, polynomial
from codegen.real_math.exponentials import exp


def erf(x: Floats) -> Floats:
    """`real_erf`."""
    a = np.abs(x)
    low = pick((a < f(1), a), otherwise=f(0))
    high = pick(((a >= f(1)) & (a < f(3.95)), a), otherwise=f(1))
    small = low * polynomial(
        low * low,
        1.12837911, -0.37612626, 0.112835854, -0.026853811, 0.00518832728, -0.000801019138, 7.85385491e-05,
    )  # fmt: skip
    large = f(1) - exp(
        polynomial(
            high,
            0.000188037156, -1.12957835, -0.633219898, -0.108418554, 0.0252082422, -0.00420455635,
            0.000441335345, -2.16867666e-05,
        )
    )  # fmt: skip
    found = pick((np.isnan(x), x), (a < f(1), small), (a < f(3.95), large), otherwise=f(1))
    return of_bits(bits(found) | (bits(x) & np.uint32(0x80000000)))
