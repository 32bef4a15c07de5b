"""QuantizeLinear and DequantizeLinear as arithmetic on plain numbers, scales known or not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.lowering.plain.casts import TYPES, cast
from codegen.lowering.plain.maps import apply
from codegen.lowering.plain.reductions import axis_of, reduce
from codegen.lowering.plain.shapes import reshape
from codegen.scalar import FUNCTIONS


def _beside(node: OnnxNode, b: Builder, x: str, name: str) -> tuple[str, tuple[int, ...]]:
    """A scale or zero point shaped to broadcast, and the shape that `x` must take for it."""
    shape, given = b.plain_shape(x), b.plain_shape(name)
    if b.tensors[name].size == 1:
        return reshape(b, name, ()), shape
    axis, block = axis_of(node, b, x, node.integer("axis", 1)), node.integer("block_size", 0)
    if len(given) == 1 and given[0] == shape[axis]:
        return reshape(b, name, (given[0], *(1,) * (len(shape) - axis - 1))), shape
    blocked = (*shape[:axis], shape[axis] // max(block, 1), *shape[axis + 1 :])
    if block < 1 or shape[axis] % block or given != blocked:
        raise node.unsupported(f"scales of shape {list(given)} for {list(shape)}")
    count = shape[axis] // block
    split = (*shape[:axis], count, block, *shape[axis + 1 :])
    return reshape(b, name, (*given[: axis + 1], 1, *given[axis + 1 :])), split


def _grid(node: OnnxNode, b: Builder, x: str) -> tuple[str, str, str]:
    """Operand, scale and zero point as float32, shaped to broadcast."""
    scale, wanted = _beside(node, b, x, cast(b, b.plain(node, 1), "float32", node.sources))
    if node.has(2):
        zero, _ = _beside(node, b, x, cast(b, b.plain(node, 2), "float32", node.sources))
    else:
        zero = b.plain_constant(np.zeros((), np.float32), "zero_point", "float32")
    return reshape(b, x, wanted, node.sources), scale, zero


def _quantize(node: OnnxNode, b: Builder) -> None:
    x = cast(b, b.plain(node, 0), "float32", node.sources)
    named = TYPES.get(node.integer("output_dtype", 0) or 2, "")
    dtype = b.dtype(b.plain(node, 2)) if node.has(2) else named
    if f"quantize_{dtype}" not in FUNCTIONS or node.integer("precision", 0) > 1:
        raise node.unsupported(f"grids of type {dtype} are not supported")
    operands = _grid(node, b, x)
    found = apply(b, f"quantize_{dtype}", operands, node.sources)
    b.write(node, reshape(b, found, b.plain_shape(x), node.sources))


def _dequantize(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    number, scale, zero = _grid(node, b, cast(b, x, "float32", node.sources))
    found = apply(b, "dequantize", [number, scale, zero], node.sources)
    b.write(node, reshape(b, found, b.plain_shape(x), node.sources))


def _dynamic(node: OnnxNode, b: Builder) -> None:
    """uint8 on a grid from the least to the greatest number, 0 among them."""
    x, sources = b.plain(node, 0), node.sources
    axes = range(len(b.plain_shape(x)))
    zero = b.plain_constant(np.zeros((), np.float32), "zero", "float32")
    steps = b.plain_constant(np.asarray(255, np.float32), "steps", "float32")
    ends = [
        apply(b, function, [reshape(b, reduce(b, function, x, axes, sources), ()), zero], sources)
        for function in ("minimum", "maximum")
    ]
    extent = apply(b, "subtract", [ends[1], ends[0]], sources)
    scale = apply(b, "divide", [extent, steps], sources)
    down = apply(b, "subtract", [zero, ends[0]], sources)
    point = apply(b, "quantize_uint8", [down, scale, zero], sources)
    shift = cast(b, point, "float32", sources)
    b.write(node, apply(b, "quantize_uint8", [x, scale, shift], sources))
    for name, tensor in zip(node.outputs[1:], (scale, point), strict=False):
        if name:
            b.set(name, tensor)


ONNX: Mapping[str, Converter] = {
    "DynamicQuantizeLinear": _dynamic,
    **{
        f"{domain}{name}": converter
        for domain in ("", "com.microsoft::")
        for name, converter in (("DequantizeLinear", _dequantize), ("QuantizeLinear", _quantize))
    },
}
