"""Two-dimensional convolution, grouped and depthwise included; a 1-D signal is an image of one row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.ir import Array, FloatArray
from codegen.ops.reshape import reshape
from codegen.ops.transpose import channels_last
from codegen.spatial import Window, from_image, padded, read_window, to_image

CHUNK = 1 << 23


@dataclass(frozen=True, slots=True)
class Conv2D:
    """Operands: x (1, H, W, C), w (O, kh, kw, C / groups), b (O,). The result is clamped if asked.

    Attributes:
        pads: top, left, bottom, right.
        clamp: smallest and largest result, when an activation function was fused.
    """

    kind: ClassVar[str] = "conv2d"
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    clamp: tuple[float, float] | None = None

    def window(self, weights: tuple[int, ...]) -> Window:
        """The sliding window, for weights of this shape."""
        return Window((weights[1], weights[2]), self.stride, self.pads, self.dilation)

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """(1, rows, columns, O)."""
        x, w, b = shapes
        if len(x) != 4 or len(w) != 4:
            raise ValueError(f"an image {list(x)} and weights {list(w)} need 4 axes each")
        if x[3] != w[3] * self.groups or w[0] % self.groups or b != (w[0],):
            raise ValueError(f"image {x}, weights {w}, bias {b}, {self.groups} groups do not match")
        return (x[0], *self.window(w).positions(x[1], x[2]), w[0])

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The convolution: shifted products when depthwise, else matrix products."""
        x, w, b = as_floats(inputs)
        if w.shape[3] == 1 and self.groups == x.shape[3]:
            y = self._depthwise(x, w)
        else:
            y = self._grouped(x, w)
        y += b
        return y if self.clamp is None else np.clip(y, *self.clamp, out=y)

    def _depthwise(self, x: FloatArray, w: FloatArray) -> FloatArray:
        if w.shape[0] != x.shape[3]:
            x = np.repeat(x, w.shape[0] // x.shape[3], axis=3)
        rows, columns = self.window(w.shape).positions(x.shape[1], x.shape[2])
        y = np.zeros((x.shape[0], rows, columns, w.shape[0]), np.float32)
        for i, j, seen in self.window(w.shape).shifts(x, 0.0):
            y += seen * w[:, i, j, 0]
        return y

    def _grouped(self, x: FloatArray, w: FloatArray) -> FloatArray:
        rows, columns = self.window(w.shape).positions(x.shape[1], x.shape[2])
        y = np.empty((x.shape[0], rows, columns, w.shape[0]), np.float32)
        per_sample = rows * columns * w.shape[1] * w.shape[2] * x.shape[3]
        step = max(1, CHUNK // per_sample)
        inner, outer = w.shape[3], w.shape[0] // self.groups
        for start in range(0, x.shape[0], step):
            for group in range(self.groups):
                part = x[start : start + step, :, :, group * inner : (group + 1) * inner]
                kernels = w[group * outer : (group + 1) * outer]
                result = self._product(part, kernels)
                y[start : start + step, :, :, group * outer : (group + 1) * outer] = result
        return y

    def _product(self, x: FloatArray, w: FloatArray) -> FloatArray:
        window = self.window(w.shape)
        rows, columns = window.positions(x.shape[1], x.shape[2])
        x = padded(x, self.pads, 0.0)
        spans = tuple((k - 1) * d + 1 for k, d in zip(window.kernel, self.dilation, strict=True))
        seen = np.lib.stride_tricks.sliding_window_view(x, spans, axis=(1, 2))
        (down, across), (deep, wide) = self.stride, self.dilation
        patches = seen[:, ::down, ::across, :, ::deep, ::wide].transpose(0, 1, 2, 4, 5, 3)
        matrix = patches.reshape(-1, w[0].size)
        product: FloatArray = matrix @ w.reshape(w.shape[0], -1).T
        return product.reshape(x.shape[0], rows, columns, w.shape[0])


def _conv(node: OnnxNode, b: Builder) -> None:
    x, w = b.read(node, 0), b.read(node, 1)
    if not b.is_constant(w):
        raise node.unsupported("the weights must be constant")
    if b.rank(w) != b.rank(x):
        raise node.unsupported(f"weights {list(b.shape(w))} do not fit {list(b.shape(x))}")
    image, weights = to_image(node, b, x), channels_last(b, w, node.sources)
    kernel = b.shape(weights)[1:-1]
    if (node.integers("kernel_shape") or kernel) != kernel:
        raise node.unsupported("kernel_shape differs from the weights' shape")
    if len(kernel) == 1:
        outputs, width, channels = b.shape(weights)
        weights = reshape(b, weights, (outputs, 1, width, channels), node.sources)
    if node.has(2):
        bias = b.read(node, 2)
        if not b.is_constant(bias):
            raise node.unsupported("the bias must be constant")
    else:
        bias = b.constant(np.zeros(b.shape(weights)[0], np.float32), f"{node.label}.bias")
    _, height, width, _ = b.shape(image)
    window = read_window(node, kernel, (height, width))
    op = Conv2D(window.stride, window.pads, window.dilation, node.integer("group", 1))
    y = b.emit(op, (image, weights, bias), node.sources)
    b.write(node, from_image(node, b, y, b.rank(x)))


OP = Conv2D
ONNX: Mapping[str, Converter] = {"Conv": _conv}
