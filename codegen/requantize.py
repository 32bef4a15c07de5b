"""How layers with weights come back to int8: the rule, and what their kernels need for it."""

from __future__ import annotations

from typing import Literal

import numpy as np

from codegen.ir import IntArray, Quant, Tensor
from codegen.kernel import Constant
from codegen.quant.fixed import (
    Requant,
    accumulator_bound,
    check_accumulator,
    requantization,
    template_params,
)
from codegen.quant.float_rounding import FloatRequant, float_scales

Rounding = Literal["half_up", "float32"]


def rule(x: Quant, w: Quant, y: Quant, rounding: Rounding, label: str) -> Requant | FloatRequant:
    """The requantization of a layer: ours, or ONNX's for models that arrived quantized."""
    if rounding == "float32":
        return FloatRequant(float_scales(x, w, y), label)
    return requantization((np.array(w.scales) * x.scale / y.scale).tolist(), label)


def emitted(
    requant: Requant | FloatRequant,
    operands: tuple[Tensor, Tensor, Tensor],
    y: Quant,
    limits: tuple[int, int],
    label: str,
) -> tuple[tuple[Constant, ...], dict[str, object]]:
    """Constants and the templates' `q` for a layer with operands x, w, b.

    Raises:
        UnsupportedModel: the accumulator may leave 32 bits.
    """
    x, w, b = operands
    bound = accumulator_bound(w.values, b.values, x.grid.zero_point)
    check_accumulator(bound, label)
    if isinstance(requant, FloatRequant):
        fitted = requant.fitted(*reach(x.grid, w, b), y.zero_point)
        if fitted is None:
            return _exact(requant, y, limits)
        requant = fitted
    multipliers = Constant("multipliers", "int32_t", np.array(requant.multipliers))
    return (multipliers,), template_params(requant, bound, y.zero_point, limits)


def _exact(
    requant: FloatRequant, y: Quant, limits: tuple[int, int]
) -> tuple[tuple[Constant, ...], dict[str, object]]:
    mantissas, shifts = requant.parts()
    constants = (
        Constant("multipliers", "int32_t", mantissas),
        Constant("shifts", "uint8_t", shifts),
    )
    low, high = limits
    return constants, {"float": True, "zero_point": y.zero_point, "low": low, "high": high}


def reach(x: Quant, w: Tensor, b: Tensor) -> tuple[IntArray, IntArray]:
    """Least and largest accumulator of every channel, over all int8 inputs."""
    weights = w.values.astype(np.int64).reshape(len(w.values), -1)
    ends = weights * (-128 - x.zero_point), weights * (127 - x.zero_point)
    bias = b.values.astype(np.int64)
    return bias + np.minimum(*ends).sum(axis=1), bias + np.maximum(*ends).sum(axis=1)
