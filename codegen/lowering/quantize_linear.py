"""QuantizeLinear and DequantizeLinear: grids on constants at once, markers on activations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.ir import Array, Quant
from codegen.qdq import Dequantize, Quantize

DTYPES = {0: "uint8", 2: "uint8", 3: "int8", 21: "uint4", 22: "int4", 25: "uint2", 26: "int2"}
"""TensorProto data types that `output_dtype` may name; 0 where it is absent."""
LEAST_SCALE, MOST_SCALE = 2.0**-100, 2.0**90  # quotients and products with int32 stay finite
WIDTHS = {"int8": 8, "uint8": 8, "int32": 32}
FEW_BITS = frozenset({"int4", "uint4", "int2", "uint2"})
"""Weights of these types are int8 in the graph; codegen.quant.compact stores them in few bits again."""
MOST_FACTOR, INT8_LIMIT = 15, 127
FLOAT_ERROR = 2.0**-22  # of a ratio of two float32 numbers


def grid(node: OnnxNode, scale: Array, zero_point: Array | None, dtype: str, axis: int) -> Quant:
    """The grid that scale and zero point describe, unsigned ones shifted to signed."""
    if dtype not in WIDTHS and dtype not in FEW_BITS:
        raise node.unsupported(f"{dtype} grids are not supported", "quantize to int8 or uint8")
    width, shift = WIDTHS.get(dtype, 8), 128 if dtype == "uint8" else 0
    scales = tuple(float(value) for value in np.asarray(scale, np.float64).reshape(-1))
    if not all(np.isfinite(value) and value > 0 for value in scales):
        raise node.unsupported("a scale is not a positive number")
    if not all(LEAST_SCALE <= value <= MOST_SCALE for value in scales):
        raise node.unsupported("a scale is too small or too large for float32")
    zeros = np.zeros(len(scales), np.int64)
    if zero_point is not None:
        zeros = np.broadcast_to(zero_point.reshape(-1).astype(np.int64), zeros.shape)
    points = tuple(int(zero) - shift for zero in zeros)
    if dtype == "int32" and any(points):
        raise node.unsupported("a zero point of int32 is not 0")
    if len(scales) == 1:
        return Quant(scales, points, None, width)
    if scale.ndim != 1:
        raise node.unsupported(f"scales of shape {list(scale.shape)}")
    return Quant(scales, points, axis, width)


def stored_constant(b: Builder, name: str, quant: Quant, stored: Array) -> str:
    """A constant of stored integers; unsigned bytes are shifted, fewer bits become bytes."""
    if stored.dtype.name in FEW_BITS:
        stored = stored.astype(np.int8)
    if stored.dtype == np.uint8:
        stored = (stored.astype(np.int16) - 128).astype(np.int8)
    return b.constant(stored, name, quant)


def read_grid(node: OnnxNode, b: Builder, first: int, dtype: str, rank: int, axis: int) -> Quant:
    """The grid in operands `first` and `first + 1`."""
    scale, zero = b.static(node, first), b.static(node, first + 1)
    if scale is None:
        raise node.unsupported("the scale is missing")
    quant = grid(node, scale, zero, dtype, axis + rank if axis < 0 else axis)
    if quant.axis is not None and not 0 <= quant.axis < rank:
        raise node.unsupported(f"axis {axis} of {rank} axes")
    return quant


def _quantize(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    zero = b.static(node, 2)
    named = DTYPES.get(node.integer("output_dtype", 0), "other")
    dtype = named if zero is None else zero.dtype.name
    if dtype in FEW_BITS:
        hint = "quantize activations to int8; weights may have fewer bits"
        raise node.unsupported(f"{dtype} activations are not supported", hint)
    if dtype == "int32":
        raise node.unsupported("int32 activations are not supported", "quantize to int8")
    quant = read_grid(node, b, 1, dtype, b.rank(x), node.integer("axis", 1))
    if quant.axis is not None:
        raise node.unsupported("per-channel grids on activations are not supported")
    y = b.emit(Quantize(quant), (x,), node.sources)
    b.annotate(y, quant, dtype)
    b.write(node, y)


def _dequantize(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    tensor, zero = b.tensors[x], b.static(node, 2)
    if tensor.data is not None and tensor.quant is None:
        if node.integer("block_size", 0):
            b.write(node, _blocked(node, b, tensor.data, zero))
            return
        dtype = tensor.data.dtype.name
        quant = read_grid(node, b, 1, dtype, b.rank(x), node.integer("axis", 1))
        _check_channels(node, quant, tensor.shape)
        b.write(node, stored_constant(b, x, quant, tensor.data))
        return
    dtype = "uint8" if zero is None else zero.dtype.name
    quant = read_grid(node, b, 1, b.stored_types.get(x, dtype), b.rank(x), 1)
    b.write(node, b.emit(Dequantize(quant), (x,), node.sources))


def _blocked(node: OnnxNode, b: Builder, stored: Array, zero: Array | None) -> str:
    """Weights with a scale for each run of `block_size` elements along `axis`."""
    scale = b.static(node, 1)
    axis, size = node.integer("axis", 1), node.integer("block_size", 0)
    axis += stored.ndim if axis < 0 else 0
    if scale is None or not 0 <= axis < stored.ndim or stored.ndim < 2 or size < 1:
        raise node.unsupported("blocked scales of this form are not supported")
    wanted = list(stored.shape)
    wanted[axis] = -(-wanted[axis] // size)
    if list(scale.shape) != wanted or (zero is not None and zero.shape != scale.shape):
        raise node.unsupported(f"scales {list(scale.shape)} for blocks {wanted}")
    zeros = np.zeros(scale.shape, np.int64) if zero is None else zero.astype(np.int64)
    length = stored.shape[axis]
    scales, points = (np.repeat(a, size, axis).take(range(length), axis) for a in (scale, zeros))
    return grouped(b, node, stored, scales, points, channels=1 if axis == 0 else 0)


def grouped(
    b: Builder, node: OnnxNode, stored: Array, scales: Array, zeros: Array, channels: int
) -> str:
    """A constant of integers with a scale and a zero point for every element.

    Where all scales of an output channel are small multiples of one number, the integers take these
    multiples up, exactly; else the weights are real numbers, and quantized to int8 per channel like any.
    """
    centred = stored.astype(np.int64) - zeros.astype(np.int64)
    wide = np.moveaxis(scales.astype(np.float64), channels, 0).reshape(scales.shape[channels], -1)
    if not np.all(np.isfinite(wide)) or wide.min(initial=1) <= 0:
        raise node.unsupported("a scale is not a positive number")
    steps = [common_step(row) for row in wide]
    along = [1] * scales.ndim
    along[channels] = -1
    if all(step > 0 for step in steps):
        factors = np.rint(scales.astype(np.float64) / np.array(steps).reshape(along))
        integers = centred * factors.astype(np.int64)
        if np.abs(integers).max(initial=0) <= INT8_LIMIT:
            quant = Quant(tuple(steps), (0,) * len(steps), channels)
            return b.constant(integers.astype(np.int8), node.label, quant)
    return b.constant((centred * scales.astype(np.float64)).astype(np.float32), node.label)


def common_step(scales: Array) -> float:
    """The largest number of which all scales are multiples of 1 to 15; 0 where there is none."""
    least = float(scales.astype(np.float64).min())
    for divisor in range(1, MOST_FACTOR + 1):
        ratios = scales.astype(np.float64) * divisor / least
        whole = np.rint(ratios)
        if whole.max() <= MOST_FACTOR and np.all(np.abs(ratios - whole) <= FLOAT_ERROR * whole):
            return least / divisor
    return 0.0


def _check_channels(node: OnnxNode, quant: Quant, shape: tuple[int, ...]) -> None:
    if quant.axis is not None and shape[quant.axis] != len(quant.scales):
        raise node.unsupported(f"{len(quant.scales)} scales for axis {quant.axis} of {shape}")


ONNX: Mapping[str, Converter] = {
    f"{domain}{name}": converter
    for domain in ("", "com.microsoft::")
    for name, converter in (("DequantizeLinear", _dequantize), ("QuantizeLinear", _quantize))
}
