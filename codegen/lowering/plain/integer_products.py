"""Products and convolutions of integers on grids, exactly as onnxruntime: float32 scales, halves to even."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.lowering.plain.casts import cast
from codegen.lowering.plain.convolutions import convolve
from codegen.lowering.plain.maps import apply
from codegen.lowering.plain.products import product
from codegen.lowering.plain.shapes import reshape, same_rank
from codegen.scalar import FUNCTIONS

INTEGERS = ("int8", "uint8")


def _applied(b: Builder, function: str, names: Sequence[str], sources: tuple[str, ...]) -> str:
    """A function of plain tensors; of constants at compile time."""
    operands = same_rank(b, names)
    if not all(b.is_constant(name) for name in operands):
        return apply(b, function, operands, sources)
    values = tuple(b.tensors[name].values[0] for name in operands)
    return b.plain_constant(np.asarray(FUNCTIONS[function].compute(values, ())), names[0])


def _beside(node: OnnxNode, b: Builder, index: int, axis: int, rank: int) -> str:
    """A scale or zero point: one number, or one per index of an axis counted from the end."""
    name = b.plain(node, index)
    if b.tensors[name].size == 1:
        return reshape(b, name, ())
    shape = b.plain_shape(name)
    if len(shape) > 1:  # as onnxruntime has them: behind the axes of a batch
        if len(shape) != rank:
            raise node.unsupported(f"scales or zero points of shape {list(shape)}")
        return name
    return reshape(b, name, (*shape, *(1,) * (axis - 1)))


def _centred(node: OnnxNode, b: Builder, index: int, zero: int, axis: int) -> str:
    """Integers less their zero point."""
    x = b.plain(node, index)
    if b.dtype(x) not in INTEGERS:
        raise node.unsupported(f"integers of type {b.dtype(x)} on a grid")
    if not node.has(zero):
        return x
    point = _beside(node, b, zero, axis, len(b.plain_shape(x)))
    value = b.tensors[point].data
    if value is not None and not value.any():
        return x
    wide = [cast(b, name, "int16", node.sources) for name in (x, point)]
    return _applied(b, "subtract", wide, node.sources)


def _rank(node: OnnxNode, b: Builder, index: int) -> int:
    return len(b.plain_shape(b.plain(node, index)))


def _matmul_integer(node: OnnxNode, b: Builder) -> None:
    left, right = _centred(node, b, 0, 2, 2), _centred(node, b, 1, 3, 1)
    b.write(node, product(b, left, right, node.sources))


def _conv_integer(node: OnnxNode, b: Builder) -> None:
    rank = _rank(node, b, 1)
    b.write(node, convolve(node, b, _centred(node, b, 0, 2, 1), _centred(node, b, 1, 3, rank)))


def _requantized(node: OnnxNode, b: Builder, total: str, scales: tuple[str, str]) -> str:
    """float32(total) * (scale * scale / y scale), rounded, on the result's grid."""
    sources = node.sources
    dtype = b.dtype(b.plain(node, 7))
    if dtype not in INTEGERS:
        raise node.unsupported(f"a result of type {dtype}")
    products = _applied(b, "multiply", scales, sources)
    factor = _applied(b, "divide", [products, _beside(node, b, 6, 1, 1)], sources)
    real = apply(b, "multiply", [cast(b, total, "float32", sources), factor], sources)
    one = b.plain_constant(np.ones((), np.float32), f"{node.label}.one")
    zero = cast(b, _beside(node, b, 7, 1, 1), "float32", sources)
    return apply(b, f"quantize_{dtype}", [real, one, zero], sources)


def _qlinear_matmul(node: OnnxNode, b: Builder) -> None:
    total = product(b, _centred(node, b, 0, 2, 2), _centred(node, b, 3, 5, 1), node.sources)
    rank = len(b.plain_shape(total))
    scales = _beside(node, b, 1, 2, rank), _beside(node, b, 4, 1, rank)
    b.write(node, _requantized(node, b, total, scales))


def _qlinear_conv(node: OnnxNode, b: Builder) -> None:
    rank = _rank(node, b, 3)
    bias = b.plain(node, 8) if node.has(8) else None
    x, w = _centred(node, b, 0, 2, 1), _centred(node, b, 3, 5, rank)
    total = convolve(node, b, x, w, bias)
    scales = _beside(node, b, 1, 1, rank), _beside(node, b, 4, rank - 1, rank)
    b.write(node, _requantized(node, b, total, scales))


ONNX: Mapping[str, Converter] = {
    "ConvInteger": _conv_integer,
    "MatMulInteger": _matmul_integer,
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
}
