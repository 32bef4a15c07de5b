"""Mean over sliding windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.ir import Array
from codegen.ops.pad import Pad
from codegen.pooling import grown, read_pool
from codegen.spatial import Pair, Window, from_image, to_image


@dataclass(frozen=True, slots=True)
class AveragePool:
    """Operand: an image. The divisor counts the padding (zeros) only if `count_include_pad`."""

    kind: ClassVar[str] = "average_pool"
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    count_include_pad: bool = False

    def window(self) -> Window:
        """The sliding window."""
        return Window(self.kernel, self.stride, self.pads)

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """(1, rows, columns, C)."""
        n, height, width, channels = shapes[0]
        return (n, *self.window().positions(height, width), channels)

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The mean of every window."""
        (x,) = as_floats(inputs)
        y = np.zeros((x.shape[0], *self.infer(((1, *x.shape[1:]),))[1:]), np.float32)
        for _, _, seen in self.window().shifts(x, 0.0):
            y += seen
        return np.asarray(y / self.counts(x.shape[1], x.shape[2])[:, :, None], np.float32)

    def counts(self, height: int, width: int) -> Array:
        """The divisor at every position."""
        rows, columns = self.window().positions(height, width)
        if self.count_include_pad:
            return np.full((rows, columns), self.kernel[0] * self.kernel[1], np.float32)
        down = _inside(rows, self.kernel[0], self.stride[0], self.pads[0], height)
        across = _inside(columns, self.kernel[1], self.stride[1], self.pads[1], width)
        return np.outer(down, across).astype(np.float32)


def _inside(positions: int, kernel: int, stride: int, before: int, size: int) -> Array:
    starts = np.arange(positions) * stride - before
    inside: Array = np.minimum(starts + kernel, size) - np.maximum(starts, 0)
    return inside


def _average_pool(node: OnnxNode, b: Builder) -> None:
    if any(step != 1 for step in node.integers("dilations") or ()):
        raise node.unsupported("dilated average pools are not supported")
    x = b.read(node, 0)
    image = to_image(node, b, x)
    window, extra = read_pool(node, b, image)
    include = bool(node.integer("count_include_pad", 0))
    if include and max(extra) > 0:
        image, window = _pad_first(node, b, image, window)
        include = False
    op = _pool(grown(window, extra), include=include)
    b.write(node, from_image(node, b, b.emit(op, (image,), node.sources), b.rank(x)))


def _pad_first(node: OnnxNode, b: Builder, image: str, window: Window) -> tuple[str, Window]:
    """The padded image: what ceil mode adds beyond the padding is never counted."""
    top, left, bottom, right = window.pads
    if any(window.pads):
        pads: tuple[Pair, ...] = ((0, 0), (top, bottom), (left, right), (0, 0))
        image = b.emit(Pad(pads, 0.0), (image,), node.sources)
    return image, replace(window, pads=(0, 0, 0, 0))


def _pool(window: Window, *, include: bool) -> AveragePool:
    return AveragePool(window.kernel, window.stride, window.pads, include and any(window.pads))


def _global(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    image = to_image(node, b, x)
    _, height, width, _ = b.shape(image)
    y = b.emit(AveragePool((height, width)), (image,), node.sources)
    b.write(node, from_image(node, b, y, b.rank(x)))


OP = AveragePool
ONNX: Mapping[str, Converter] = {"AveragePool": _average_pool, "GlobalAveragePool": _global}
