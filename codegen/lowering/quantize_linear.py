"""QuantizeLinear and DequantizeLinear: grids on constants at once, markers on activations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.ir import Array, Quant
from codegen.qdq import Dequantize, Quantize

UINT8, INT8 = 2, 3  # TensorProto data types
WIDTHS = {"int8": 8, "uint8": 8, "int32": 32}


def grid(node: OnnxNode, scale: Array, zero_point: Array | None, dtype: str, axis: int) -> Quant:
    """The grid that scale and zero point describe, unsigned ones shifted to signed."""
    if dtype not in WIDTHS:
        raise node.unsupported(f"{dtype} grids are not supported", "quantize to int8 or uint8")
    shift = 128 if dtype == "uint8" else 0
    scales = tuple(float(value) for value in np.asarray(scale, np.float64).reshape(-1))
    if not all(np.isfinite(value) and value > 0 for value in scales):
        raise node.unsupported("a scale is not a positive number")
    zeros = np.zeros(len(scales), np.int64)
    if zero_point is not None:
        zeros = np.broadcast_to(zero_point.reshape(-1).astype(np.int64), zeros.shape)
    points = tuple(int(zero) - shift for zero in zeros)
    if len(scales) == 1:
        return Quant(scales, points, None, WIDTHS[dtype])
    if scale.ndim != 1 or node.integer("block_size", 0):
        raise node.unsupported("blocked scales are not supported")
    return Quant(scales, points, axis, WIDTHS[dtype])


def stored_constant(b: Builder, name: str, quant: Quant, stored: Array) -> str:
    """A constant of stored integers; unsigned bytes are shifted."""
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
    named = {0: "uint8", UINT8: "uint8", INT8: "int8"}.get(node.integer("output_dtype", 0), "other")
    dtype = named if zero is None else zero.dtype.name
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
        dtype = tensor.data.dtype.name
        quant = read_grid(node, b, 1, dtype, b.rank(x), node.integer("axis", 1))
        _check_channels(node, quant, tensor.shape)
        b.write(node, stored_constant(b, x, quant, tensor.data))
        return
    dtype = "uint8" if zero is None else zero.dtype.name
    quant = read_grid(node, b, 1, b.stored_types.get(x, dtype), b.rank(x), 1)
    b.write(node, b.emit(Dequantize(quant), (x,), node.sources))


def _check_channels(node: OnnxNode, quant: Quant, shape: tuple[int, ...]) -> None:
    if quant.axis is not None and shape[quant.axis] != len(quant.scales):
        raise node.unsupported(f"{len(quant.scales)} scales for axis {quant.axis} of {shape}")


ONNX: Mapping[str, Converter] = {
    f"{domain}{name}": converter
    for domain in ("", "com.microsoft::")
    for name, converter in (("DequantizeLinear", _dequantize), ("QuantizeLinear", _quantize))
}
