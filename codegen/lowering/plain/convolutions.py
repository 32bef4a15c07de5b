"""Convolutions along any number of axes; images of ONNX become channels last, and results channels first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from codegen.build import Builder, Converter, OnnxNode
from codegen.limits import MAX_ACTIVATION
from codegen.lowering.plain.copies import transpose
from codegen.lowering.plain.shapes import reshape
from codegen.ops.convolution import Convolution
from codegen.ops.transposed_convolution import TransposedConvolution
from codegen.slides import Sizes, Slides, read_slides, steps


def channels_last(b: Builder, name: str, sources: tuple[str, ...]) -> str:
    """(N, C, *sizes) as (N, *sizes, C)."""
    rank = len(b.plain_shape(name))
    return transpose(b, name, (0, *range(2, rank), 1), sources)


def channels_first(b: Builder, name: str, sources: tuple[str, ...]) -> str:
    """(N, *sizes, C) as (N, C, *sizes)."""
    rank = len(b.plain_shape(name))
    return transpose(b, name, (0, rank - 1, *range(1, rank - 1)), sources)


def convolve(node: OnnxNode, b: Builder, x: str, w: str, bias: str | None = None) -> str:
    """The convolution that a node describes, of plain tensors as ONNX shapes them."""
    shape, weights = b.plain_shape(x), b.plain_shape(w)
    if len(shape) < 3 or len(weights) != len(shape):
        raise node.unsupported(f"weights {list(weights)} do not fit {list(shape)}")
    kernel = weights[2:]
    if (node.integers("kernel_shape") or kernel) != kernel:
        raise node.unsupported("kernel_shape differs from the weights' shape")
    slides = read_slides(node, kernel, shape[2:])
    groups = node.integer("group", 1)
    if groups < 1:
        raise node.unsupported(f"{groups} groups")
    op = Convolution(slides.stride, slides.before, slides.after, slides.dilation, groups)
    operands = [channels_last(b, name, node.sources) for name in (x, w)]
    y = b.emit(op, operands + ([bias] if bias else []), node.sources)
    return channels_first(b, y, node.sources)


def _conv(node: OnnxNode, b: Builder) -> None:
    bias = b.plain(node, 2) if node.has(2) else None
    b.write(node, convolve(node, b, b.plain(node, 0), b.plain(node, 1), bias))


@dataclass(frozen=True, slots=True)
class _Spread:
    """Where a transposed convolution writes: its window, and the sizes of its result."""

    slides: Slides
    sizes: Sizes


def _conv_transpose(node: OnnxNode, b: Builder) -> None:
    x, w = b.plain(node, 0), b.plain(node, 1)
    shape, weights = b.plain_shape(x), b.plain_shape(w)
    groups = node.integer("group", 1)
    rank = len(shape) - 2
    if rank < 1 or len(weights) != len(shape) or groups < 1 or weights[0] % groups:
        raise node.unsupported(f"weights {list(weights)} do not fit {list(shape)}")
    if (node.integers("kernel_shape") or weights[2:]) != weights[2:]:
        raise node.unsupported("kernel_shape differs from the weights' shape")
    spread = _spread(node, weights[2:], shape[2:])
    parts = reshape(b, w, (groups, weights[0] // groups, *weights[1:]))
    parts = transpose(b, parts, (0, *range(3, rank + 3), 2, 1), node.sources)
    slides = spread.slides
    op = TransposedConvolution(slides.stride, slides.before, slides.dilation, spread.sizes)
    operands = [channels_last(b, x, node.sources), parts]
    if node.has(2):
        operands.append(b.plain(node, 2))
    y = b.emit(op, operands, node.sources)
    b.write(node, channels_first(b, y, node.sources))


def _spread(node: OnnxNode, kernel: Sizes, sizes: Sizes) -> _Spread:
    rank = len(sizes)
    zeros = (0,) * rank
    more = node.integers("output_padding") or zeros
    if len(more) != rank or min(more) < 0:
        raise node.unsupported(f"output_padding {list(more)} does not suit {rank} axes")
    stride, dilation = steps(node, "strides", rank), steps(node, "dilations", rank)
    slides = Slides(kernel, stride, zeros, zeros, dilation)
    whole = tuple(
        (size - 1) * stride[axis] + slides.span(axis) + more[axis]
        for axis, size in enumerate(sizes)
    )
    before, wanted = _cut(node, slides, sizes, whole)
    if min(wanted) < 1 or prod(wanted) > MAX_ACTIVATION:
        raise node.unsupported(f"the result has the sizes {list(wanted)}")
    return _Spread(Slides(kernel, stride, before, zeros, dilation), wanted)


def _cut(node: OnnxNode, slides: Slides, sizes: Sizes, whole: Sizes) -> tuple[Sizes, Sizes]:
    """What is cut off in front, and the sizes of the result."""
    rank, mode = len(sizes), node.text("auto_pad", "NOTSET")
    shape = node.integers("output_shape")
    if mode not in ("NOTSET", "SAME_LOWER", "SAME_UPPER", "VALID"):
        raise node.unsupported(f"auto_pad {mode} is unknown")
    if mode.startswith("SAME") and not shape:
        shape = tuple(size * step for size, step in zip(sizes, slides.stride, strict=True))
    if shape:
        wanted = shape[-rank:]
        if len(wanted) != rank:
            raise node.unsupported(f"output_shape {list(shape)} does not suit {rank} axes")
        totals = [max(size - want, 0) for size, want in zip(whole, wanted, strict=True)]
        upper = mode == "SAME_UPPER"
        before = tuple(total // 2 if upper else total - total // 2 for total in totals)
        return before, wanted
    pads = (mode == "NOTSET" and node.integers("pads")) or (0,) * (2 * rank)
    if len(pads) != 2 * rank or min(pads) < 0:
        raise node.unsupported(f"pads {list(pads)} are not {2 * rank} numbers from 0 on")
    cut = [size - pads[axis] - pads[axis + rank] for axis, size in enumerate(whole)]
    return pads[:rank], tuple(cut)


ONNX: Mapping[str, Converter] = {"Conv": _conv, "ConvTranspose": _conv_transpose}
