"""Windows that slide over images: sizes, padding rules of ONNX, and their evaluation.

Images are `(1, H, W, C)`; pads are `(top, left, bottom, right)`. One-dimensional signals are images
with one row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from codegen.ir import FloatArray
from codegen.onnx_node import OnnxNode

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """A kernel's extent and how it moves."""

    kernel: Pair
    stride: Pair
    pads: Pads
    dilation: Pair = (1, 1)

    def positions(self, height: int, width: int) -> Pair:
        """How many places the window takes along each axis; ValueError when there is none."""
        top, left, bottom, right = self.pads
        rows = (height + top + bottom - self._span(0)) // self.stride[0] + 1
        columns = (width + left + right - self._span(1)) // self.stride[1] + 1
        if rows < 1 or columns < 1 or min(self.pads) < 0:
            raise ValueError(f"a {self.kernel} window does not fit {height}x{width} {self.pads}")
        return rows, columns

    def shifts(self, x: FloatArray, fill: float) -> Iterator[tuple[int, int, FloatArray]]:
        """For each kernel element (i, j), what it sees at every position: (n, rows, columns, C)."""
        rows, columns = self.positions(x.shape[1], x.shape[2])
        x = padded(x, self.pads, fill)
        (down, across), (deep, wide) = self.stride, self.dilation
        for j in range(self.kernel[1]):
            left = j * wide
            strip = x[:, :, left : left + (columns - 1) * across + 1 : across]
            for i in range(self.kernel[0]):
                top = i * deep
                yield i, j, strip[:, top : top + (rows - 1) * down + 1 : down]

    def _span(self, axis: int) -> int:
        return (self.kernel[axis] - 1) * self.dilation[axis] + 1


def padded(x: FloatArray, pads: Pads, fill: float) -> FloatArray:
    """An image with a border."""
    if not any(pads):
        return x
    top, left, bottom, right = pads
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)


def read_window(node: OnnxNode, kernel: tuple[int, ...], sizes: Pair) -> Window:
    """The window that a Conv or pool node describes, for an image of these sizes."""
    dims = len(kernel)
    stride = _pair(node, "strides", dims)
    dilation = _pair(node, "dilations", dims)
    area = (1, kernel[0]) if dims == 1 else (kernel[0], kernel[1])
    window = Window(area, stride, (0, 0, 0, 0), dilation)
    return Window(area, stride, _pads(node, window, dims, sizes), dilation)


def _pair(node: OnnxNode, key: str, dims: int) -> Pair:
    values = node.integers(key) or (1,) * dims
    if len(values) != dims or min(values) < 1:
        raise node.unsupported(f"{key} {list(values)} is not {dims} positive numbers")
    return (1, values[0]) if dims == 1 else (values[0], values[1])


def _pads(node: OnnxNode, window: Window, dims: int, sizes: Pair) -> Pads:
    mode = node.text("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        return _same(window, sizes, upper=mode == "SAME_UPPER")
    if mode not in ("NOTSET", "VALID"):
        raise node.unsupported(f"auto_pad {mode} is unknown")
    pads = (mode == "NOTSET" and node.integers("pads")) or (0,) * (2 * dims)
    if len(pads) != 2 * dims or min(pads) < 0:
        raise node.unsupported(f"pads {list(pads)} are not {2 * dims} numbers from 0 on")
    if dims == 1:
        return 0, pads[0], 0, pads[1]
    return pads[0], pads[1], pads[2], pads[3]


def _same(window: Window, sizes: Pair, *, upper: bool) -> Pads:
    def split(axis: int) -> Pair:
        steps = -(-sizes[axis] // window.stride[axis]) - 1
        span = (window.kernel[axis] - 1) * window.dilation[axis] + 1
        total = max(steps * window.stride[axis] + span - sizes[axis], 0)
        small, large = total // 2, total - total // 2
        return (small, large) if upper else (large, small)

    (top, bottom), (left, right) = split(0), split(1)
    return top, left, bottom, right
