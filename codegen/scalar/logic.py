"""Comparisons, choices, and operations on truth values and bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from codegen.scalar.form import Form, Scalar

Numbers = np.ndarray[Any, Any]
ANY = "float int uint bool"
INTS = "int uint"


def _comparison(compute: Any, c: str) -> Scalar:
    return Scalar({ANY: Form(compute, c)}, 2, "bool", few_bits=True)


def _bitwise(compute: Any, c: str, operands: int = 2) -> Scalar:
    return Scalar({INTS: Form(compute, c)}, operands)


def _truth(compute: Any, c: str, operands: int = 2) -> Scalar:
    return Scalar({"bool": Form(compute, c)}, operands)


def _amount(a: Numbers, b: Numbers) -> tuple[Numbers, Numbers]:
    """Which shifts stay within the width, and by how much."""
    inside = (b >= 0) & (b < 8 * a.dtype.itemsize)
    return inside, np.where(inside, b, np.zeros_like(b))


def _left(a: Numbers, b: Numbers) -> Numbers:
    inside, amount = _amount(a, b)
    return np.where(inside, np.left_shift(a, amount), np.zeros_like(a))


def _right(a: Numbers, b: Numbers) -> Numbers:
    inside, amount = _amount(a, b)
    return np.where(inside, np.right_shift(a, amount), np.where(a < 0, -np.ones_like(a), 0 * a))


def _right_unsigned(a: Numbers, b: Numbers) -> Numbers:
    inside, amount = _amount(a, b)
    return np.where(inside, np.right_shift(a, amount), np.zeros_like(a))


LOGIC: Mapping[str, Scalar] = {
    "and": _truth(np.logical_and, "a != 0u && b != 0u"),
    "bit_and": _bitwise(np.bitwise_and, "a & b"),
    "bit_not": _bitwise(np.bitwise_not, "~a", 1),
    "bit_or": _bitwise(np.bitwise_or, "a | b"),
    "bit_xor": _bitwise(np.bitwise_xor, "a ^ b"),
    "equal": _comparison(np.equal, "a == b"),
    "greater": _comparison(np.greater, "a > b"),
    "greater_equal": _comparison(np.greater_equal, "a >= b"),
    "is_inf": Scalar(
        {"float": Form(np.isinf, "__builtin_fabsf(a) == __builtin_inff()")}, 1, "bool"
    ),
    "is_nan": Scalar({"float": Form(np.isnan, "a != a")}, 1, "bool"),
    "is_negative_inf": Scalar({"float": Form(np.isneginf, "a == -__builtin_inff()")}, 1, "bool"),
    "is_positive_inf": Scalar({"float": Form(np.isposinf, "a == __builtin_inff()")}, 1, "bool"),
    "less": _comparison(np.less, "a < b"),
    "less_equal": _comparison(np.less_equal, "a <= b"),
    "not": _truth(np.logical_not, "a == 0u", 1),
    "or": _truth(np.logical_or, "a != 0u || b != 0u"),
    "shift_left": Scalar(
        {
            "int": Form(_left, "b < 0 || b >= {bits} ? 0u : ({u})a << b"),
            "uint": Form(_left, "b >= {bits}u ? 0u : ({u})a << b"),
        },
        2,
    ),
    "shift_right": Scalar(
        {
            "int": Form(
                _right, "b < 0 || b >= {bits} ? (a < 0 ? -1 : 0) : a < 0 ? ~(~a >> b) : a >> b"
            ),
            "uint": Form(_right_unsigned, "b >= {bits}u ? 0u : ({u})a >> b"),
        },
        2,
    ),
    "where": Scalar({ANY: Form(np.where, "a != 0u ? b : c")}, 3, condition=True, few_bits=True),
    "xor": _truth(np.logical_xor, "(a != 0u) != (b != 0u)"),
}
"""Shifts by less than zero or by the width and more push all bits out."""
