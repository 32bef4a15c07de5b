"""ConvTranspose as a convolution for every place of an output pixel between its neighbours.

With stride s, output pixel q*s + r adds up x[q - j] * w[j*s + r] over j: for each r below s a convolution of
its own, with every s-th tap. They run as one, with s*s times the channels, whose results are laid side by
side (Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016). So no zeros are
multiplied, and all kernels of convolutions serve.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.images import from_image, to_image
from codegen.ir import Array
from codegen.ops.conv2d import Conv2D
from codegen.ops.reshape import reshape
from codegen.ops.slice import Slice
from codegen.ops.transpose import transpose

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Form:
    """Over rows and columns: the stride, a convolution's taps, what is cut off before, and what is left."""

    stride: Pair
    taps: Pair
    begins: Pair
    sizes: Pair


def _convert(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    weights = b.static(node, 1)
    if weights is None or weights.ndim != b.rank(x) or weights.ndim not in (3, 4):
        raise node.unsupported("only constant weights of one or two dimensions are supported")
    if node.integer("group", 1) != 1 or any(d != 1 for d in node.integers("dilations") or ()):
        raise node.unsupported("groups and dilations are not supported")
    if weights.ndim == 3:
        weights = weights[:, :, None]
    image = to_image(node, b, x)
    _, rows, columns, _ = b.shape(image)
    form = _form(node, (rows, columns), (weights.shape[2], weights.shape[3]), b.rank(x) - 2)
    bias = b.static(node, 2)
    bias = np.zeros(weights.shape[1], np.float32) if bias is None else bias
    kernel = b.constant(_interleaved(weights, form), f"{node.label}.weights")
    biases = b.constant(np.tile(bias, prod(form.stride)), f"{node.label}.bias")
    around = form.taps[0] - 1, form.taps[1] - 1
    op = Conv2D(pads=(*around, *around))
    y = b.emit(op, (image, kernel, biases), node.sources)
    y = _side_by_side(node, b, y, form.stride, len(bias))
    whole = b.shape(y)
    begins = (0, *form.begins, 0)
    sizes = (1, *form.sizes, whole[3])
    if sizes != whole:
        y = b.emit(Slice(begins, sizes, (1, 1, 1, 1)), (y,), node.sources)
    b.write(node, from_image(node, b, y, b.rank(x)))


def _form(node: OnnxNode, shape: Pair, kernel: Pair, axes: int) -> _Form:
    """Sizes in two dimensions; one that ONNX has not is a row."""

    def pair(key: str, default: int) -> Pair:
        given = node.integers(key) or (default,) * axes
        if len(given) != axes or min(given) < 0:
            raise node.unsupported(f"attribute {key} is {list(given)}")
        return given[0] if axes == 2 else default, given[-1]

    stride, extra = pair("strides", 1), pair("output_padding", 0)
    if 0 in stride:
        raise node.unsupported("a stride is 0")
    full = [(n - 1) * s + k + e for n, s, k, e in zip(shape, stride, kernel, extra, strict=True)]
    begins, ends = _pads(node, axes, full)
    taps = (-(-kernel[0] // stride[0]), -(-kernel[1] // stride[1]))
    sizes = tuple(f - low - high for f, low, high in zip(full, begins, ends, strict=True))
    made = [(n + t - 1) * s for n, t, s in zip(shape, taps, stride, strict=True)]
    if min(sizes) < 1 or any(o + n > m for o, n, m in zip(begins, sizes, made, strict=True)):
        raise node.unsupported(f"a result of shape {list(sizes)} beyond what the weights reach")
    return _Form(stride, taps, begins, (sizes[0], sizes[1]))


def _pads(node: OnnxNode, axes: int, full: list[int]) -> tuple[Pair, Pair]:
    """What is cut off the full result, before and behind."""
    auto, wanted = node.text("auto_pad", "NOTSET"), node.integers("output_shape")
    if auto == "NOTSET" and wanted is None:
        pads = node.integers("pads") or (0,) * (2 * axes)
        if len(pads) != 2 * axes or min(pads) < 0:
            raise node.unsupported(f"attribute pads is {list(pads)}")
        begins, ends = pads[:axes], pads[axes:]
        return ((0, *begins)[-2:], (0, *ends)[-2:]) if axes == 1 else (begins, ends)  # type: ignore[return-value]
    if auto == "VALID" and wanted is None:
        return (0, 0), (0, 0)
    raise node.unsupported("output_shape and auto_pad SAME are not supported")


def _interleaved(weights: Array, form: _Form) -> Array:
    """(C_in, C_out, kH, kW) as (sH * sW * C_out, tapsH, tapsW, C_in), taps backwards."""
    inputs, outputs, rows, columns = weights.shape
    (down, across), (high, wide) = form.stride, form.taps
    widths = ((0, 0), (0, 0), (0, high * down - rows), (0, wide * across - columns))
    parts = np.pad(weights, widths).reshape(inputs, outputs, high, down, wide, across)
    flipped = parts[:, :, ::-1, :, ::-1, :]
    found: Array = flipped.transpose(3, 5, 1, 2, 4, 0).reshape(-1, high, wide, inputs)
    return np.ascontiguousarray(found)


def _side_by_side(node: OnnxNode, b: Builder, y: str, stride: Pair, channels: int) -> str:
    """(1, H, W, sH * sW * C) as (1, H * sH, W * sW, C)."""
    _, rows, columns, _ = b.shape(y)
    down, across = stride
    if stride == (1, 1):
        return y
    y = reshape(b, y, (1, rows, columns, down, across, channels), node.sources)
    y = transpose(b, y, (0, 1, 3, 2, 4, 5), node.sources)
    return reshape(b, y, (1, rows * down, columns * across, channels), node.sources)


ONNX: Mapping[str, Converter] = {"ConvTranspose": _convert}
