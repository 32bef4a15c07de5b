"""Functions of float32 numbers, computed step by step as the C in templates/math/ does: same bytes.

NumPy's own differ in the last bits from machine to machine. Every operation here is one rounding of
IEEE 754 binary32, or integer arithmetic, on both sides; the C is compiled without contraction of products
and sums. `name` here is `real_name` there. Which bits a NaN has is not promised.
"""

from __future__ import annotations

from codegen.real_math.errors import erf
from codegen.real_math.exponentials import exp, expm1, sigmoid, softplus, tanh
from codegen.real_math.logarithms import log, log1p
from codegen.real_math.powers import int_pow, pow
from codegen.real_math.rounding import ceil, floor, fmod, modulo, rint, sqrt, trunc
from codegen.real_math.waves import cos, sin

__all__ = [
    "ceil",
    "cos",
    "erf",
    "exp",
    "expm1",
    "floor",
    "fmod",
    "int_pow",
    "log",
    "log1p",
    "modulo",
    "pow",
    "rint",
    "sigmoid",
    "sin",
    "softplus",
    "sqrt",
    "tanh",
    "trunc",
]
