"""Arithmetic. Sums, differences and products of integers wrap; a division by zero gives 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from codegen import real_math
from codegen.scalar.form import Form, Scalar

Numbers = np.ndarray[Any, Any]
INTS = "int uint"
ALL = "float int uint"


def _divisor(a: Numbers, b: Numbers) -> Numbers:
    """The divisor, or 1 where the processor would trap or overflow."""
    return np.where((b == 0) | (b == -1), np.ones_like(b), b)


def _int_quotient(a: Numbers, b: Numbers) -> Numbers:
    safe = _divisor(a, b)
    floored = a // safe
    short = floored + ((floored < 0) & (floored * safe != a)).astype(a.dtype)
    return np.where(b == 0, np.zeros_like(short), np.where(b == -1, np.negative(a), short))


def _uint_quotient(a: Numbers, b: Numbers) -> Numbers:
    return np.where(b == 0, np.zeros_like(a), a // np.where(b == 0, np.ones_like(b), b))


def _int_modulo(a: Numbers, b: Numbers) -> Numbers:
    return np.where((b == 0) | (b == -1), np.zeros_like(a), np.remainder(a, _divisor(a, b)))


def _int_rest(a: Numbers, b: Numbers) -> Numbers:
    return np.where((b == 0) | (b == -1), np.zeros_like(a), np.fmod(a, _divisor(a, b)))


def _uint_rest(a: Numbers, b: Numbers) -> Numbers:
    return np.where(b == 0, np.zeros_like(a), np.fmod(a, np.where(b == 0, np.ones_like(b), b)))


def _maximum(a: Numbers, b: Numbers) -> Numbers:
    return np.where(np.isnan(a) | (a > b), a, b)


def _minimum(a: Numbers, b: Numbers) -> Numbers:
    return np.where(np.isnan(a) | (a < b), a, b)


def _clip(a: Numbers, low: Numbers, high: Numbers) -> Numbers:
    raised = np.where(a < low, low, a)
    return np.where(raised > high, high, raised)


def _sign(a: Numbers) -> Numbers:
    return np.where(a > 0, np.ones_like(a), np.where(a < 0, -np.ones_like(a), a))


def _whole(function: Any, c: str) -> Scalar:
    return Scalar({"float": Form(function, f"{c}(a)"), INTS: Form(lambda a: a, "a")})


def _real(function: Any, c: str, operands: int = 1) -> Scalar:
    names = ", ".join("abc"[:operands])
    return Scalar({"float": Form(function, f"{c}({names})")}, operands)


_INT_MODULO = "b == 0 || b == -1 ? 0 : a % b != 0 && (a % b < 0) != (b < 0) ? a % b + b : a % b"
_BOUNDED = "a < b ? (b > c ? c : b) : a > c ? c : a"

ARITHMETIC: Mapping[str, Scalar] = {
    "abs": Scalar(
        {
            "float": Form(np.abs, "__builtin_fabsf(a)"),
            "int": Form(np.abs, "a < 0 ? 0u - ({u})a : ({u})a"),
            "uint": Form(np.abs, "a"),
        }
    ),
    "add": Scalar({"float": Form(np.add, "a + b"), INTS: Form(np.add, "({u})a + ({u})b")}, 2),
    "ceil": _whole(real_math.ceil, "real_ceil"),
    "clip": Scalar({ALL: Form(_clip, _BOUNDED)}, 3, few_bits=True),
    "cos": _real(real_math.cos, "real_cos"),
    "divide": Scalar(
        {
            "float": Form(np.divide, "a / b"),
            "int": Form(
                _int_quotient, "b == 0 ? 0u : b == -1 ? 0u - ({u})a : ({u})(a / (b == 0 ? 1 : b))"
            ),
            "uint": Form(_uint_quotient, "b == 0u ? 0u : a / b"),
        },
        2,
    ),
    "erf": _real(real_math.erf, "real_erf"),
    "exp": _real(real_math.exp, "real_exp"),
    "exp_difference": Scalar(
        {"float": Form(lambda a, b: real_math.exp(a - b), "real_exp(a - b)")}, 2
    ),
    "floor": _whole(real_math.floor, "real_floor"),
    "fmod": Scalar(
        {
            "float": Form(real_math.fmod, "real_fmod(a, b)"),
            "int": Form(_int_rest, "b == 0 || b == -1 ? 0 : a % b"),
            "uint": Form(_uint_rest, "b == 0u ? 0u : a % b"),
        },
        2,
    ),
    "log": _real(real_math.log, "real_log"),
    "maximum": Scalar(
        {
            "float": Form(_maximum, "a != a || a > b ? a : b"),
            INTS: Form(np.maximum, "a > b ? a : b"),
            "bool": Form(np.maximum, "a | b"),
        },
        2,
    ),
    "minimum": Scalar(
        {
            "float": Form(_minimum, "a != a || a < b ? a : b"),
            INTS: Form(np.minimum, "a < b ? a : b"),
            "bool": Form(np.minimum, "a & b"),
        },
        2,
    ),
    "modulo": Scalar(
        {
            "float": Form(real_math.modulo, "real_modulo(a, b)"),
            "int": Form(_int_modulo, _INT_MODULO),
            "uint": Form(_uint_rest, "b == 0u ? 0u : a % b"),
        },
        2,
    ),
    "multiply": Scalar(
        {"float": Form(np.multiply, "a * b"), INTS: Form(np.multiply, "({u})a * ({u})b")}, 2
    ),
    "multiply_add": Scalar(
        {"float": Form(lambda a, b, c: a * b + c, "a * b + c")}, 3
    ),  # two roundings
    "negative": Scalar({"float": Form(np.negative, "-a"), "int": Form(np.negative, "0u - ({u})a")}),
    "power": Scalar(
        {
            "float": Form(real_math.pow, "real_pow(a, b)"),
            INTS: Form(lambda a, b: real_math.int_pow(a, b).astype(a.dtype), "real_int_pow(a, b)"),
        },
        2,
    ),
    "reciprocal": Scalar({"float": Form(lambda a: np.float32(1) / a, "1.0f / a")}),
    "round": _whole(real_math.rint, "real_rint"),
    "sign": Scalar(
        {
            "float": Form(_sign, "a > 0.0f ? 1.0f : a < 0.0f ? -1.0f : a"),
            "int": Form(_sign, "a > 0 ? 1 : a < 0 ? -1 : 0"),
            "uint": Form(np.sign, "a > 0u ? 1u : 0u"),
        }
    ),
    "sin": _real(real_math.sin, "real_sin"),
    "sqrt": _real(real_math.sqrt, "real_sqrt"),
    "square": Scalar({"float": Form(lambda a: a * a, "a * a")}),
    "subtract": Scalar(
        {"float": Form(np.subtract, "a - b"), INTS: Form(np.subtract, "({u})a - ({u})b")}, 2
    ),
    "trunc": _whole(real_math.trunc, "real_trunc"),
    "weigh": Scalar({"float": Form(lambda a, p: a * p, "a * {p}")}),
}
