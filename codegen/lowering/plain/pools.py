"""Pools along any number of axes: channels stay in front."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from codegen.build import Builder, Converter, OnnxNode
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


def _global(function: Function) -> Converter:
    def convert(node: OnnxNode, b: Builder) -> None:
        x = b.plain(node, 0)
        kernel = b.plain_shape(x)[2:]
        if not kernel:
            raise node.unsupported(f"{list(b.plain_shape(x))} is no image")
        ones, zeros = (1,) * len(kernel), (0,) * len(kernel)
        pool = _pool(function, Slides(kernel, ones, zeros, zeros, ones))
        b.write(node, b.emit(pool, (x,), node.sources))

    return convert


ONNX: Mapping[str, Converter] = {
    "AveragePool": _average,
    "GlobalAveragePool": _global("average"),
    "GlobalMaxPool": _global("max"),
    "MaxPool": _max,
}
