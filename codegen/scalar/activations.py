"""Activation functions of float32 numbers, as ONNX defines them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from codegen.real_math import erf, expm1, sigmoid, softplus, tanh
from codegen.scalar.form import Form, Scalar

Numbers = np.ndarray[Any, Any]
ONE, HALF, SIX = np.float32(1), np.float32(0.5), np.float32(6)
ROOT_HALF = np.float32(0.707106769)
GELU_OUTER, GELU_INNER = np.float32(0.797884583), np.float32(0.044715)


def _unit(x: Numbers) -> Numbers:
    """`real_unit`: x within 0 and 1."""
    return np.where(x < 0, np.float32(0), np.where(x > 1, ONE, x))


def _gelu_tanh(a: Numbers) -> Numbers:
    inner = GELU_OUTER * (a + GELU_INNER * (a * a * a))
    return HALF * a * (ONE + tanh(inner))


def _float(compute: Any, c: str, operands: int = 1) -> Scalar:
    return Scalar({"float": Form(compute, c)}, operands)


ACTIVATIONS: Mapping[str, Scalar] = {
    "affine": _float(lambda a, p, q: p * a + q, "{p} * a + {q}"),
    "bound": _float(
        lambda a, p, q: np.where(a < p, p, np.where(a > q, q, a)),
        "a < {p} ? {p} : a > {q} ? {q} : a",
    ),
    "celu": _float(
        lambda a, p: np.where(a > 0, a, p * expm1(a / p)),
        "a > 0.0f ? a : {p} * real_expm1(a / {p})",
    ),
    "elu": _float(
        lambda a, p: np.where(a > 0, a, p * expm1(np.where(a > 0, np.float32(0), a))),
        "a > 0.0f ? a : {p} * real_expm1(a)",
    ),
    "gelu": _float(
        lambda a: HALF * a * (ONE + erf(a * ROOT_HALF)),
        "0.5f * a * (1.0f + real_erf(a * 0.707106769f))",
    ),
    "gelu_tanh": _float(
        _gelu_tanh,
        "0.5f * a * (1.0f + real_tanh(0.797884583f * (a + 0.044715f * (a * a * a))))",
    ),
    "hard_sigmoid": _float(lambda a, p, q: _unit(p * a + q), "real_unit({p} * a + {q})"),
    "hard_swish": _float(lambda a: a * _unit(a / SIX + HALF), "a * real_unit(a / 6.0f + 0.5f)"),
    "leaky_relu": _float(lambda a, p: np.where(a < 0, p * a, a), "a < 0.0f ? {p} * a : a"),
    "log_softmax": _float(lambda a, b, c: (a - b) - c, "(a - b) - c", 3),
    "mish": _float(lambda a: a * tanh(softplus(a)), "a * real_tanh(real_softplus(a))"),
    "prelu": _float(lambda a, b: np.where(a < 0, a * b, a), "a < 0.0f ? a * b : a", 2),
    "relu": Scalar(
        {
            "float": Form(lambda a: np.where(a < 0, np.float32(0), a), "a < 0.0f ? 0.0f : a"),
            "int": Form(lambda a: np.where(a < 0, np.zeros_like(a), a), "a < 0 ? 0 : a"),
        }
    ),
    "scaled_tanh": _float(lambda a, p, q: p * tanh(q * a), "{p} * real_tanh({q} * a)"),
    "selu": _float(
        lambda a, p, q: q * np.where(a > 0, a, p * expm1(np.where(a > 0, np.float32(0), a))),
        "{q} * (a > 0.0f ? a : {p} * real_expm1(a))",
    ),
    "sigmoid": _float(sigmoid, "real_sigmoid(a)"),
    "sign_or": _float(
        lambda a, p: np.where(a > 0, ONE, np.where(a < 0, -ONE, np.where(a == 0, p, a))),
        "a > 0.0f ? 1.0f : a < 0.0f ? -1.0f : a == 0.0f ? {p} : a",
    ),
    "softplus": _float(softplus, "real_softplus(a)"),
    "softsign": _float(lambda a: a / (ONE + np.abs(a)), "a / (1.0f + __builtin_fabsf(a))"),
    "swish": _float(lambda a, p: a * sigmoid(p * a), "a * real_sigmoid({p} * a)"),
    "tanh": _float(tanh, "real_tanh(a)"),
    "thresholded_relu": _float(
        lambda a, p: np.where(a > p, a, np.float32(0)), "a > {p} ? a : 0.0f"
    ),
}
