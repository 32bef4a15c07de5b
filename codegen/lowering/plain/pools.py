"""Pools along any number of axes: channels stay in front."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.lowering.plain.maps import apply, parameters
from codegen.ops.pool import Function, Pool
from codegen.slides import Slides, read_slides

FIRST = 3  # the axis that windows slide along first, behind those of samples, batch and channels


def _pool(function: Function, slides: Slides) -> Pool:
    sizes = slides.kernel, slides.stride, slides.before, slides.after, slides.dilation
    return Pool(function, FIRST, *sizes, slides.ceil)


def _slides(node: OnnxNode, b: Builder, x: str) -> Slides:
    """The window that a pool slides."""
    shape = b.plain_shape(x)
    if len(shape) < 3:
        raise node.unsupported(f"{list(shape)} is no image")
    kernel = node.integers("kernel_shape")
    if kernel is None:
        raise node.unsupported("kernel_shape is missing")
    slides = read_slides(node, kernel, shape[2:])
    for axis, padding in enumerate(zip(slides.before, slides.after, strict=True)):
        if max(padding) >= slides.span(axis):
            raise node.unsupported(f"pads {list(padding)} reach a whole window")
    return slides


def _max(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    pool = _pool("max", _slides(node, b, x))
    b.write(node, b.emit(pool, (x,), node.sources))
    if len(node.outputs) > 1 and node.outputs[1]:
        major = bool(node.integer("storage_order", 0))
        where = replace(pool, function="argmax", column_major=major)
        b.set(node.outputs[1], b.emit(where, (x,), node.sources))


def _average(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    pool = _pool("average", _slides(node, b, x))
    pool = replace(pool, count_include_pad=bool(node.integer("count_include_pad", 0)))
    b.write(node, b.emit(pool, (x,), node.sources))


def _lp(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    b.write(node, _norm(node, b, x, _pool("sum", _slides(node, b, x))))


def _norm(node: OnnxNode, b: Builder, x: str, pool: Pool) -> str:
    """The root of the sum of powers of what windows see."""
    p, sources = node.integer("p", 2), node.sources
    if p < 1:
        raise node.unsupported(f"a norm of order {p}")
    if p == 2:
        total = b.emit(pool, (apply(b, "square", [x], sources),), sources)
        return apply(b, "sqrt", [total], sources)
    powers = apply(b, "abs", [x], sources)
    if p == 1:
        return b.emit(pool, (powers,), sources)
    total = b.emit(pool, (_power(b, powers, float(p), sources),), sources)
    return _power(b, total, 1.0 / p, sources)


def _power(b: Builder, x: str, exponent: float, sources: tuple[str, ...]) -> str:
    number = b.plain_constant(np.asarray(exponent, np.float32), "exponent")
    return apply(b, "power", [x, number], sources)


def _lrn(node: OnnxNode, b: Builder) -> None:
    """x / (bias + alpha / size * the sum of squares of the channels around) ** beta."""
    x, size = b.plain(node, 0), node.integer("size", 0)
    if size < 1 or len(b.plain_shape(x)) < 2:
        raise node.unsupported(f"a window of {size} channels")
    before = (size - 1) // 2
    window = (size,), (1,), (before,), (size - 1 - before,), (1,)
    squares = apply(b, "square", [x], node.sources)
    total = b.emit(Pool("sum", FIRST - 1, *window), (squares,), node.sources)
    weight, bias = node.real("alpha", 1e-4) / size, node.real("bias", 1.0)
    base = parameters(b, "affine", total, node.sources, weight, bias)
    divisor = _power(b, base, node.real("beta", 0.75), node.sources)
    b.write(node, apply(b, "divide", [x, divisor], node.sources))


def _global(function: Function) -> Converter:
    def convert(node: OnnxNode, b: Builder) -> None:
        x = b.plain(node, 0)
        kernel = b.plain_shape(x)[2:]
        if not kernel:
            raise node.unsupported(f"{list(b.plain_shape(x))} is no image")
        ones, zeros = (1,) * len(kernel), (0,) * len(kernel)
        slides = Slides(kernel, ones, zeros, zeros, ones)
        if node.op_type == "GlobalLpPool":
            b.write(node, _norm(node, b, x, _pool("sum", slides)))
        else:
            b.write(node, b.emit(_pool(function, slides), (x,), node.sources))

    return convert


ONNX: Mapping[str, Converter] = {
    "AveragePool": _average,
    "GlobalAveragePool": _global("average"),
    "GlobalLpPool": _global("sum"),
    "GlobalMaxPool": _global("max"),
    "LRN": _lrn,
    "LpPool": _lp,
    "MaxPool": _max,
}
