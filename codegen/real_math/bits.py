"""float32 numbers as their bits, and constants of that type."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint32]
Ints = npt.NDArray[np.int32]

INFINITY = np.float32(np.inf)
NAN = np.float32(np.nan)


def f(number: float) -> np.float32:
    """A constant as float32."""
    return np.float32(number)


def bits(x: Floats) -> Words:
    """`real_bits`: the representation of each number."""
    return np.ascontiguousarray(x, np.float32).view(np.uint32)


def of_bits(words: Words) -> Floats:
    """`real_of_bits`: the numbers that these are the representations of."""
    return np.ascontiguousarray(words, np.uint32).view(np.float32)


def pick(*choices: tuple[npt.NDArray[np.bool_], object], otherwise: object) -> Floats:
    """The number beside the first condition that holds, element by element."""
    found = np.asarray(otherwise, np.float32)
    for condition, number in reversed(choices):
        found = np.where(condition, np.asarray(number, np.float32), found)
    return np.asarray(found, np.float32)


def polynomial(x: Floats, *coefficients: float) -> Floats:
    """c0 + x * (c1 + x * (c2 + ...)): Horner's scheme, as the C spells it."""
    total = np.full_like(x, f(coefficients[-1]))
    for coefficient in reversed(coefficients[:-1]):
        total = f(coefficient) + x * total
    return total
