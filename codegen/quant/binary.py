"""Integers of binary layers, exact: where a sign changes, and how sums become int8.

A sign of `slope * q + offset` over integers q is one comparison with an integer. It is found in rational
arithmetic, so that no rounding of ours moves it.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import ceil, floor

import numpy as np
import numpy.typing as npt

from codegen.ir import Array, IntArray, Node, Quant, Tensor
from codegen.ops.binarize import Binarize
from codegen.ops.binary_conv2d import BinaryConv2D
from targets.errors import UnsupportedModel

INT32_LIMIT = 2**31 - 1
MOST_SHIFT = 30
INT8_REACH = 129  # beyond it every value saturates


def threshold(slope: float, offset: float, zero: int, step: float = 1.0) -> tuple[Fraction, bool]:
    """The least integer q with a set bit, and whether the bit is flipped: set below it instead.

    The bit is set where slope * step * q + offset is positive, or zero and `zero` is +1. A slope of 0
    gives a threshold of plus or minus infinity, as a number beyond every sum.
    """
    value = Fraction(offset)
    if slope == 0:
        is_set = value > 0 or (value == 0 and zero > 0)
        return Fraction(-(2**31) if is_set else 2**31), False
    edge = -value / (Fraction(slope) * Fraction(step))
    rising = slope > 0
    # The edge itself belongs to the upper side where it is set and the slope rises, or neither.
    closed = (zero > 0) == rising
    return Fraction(ceil(edge) if closed else floor(edge) + 1), not rising


def thresholds(
    slopes: Array, offsets: Array, zero: int, step: float, limits: tuple[int, int]
) -> tuple[IntArray, IntArray]:
    """Thresholds of every channel within limits, and flips (0 or 1)."""
    pairs = [
        threshold(float(slope), float(offset), zero, step)
        for slope, offset in zip(slopes, offsets, strict=True)
    ]
    low, high = limits
    found = np.array([max(low, min(high, int(edge))) for edge, _ in pairs], np.int64)
    return found, np.array([flip for _, flip in pairs], np.int64)


def meets_zero(slopes: Array, offsets: Array, length: int) -> bool:
    """Whether slope * q + offset can be exactly 0 for a sum q of so many signs."""
    for slope, offset in zip(slopes.tolist(), offsets.tolist(), strict=True):
        if slope == 0:
            if offset == 0:
                return True
            continue
        edge = Fraction(offset) / Fraction(slope)
        if edge.denominator == 1 and abs(edge) <= length:
            return True
    return False


def scaling(
    scales: npt.NDArray[np.float64],
    offsets: npt.NDArray[np.float64],
    length: int,
    label: str,
) -> tuple[IntArray, IntArray, int]:
    """Multipliers, addends and the shift of (sum * multiplier + addend) >> shift, all within 32 bits.

    Args:
        scales: steps of the output per unit of a sum, by channel; not negative.
        offsets: steps of the output for a sum of 0, zero point and half a step included.
        length: most products of a sum, hence its largest magnitude.
        label: the layer, for messages.

    Raises:
        UnsupportedModel: sums times scales leave 32 bits.
    """
    # An offset that saturates whatever the sum is may as well saturate by less.
    reach = scales * length + INT8_REACH
    offsets = np.clip(offsets, -reach, reach)
    most = float((scales * length + np.abs(offsets)).max(initial=0.0)) + 1.0
    shift = MOST_SHIFT
    while shift > 0 and most * 2.0**shift + length > INT32_LIMIT:
        shift -= 1
    if shift < 1:
        raise UnsupportedModel(
            f"{label}: sums of signs times their scale do not fit 32 bits",
            hint="the calibrated range of its output is too small for its sums",
            node=label,
        )
    multipliers: IntArray = np.rint(scales * 2.0**shift).astype(np.int64)
    addends: IntArray = np.rint(offsets * 2.0**shift).astype(np.int64)
    return multipliers, addends, shift


def quantized(
    node: Node, x: Tensor, constants: tuple[Tensor, ...], out: Tensor
) -> tuple[Node, tuple[Tensor, ...]]:
    """A layer of signs with integers for its constants, and these.

    Args:
        node: a Binarize or BinaryConv2D of a float graph.
        x: its input, on a grid.
        constants: its other operands, float32.
        out: its output, on a grid.
    """
    if isinstance(node.op, Binarize):
        integers = _of_binarize(node.op, node.output, x, constants)
        return replace(node, inputs=(x.name, *(t.name for t in integers))), integers
    assert isinstance(node.op, BinaryConv2D)
    w, scale, offset = constants
    length = w.size // w.shape[0]
    weights = _constant(f"{node.output}.weights", w.values, "int8", 8)
    step = x.grid.scale
    shift = 0
    if node.op.binary:
        limits = (-length, length + 1)
        edges, _ = thresholds(scale.values, offset.values, node.op.zero, step, limits)
        rest: tuple[Tensor, ...] = (_constant(f"{node.output}.thresholds", edges, "int32", 32),)
    else:
        y = out.grid
        steps = scale.values.astype(np.float64) * step / y.scale
        starts = offset.values.astype(np.float64) / y.scale + y.zero_point + 0.5
        multipliers, addends, shift = scaling(steps, starts, length, node.label)
        rest = (
            _constant(f"{node.output}.multipliers", multipliers, "int32", 32),
            _constant(f"{node.output}.addends", addends, "int32", 32),
        )
    integers = (weights, *rest)
    op = replace(node.op, shift=shift)
    return replace(node, op=op, inputs=(x.name, *(t.name for t in integers))), integers


def _of_binarize(
    op: Binarize, name: str, x: Tensor, constants: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    zero_point = x.grid.zero_point
    slopes, offsets = (tensor.values for tensor in constants)
    limits = (-128 - zero_point, 128 - zero_point)
    edges, flips = thresholds(slopes, offsets, op.zero, x.grid.scale, limits)
    return (
        _constant(f"{name}.thresholds", edges + zero_point, "int16", 16),
        _constant(f"{name}.flips", flips, "int8", 8),
    )


def _constant(name: str, values: Array, dtype: str, width: int) -> Tensor:
    grid = Quant((1.0,), (0,), None, width)
    return Tensor(name, values.shape, grid, values.astype(dtype))
