"""What kernels with sliding windows share: template params, names, footprints."""

from __future__ import annotations

import numpy as np

from codegen.ir import Array, IntArray
from codegen.kernel import Footprint
from codegen.spatial import Window

Shape = tuple[int, ...]


def params(window: Window, x: Shape, y: Shape) -> dict[str, object]:
    """What every windowed template is told of input and output shapes (1, H, W, C)."""
    return {
        "rows": x[1],
        "columns": x[2],
        "depth": x[3],
        "out_rows": y[1],
        "out_columns": y[2],
        "kernel_rows": window.kernel[0],
        "kernel_columns": window.kernel[1],
        **moves(window),
        "padded": any(window.pads),
    }


def moves(window: Window) -> dict[str, object]:
    """How a window slides: where it starts, and what lies between its places and between its taps."""
    return {
        "stride_rows": window.stride[0],
        "stride_columns": window.stride[1],
        "dilation_rows": window.dilation[0],
        "dilation_columns": window.dilation[1],
        "pad_top": window.pads[0],
        "pad_left": window.pads[1],
    }


def label(window: Window, x: Shape, y: Shape) -> str:
    """Part of a C function's name: input, output channels, window, stride."""
    text = f"{x[1]}x{x[2]}x{x[3]}_{y[3]}_k{window.kernel[0]}x{window.kernel[1]}"
    return text if window.stride == (1, 1) else f"{text}_s{window.stride[0]}x{window.stride[1]}"


def footprint(window: Window, x: Shape, y: Shape, reads_first: bool) -> Footprint:
    """One event per output pixel, raster order."""
    first_row, last_row = _reach(window, 0, x[1], y[1])
    first_column, last_column = _reach(window, 1, x[2], y[2])
    low = (first_row[:, None] * x[2] + first_column[None, :]).ravel() * x[3]
    high = (last_row[:, None] * x[2] + last_column[None, :] + 1).ravel() * x[3]
    pixel = np.arange(y[1] * y[2], dtype=np.int64)
    return Footprint(low, high, pixel * y[3], (pixel + 1) * y[3], reads_first)


def strips(window: Window, x: Shape, y: Shape, rows: int) -> Footprint:
    """One event per so many output rows; their input is read until the last byte of them is written."""
    pixels = footprint(window, x, y, reads_first=False)
    first = np.arange(0, y[1] * y[2], rows * y[2])
    last = np.minimum(first + rows * y[2], y[1] * y[2]) - 1
    low: IntArray = np.minimum.reduceat(pixels.read_low, first)
    high: IntArray = np.maximum.reduceat(pixels.read_high, first)
    return Footprint(low, high, pixels.write_low[first], pixels.write_high[last], False)


def _reach(window: Window, axis: int, extent: int, count: int) -> tuple[IntArray, IntArray]:
    """First and last input index inside the image, for every output index along an axis."""
    start = np.arange(count, dtype=np.int64) * window.stride[axis] - window.pads[axis]
    end = start + (window.kernel[axis] - 1) * window.dilation[axis]
    return np.clip(start, 0, extent - 1), np.clip(end, 0, extent - 1)


def taps(window: Window, x: Array, fill: int) -> list[Array]:
    """What each kernel element sees at every position, (samples, rows, columns, C); row by row."""
    seen: dict[tuple[int, int], Array] = {}
    for i, j, values in window.shifts(x, fill):  # type: ignore[arg-type]  # integers work as well
        seen[i, j] = values
    return [seen[key] for key in sorted(seen)]
