"""Integer grids applied to arrays, and the two markers that carry grids from ONNX into the graph.

A marker lives only between the importer and passes/absorb_qdq.py; it has no kernel. Both evaluate
in real numbers: `Quantize` rounds to the grid and stays real, `Dequantize` changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from codegen.ir import Array, FloatArray, Quant, Tensor


def stored_range(quant: Quant) -> tuple[int, int]:
    """Smallest and largest integer that a grid stores."""
    if quant.width == 1:
        return -1, 1
    return -(1 << (quant.width - 1)), (1 << (quant.width - 1)) - 1


def real_range(quant: Quant) -> tuple[float, float]:
    """Smallest and largest real number that a per-tensor grid represents."""
    low, high = stored_range(quant)
    return quant.scale * (low - quant.zero_point), quant.scale * (high - quant.zero_point)


def dequantize(stored: Array, quant: Quant) -> FloatArray:
    """The real numbers that stored integers stand for."""
    scale, zero_point = _along_axis(quant, stored.ndim)
    return np.asarray((stored.astype(np.float64) - zero_point) * scale, np.float32)


def quantize(real: Array, quant: Quant) -> Array:
    """The stored integers nearest to real numbers: half to even as in ONNX, saturated."""
    scale, zero_point = _along_axis(quant, real.ndim)
    low, high = stored_range(quant)
    # ONNX divides in float32; a wider division would round some ties to the other side.
    steps = np.rint(real.astype(np.float32) / scale.astype(np.float32)) + zero_point
    return np.asarray(np.clip(steps, low, high), np.int8 if quant.width <= 8 else np.int32)


def constant_value(tensor: Tensor) -> Array:
    """A constant as numbers: dequantized when it holds stored integers."""
    if tensor.data is None:
        raise ValueError(f"{tensor.name} is no constant")
    return tensor.data if tensor.quant is None else dequantize(tensor.data, tensor.quant)


def _along_axis(quant: Quant, rank: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    shape = [1] * rank
    if quant.axis is not None:
        shape[quant.axis] = len(quant.scales)
    scale = np.asarray(quant.scales, np.float64).reshape(shape)
    return scale, np.asarray(quant.zero_points, np.float64).reshape(shape)


@dataclass(frozen=True, slots=True)
class Quantize:
    """Marks where the model rounds to a grid."""

    kind: ClassVar[str] = "quantize"
    quant: Quant

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The shape of the operand."""
        return shapes[0]

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The operand rounded to the grid."""
        return dequantize(quantize(inputs[0], self.quant), self.quant)


@dataclass(frozen=True, slots=True)
class Dequantize:
    """Marks where the model reads integers of a grid as real numbers."""

    kind: ClassVar[str] = "dequantize"
    quant: Quant

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The shape of the operand."""
        return shapes[0]

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The operand: values between the two markers are kept as real numbers."""
        return inputs[0]
