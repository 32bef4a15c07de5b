"""Windows that slide over channels-last images: geometry shared by convolution and pooling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from codegen.ir import Array, IntArray
from codegen.kernel import Footprint

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """A kernel's geometry. `pads` are top, left, bottom, right."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilation: tuple[int, int] = (1, 1)

    @property
    def padded(self) -> bool:
        """Whether some window hangs over a border."""
        return any(self.pads)

    def output(self, x: Shape) -> Shape:
        """Shape of a pooled image."""
        size = [
            (x[1 + a] + self.pads[a] + self.pads[2 + a] - self.dilation[a] * (self.kernel[a] - 1) - 1)
            // self.stride[a]
            + 1
            for a in (0, 1)
        ]
        return (x[0], *size, x[3])

    def params(self, x: Shape, y: Shape) -> dict[str, object]:
        """What every windowed template is told."""
        return {
            "rows": x[1],
            "columns": x[2],
            "depth": x[3],
            "out_rows": y[1],
            "out_columns": y[2],
            "kernel_rows": self.kernel[0],
            "kernel_columns": self.kernel[1],
            "stride_rows": self.stride[0],
            "stride_columns": self.stride[1],
            "dilation_rows": self.dilation[0],
            "dilation_columns": self.dilation[1],
            "pad_top": self.pads[0],
            "pad_left": self.pads[1],
            "padded": self.padded,
        }

    def label(self, x: Shape, y: Shape) -> str:
        """Part of a C function's name: input, output, window."""
        text = f"{x[1]}x{x[2]}x{x[3]}_{y[3]}_k{self.kernel[0]}x{self.kernel[1]}"
        return text if self.stride == (1, 1) else f"{text}_s{self.stride[0]}x{self.stride[1]}"

    def footprint(self, x: Shape, y: Shape, reads_first: bool) -> Footprint:
        """One event per output pixel, raster order."""
        first_row, last_row = self._span(0, x[1], y[1])
        first_column, last_column = self._span(1, x[2], y[2])
        low = (first_row[:, None] * x[2] + first_column[None, :]).ravel() * x[3]
        high = (last_row[:, None] * x[2] + last_column[None, :] + 1).ravel() * x[3]
        pixel = np.arange(y[1] * y[2], dtype=np.int64)
        return Footprint(low, high, pixel * y[3], (pixel + 1) * y[3], reads_first)

    def _span(self, axis: int, extent: int, count: int) -> tuple[IntArray, IntArray]:
        """First and last input index of every output index along an axis, inside the image."""
        start = np.arange(count, dtype=np.int64) * self.stride[axis] - self.pads[axis]
        end = start + (self.kernel[axis] - 1) * self.dilation[axis]
        return np.clip(start, 0, extent - 1), np.clip(end, 0, extent - 1)

    def taps(self, x: Array, y: Shape, fill: float) -> Iterator[Array]:
        """For each tap of the window the (samples, rows, columns, depth) values that it sees.

        Taps run along rows first. What lies outside the image reads as `fill`.
        """
        needed = [
            (y[1 + a] - 1) * self.stride[a] + (self.kernel[a] - 1) * self.dilation[a] + 1
            for a in (0, 1)
        ]
        after = [max(0, needed[a] - x.shape[1 + a] - self.pads[a]) for a in (0, 1)]
        border = ((0, 0), (self.pads[0], after[0]), (self.pads[1], after[1]), (0, 0))
        image = np.pad(x, border, constant_values=fill)
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                top, left = i * self.dilation[0], j * self.dilation[1]
                yield image[
                    :,
                    top : top + (y[1] - 1) * self.stride[0] + 1 : self.stride[0],
                    left : left + (y[2] - 1) * self.stride[1] + 1 : self.stride[1],
                ]
