"""Arithmetic of recurrent cells on integers: gates in 16 bits, as the C of templates/ops/gated.c.j2 does it.

What a gate adds up is held with 12 fractional bits (-8 to 8), results of sigmoid and tanh with 15. Both
functions are tables of 257 points with straight lines between them: sigmoid errs by 5e-5 at most, tanh by
4e-4. The state has 16 bits: rounding to 8 at every step would add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

import numpy as np
import numpy.typing as npt

from codegen.ir import IntArray, Quant

FRACTION = 12  # bits of a gate's sum
RESULT = 15  # bits of a gate's result
INTERVALS = 256
BIAS_FRACTION = 20
MOST_BIAS = 64.0  # far beyond what saturates a gate
MOST_SHIFT = 38
HIDDEN_SCALE = 1 / 128
INT16 = np.iinfo(np.int16)

Int16Array = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """How a row's sums become a gate's: (x_sum * x + h_sum * h + (bias << shift - 8) + half) >> shift.

    Attributes:
        x, h: multipliers, int64 (rows,), below 2^31.
        shift: int64 (rows,), 8 to 38.
    """

    x: IntArray
    h: IntArray
    shift: IntArray


def scaling(x: Quant, w: Quant, r: Quant) -> Scaling:
    """The multipliers for an input's grid and grids of weights with a scale per row."""
    unit = float(1 << FRACTION)
    from_x = x.scale * np.array(w.scales) * unit
    from_h = HIDDEN_SCALE * np.array(r.scales) * unit
    largest = np.maximum(from_x, from_h)
    shift = np.array([min(MOST_SHIFT, 30 - ceil(log2(value))) for value in largest], np.int64)
    steps = np.exp2(shift.astype(np.float64))
    return Scaling(
        np.rint(from_x * steps).astype(np.int64), np.rint(from_h * steps).astype(np.int64), shift
    )


def bias_integers(bias: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """Biases with 20 fractional bits."""
    limited = np.clip(bias, -MOST_BIAS, MOST_BIAS)
    return np.asarray(np.rint(limited * (1 << BIAS_FRACTION)), np.int32)


def gate_sums(total: IntArray, bias: IntArray, shift: IntArray) -> IntArray:
    """Scaled sums and a bias as what a gate's function takes."""
    whole = total + (bias << (shift - (BIAS_FRACTION - FRACTION))) + (1 << (shift - 1))
    return saturated(whole >> shift)


def saturated(values: IntArray) -> IntArray:
    """The nearest numbers of 16 bits."""
    return np.clip(values, INT16.min, INT16.max)


def sigmoid_table() -> Int16Array:
    """257 points of the logistic function from -8 to 8."""
    return _points(1 / (1 + np.exp(-_grid())))


def tanh_table() -> Int16Array:
    """257 points of tanh from -8 to 8."""
    return _points(np.tanh(_grid()))


def _grid() -> npt.NDArray[np.float64]:
    return np.asarray(np.arange(INTERVALS + 1) / 16 - 8, np.float64)


def _points(values: npt.NDArray[np.float64]) -> Int16Array:
    return np.asarray(np.clip(np.rint(values * 2.0**RESULT), INT16.min, INT16.max), np.int16)


def interpolated(table: Int16Array, sums: IntArray) -> IntArray:
    """A function of gates' sums: a straight line between two points, halves up."""
    index = (sums >> 8) + INTERVALS // 2
    points: IntArray = table.astype(np.int64)
    low, high = points[index], points[index + 1]
    line: IntArray = low + (((high - low) * (sums & 255) + 128) >> 8)
    return line


def cell_fraction(steps: int) -> int:
    """Fractional bits of an LSTM's cell: it grows by 1 a step at most, and beyond 16 tanh is 1 anyway."""
    return FRACTION if steps <= 8 else FRACTION - 1


def lstm_step(
    gates: tuple[IntArray, ...], cell: IntArray, fraction: int
) -> tuple[IntArray, IntArray]:
    """New cell and hidden values, the latter in int8 steps of 1/128.

    Args:
        gates: sums of the gates i, o, f, c, in the order of ONNX.
        cell: the cell before.
        fraction: its fractional bits.
    """
    sigmoid, tanh = sigmoid_table(), tanh_table()
    i, o, f = (interpolated(sigmoid, gate) for gate in gates[:3])
    g = interpolated(tanh, gates[3])
    drop = RESULT - fraction
    fresh = (i * g + (1 << (drop - 1))) >> drop
    cell = saturated((f * cell + fresh + (1 << (RESULT - 1))) >> RESULT)
    squashed = interpolated(tanh, saturated(cell << (FRACTION - fraction)))
    return cell, np.minimum((o * squashed + (1 << 22)) >> 23, 127)


def gru_step(
    gates: tuple[IntArray, ...], hidden_sum: IntArray, state: IntArray
) -> tuple[IntArray, IntArray]:
    """New state with 15 fractional bits, and hidden values in int8 steps of 1/128.

    Args:
        gates: sums of the gates z, r, h; of h only the input's part.
        hidden_sum: of gate h the hidden values' part, with its bias (linear_before_reset).
        state: the state before.
    """
    sigmoid, tanh = sigmoid_table(), tanh_table()
    z, r = (interpolated(sigmoid, gate) for gate in gates[:2])
    reset = (r * hidden_sum + (1 << (RESULT - 1))) >> RESULT
    n = interpolated(tanh, saturated(gates[2] + reset))
    state = saturated((z * state + ((1 << RESULT) - z) * n + (1 << (RESULT - 1))) >> RESULT)
    return state, np.minimum((state + 128) >> 8, 127)
