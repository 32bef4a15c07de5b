"""Convolution as a matrix product of two pixels by four channels, for cores with SMLAD.

The windows of two output pixels are widened to int16 in scratch, their pairs interleaved; then the
packed weights (codegen.tuned.raw8) pass by once. Where there is padding, the input rows under a row of
windows are first copied between borders, so that no window ever leaves its image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codegen import window
from codegen.ir import Array, IntArray
from codegen.kernel import (
    NO_LANE,
    NO_SMLAD,
    NOT_ALIGNED,
    NOT_GROUPED,
    Constant,
    Footprint,
    Instance,
    Layer,
    unmet,
)
from codegen.requantize import Scaling, reach
from codegen.spatial import Window
from codegen.tuned import lanes, mending, raw8

PIXELS = 2
ODD_LANE = 8  # odd channels hold 2**8 times their sum
FLAT_PAIRS = 32  # up to here the inner loop is unrolled
PASSES = range(18, 7, -1)  # pairs per pass otherwise, best first
FLAT_WORDS = 16  # words of a run that are widened without a loop
LONGEST_WINDOW = 1 << 13
MOST_RUNS = 64


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where a window's elements lie, and how many pairs they make.

    Attributes:
        slides: the sliding window.
        x: input shape.
        y: output shape; one row of pixels where the rows follow each other without a gap.
    """

    slides: Window
    x: window.Shape
    y: window.Shape

    @property
    def lined(self) -> bool:
        """Whether input rows are copied between borders."""
        return any(self.slides.pads)

    @property
    def flat(self) -> bool:
        """Whether windows follow each other without a gap."""
        return is_flat(self.slides)

    @property
    def columns(self) -> int:
        """Input columns under a row of windows."""
        (_, kernel), (_, stride), (_, dilation) = (
            self.slides.kernel,
            self.slides.stride,
            self.slides.dilation,
        )
        return (self.y[2] - 1) * stride + (kernel - 1) * dilation + 1

    @property
    def pitch(self) -> int:
        """Bytes from row to row, as windows see them."""
        return (self.columns if self.lined else self.x[2]) * self.x[3]

    @property
    def line_bytes(self) -> int:
        """Bytes of the copied rows, a multiple of 4."""
        return -(-self.slides.kernel[0] * self.pitch // 4) * 4 if self.lined else 0

    def runs(self) -> list[tuple[int, int]]:
        """First byte and length of each run of a window's consecutive elements."""
        found: list[tuple[int, int]] = []
        depth = self.x[3]
        for i in range(self.slides.kernel[0]):
            for j in range(self.slides.kernel[1]):
                at = i * self.slides.dilation[0] * self.pitch + j * self.slides.dilation[1] * depth
                if self.lined:
                    at = i * self.pitch + j * self.slides.dilation[1] * depth
                if found and sum(found[-1]) == at:
                    found[-1] = (found[-1][0], found[-1][1] + depth)
                else:
                    found.append((at, depth))
        return found

    def order(self) -> list[int]:
        """Element of each int16 of a widened window."""
        return raw8.widened_order([length for _, length in self.runs()])

    @property
    def pairs(self) -> int:
        """Pairs of int16 of one window."""
        return len(self.order()) // 2

    @property
    def scratch(self) -> int:
        """Bytes of scratch: copied rows, two widened windows."""
        return self.line_bytes + PIXELS * 4 * self.pairs


def is_flat(slides: Window) -> bool:
    """Whether each window is one pixel, and each pixel a window."""
    return slides.kernel == slides.stride == (1, 1) and not any(slides.pads)


def geometry(slides: Window, x: window.Shape, y: window.Shape) -> Geometry:
    """The geometry of a layer with one group."""
    if is_flat(slides):
        x, y = ((1, 1, s[1] * s[2], s[3]) for s in (x, y))
    return Geometry(slides, x, y)


def refusal(layer: Layer, scaling: Scaling, shape: Geometry, groups: int) -> str:
    """Which proof obligation of the kernel's arithmetic fails for a layer; empty if none does."""

    def sums_fit() -> bool:
        return _rows(layer, scaling) is not None and mending.fit(scaling.patches, 1 << ODD_LANE)

    def weights_fit() -> bool:
        rows = _rows(layer, scaling)
        return rows is not None and raw8.fits_raw8(rows[0])

    scaling = scaling.fixed
    return unfit(layer, lambda: shape, groups) or unmet(
        (lambda: lanes.lane(scaling, ODD_LANE) is not None, NO_LANE),
        (sums_fit, "256 times a sum of an odd channel leaves 32 bits"),
        (weights_fit, "raw8: 256 * odd + even weight leaves 16 bits (-128 above a negative one)"),
    )


def unfit(layer: Layer, shape: Callable[[], Geometry], groups: int) -> str:
    """Why the template cannot run a layer of this size, however its weights are packed; empty if it can."""
    return unmet(
        (lambda: layer.core.dsp, NO_SMLAD),
        (lambda: layer.core.unaligned, NOT_ALIGNED),
        (lambda: groups == 1, NOT_GROUPED),
        (
            lambda: len(shape().order()) <= LONGEST_WINDOW,
            f"a window has over {LONGEST_WINDOW} elements",
        ),
        (
            lambda: len(shape().runs()) <= MOST_RUNS,
            f"a window has over {MOST_RUNS} runs of elements",
        ),
    )


def passes(shape: Geometry) -> float:
    """How often all weights are read: once for every two pixels."""
    return shape.y[1] * shape.y[2] / PIXELS


def _rows(layer: Layer, scaling: Scaling) -> tuple[IntArray, IntArray, IntArray] | None:
    """Weights, biases with the zero point folded in, multipliers; None when 24 bits cannot hold a sum.

    Sums of odd channels are scaled by 256. Where one would leave 32 bits, the channel is constant more
    often than not (a bias limited to 2**30, on a tiny scale): it gets a sum that is small and constant.
    """
    x, w, b = layer.inputs
    matrix = w.values.astype(np.int64).reshape(len(w.values), -1)
    bias = lanes.folded_bias(x, w, b)
    multipliers = scaling.multipliers.copy()
    low, high = reach(x.grid, w, b)
    beyond = np.maximum(np.abs(low), np.abs(high)) >= 1 << 23
    for channel in range(1, len(bias), 2):
        if beyond[channel]:
            ends = int(low[channel]), int(high[channel])
            constant = _constant(ends, int(multipliers[channel]), scaling.q)
            if constant is None:
                return None
            matrix[channel] = 0
            bias[channel], multipliers[channel] = constant
    return matrix, bias, multipliers


def _constant(
    ends: tuple[int, int], multiplier: int, q: dict[str, object]
) -> tuple[int, int] | None:
    """A small sum and a multiplier with the one result of all sums between the ends; None if they differ."""
    shift, zero_point = 32 + _number(q, "shift"), _number(q, "zero_point")
    steps_of = ((end * multiplier + (1 << (shift - 1))) >> shift for end in ends)
    results = {min(max(step + zero_point, -128), 127) for step in steps_of}
    steps = results.pop() - zero_point
    fitting = abs(steps) << (shift - 22)
    if results or fitting >= 1 << 31:
        return None
    return (1 << 22) * (1 if steps >= 0 else -1), fitting


def _number(q: dict[str, object], key: str) -> int:
    value = q[key]
    assert isinstance(value, int)
    return value


def instance(layer: Layer, scaling: Scaling, shape: Geometry) -> Instance:
    """Template params and the packed stream: the rounding constant, then the blocks."""
    scaling = scaling.fixed
    rows = _rows(layer, scaling)
    even = lanes.lane(scaling)
    assert rows is not None
    assert even is not None
    order = shape.order()
    params = numbers(shape, scaling, layer.inputs[0].grid.zero_point) | {"elements": tuple(order)}
    blocks: Array = raw8.stream(*rows, order)
    if scaling.patches:
        blocks = raw8.mended(blocks, scaling.patches, shape.pairs)
        size = -(-shape.y[3] // raw8.BLOCK) * 4 * (9 + 2 * shape.pairs)
        params |= {"mended": True, "alone": False, "stream_bytes": size}
    stream = np.concatenate([[even.addend], blocks])
    label = window.label(shape.slides, layer.inputs[0].shape, layer.output.shape)
    return Instance(
        f"gemm_{label}", params, (Constant("weights", "int32_t", stream, layer.inputs[1].size),)
    )


def numbers(shape: Geometry, scaling: Scaling, zero_point: int) -> dict[str, object]:
    """Template params, for int8 weights; other packings change some."""
    slides, depth, channels = shape.slides, shape.x[3], shape.y[3]
    blocks = -(-channels // raw8.BLOCK)
    passes, unrolled, rest = loop(shape.pairs)
    step = slides.stride[1] * depth
    params = window.params(slides, shape.x, shape.y) | {
        "channels": channels,
        "tail": channels % raw8.BLOCK,
        "pixels": shape.y[1] * shape.y[2],
        "alone": shape.y[1] * shape.y[2] > 1 and shape.y[1] * shape.y[2] % PIXELS == 1,
        "lined": shape.lined,
        "flat": shape.flat,
        "line_words": shape.line_bytes // 4,
        "line_bytes": shape.line_bytes,
        "pitch": shape.pitch,
        "pad_bytes": slides.pads[1] * depth,
        "row_bytes": shape.x[2] * depth,
        "pairs": shape.pairs,
        "passes": passes,
        "unrolled": unrolled,
        "rest": rest,
        "length": slides.kernel[0] * slides.kernel[1] * depth,
        "stream_bytes": blocks * 4 * (8 + 2 * shape.pairs),
        "packing": "raw8",
        "twin": "raw8",
        "expanded": False,
        "mended": False,
        "frame": 52,
        "step": step,
        "row_step": slides.stride[0] * shape.pitch - shape.y[2] * step,
        "next_out": PIXELS * channels - channels // raw8.BLOCK * raw8.BLOCK,
        "runs": _widened(shape),
        "copied": _moves(max(0, min(shape.x[2], shape.columns - slides.pads[1])) * depth),
        "zero_point": zero_point,
        "together": PIXELS,
        "border": _four(zero_point),
        "shift": scaling.q["shift"],
    }
    low, high = _number(scaling.q, "low"), _number(scaling.q, "high")
    return params | {
        "low": low,
        "high": high,
        "low_bytes": _four(low) if low > -128 else None,
        "high_bytes": _four(high) if high < 127 else None,
    }


def _four(value: int) -> int:
    """A byte four times."""
    return (value & 0xFF) * 0x01010101


def loop(pairs: int) -> tuple[int, int, int]:
    """Passes of the inner loop, pairs per pass, and pairs after it; the first pair stands before it."""
    looped = pairs - 1
    if pairs <= FLAT_PAIRS:
        return 0, 0, looped
    unrolled = min(PASSES, key=lambda count: (looped % count, -count))
    return looped // unrolled, unrolled, looped % unrolled


@dataclass(frozen=True, slots=True)
class Run:
    """How a run is widened.

    Attributes:
        looped: how often a loop widens four words.
        groups: words at a time after that, without a loop.
        tail: bytes after the last word.
        joined: whether the byte that is left over makes a pair with one that waits.
        closes: whether a byte that still waits is stored after the run.
        step: bytes from there to the next run.
    """

    looped: int
    groups: tuple[int, ...]
    tail: int
    joined: bool
    closes: bool
    step: int

    @property
    def cycles(self) -> int:
        """Predicted cycles."""
        return 25 * self.looped + 5 * sum(self.groups) + 2 * self.tail + 2


def _widened(shape: Geometry) -> tuple[Run, ...]:
    runs = shape.runs()
    rows: list[Run] = []
    waiting = False
    for (at, length), (following, _) in zip(runs, [*runs[1:], (sum(runs[-1]), 0)], strict=True):
        words = length // 4
        looped = words // 4 if words > FLAT_WORDS else 0
        groups = (4,) * (words // 4 - looped) + ((words % 4,) if words % 4 else ())
        joined = waiting and length % 2 == 1
        waiting ^= length % 2 == 1
        closes = waiting and len(rows) == len(runs) - 1
        rows.append(Run(looped, groups, length % 4, joined, closes, following - at - length))
    return tuple(rows)


def _moves(count: int) -> dict[str, int]:
    """How that many bytes are copied or filled: 16 at a time, then words, then bytes."""
    return {"looped": count // 16, "words": count % 16 // 4, "bytes": count % 4}


def footprint(slides: Window, x: window.Shape, y: window.Shape) -> Footprint:
    """One event per two output pixels, raster order."""
    pixels = window.footprint(slides, x, y, reads_first=True)
    first = np.arange(0, len(pixels.read_low), PIXELS)
    last = np.minimum(first + PIXELS - 1, len(pixels.read_low) - 1)
    low: IntArray = np.minimum.reduceat(pixels.read_low, first)
    high: IntArray = np.maximum.reduceat(pixels.read_high, first)
    return Footprint(low, high, pixels.write_low[first], pixels.write_high[last], True)


def cycles(
    shape: Geometry,
    limits: tuple[int, int],
    extra_block: int = 0,
    extra_pixels: float = 0,
    alone: bool = True,
) -> float:
    """Predicted cycles, counted from the template; m4-simple.

    Args:
        shape: the layer's geometry.
        limits: least and largest result.
        extra_block: what a block of a pair of pixels costs beyond one of int8 weights.
        extra_pixels: what a pair of pixels costs beyond its blocks.
        alone: whether the last pixel of an odd number is multiplied alone.
    """
    pixels, channels = shape.y[1] * shape.y[2], shape.y[3]
    blocks = -(-channels // raw8.BLOCK)
    widening = (0 if shape.flat else 17) + widening_cycles(shape)
    rows = 0.0
    if shape.lined:
        line = 14 + 0.85 * shape.x[2] * shape.x[3]
        rows = shape.y[1] * (20 + shape.slides.kernel[0] * line) + 5 * shape.line_bytes / 4
    pairs = max(1, pixels // PIXELS)
    blank = 6 * shape.pairs if pixels == 1 else 0
    last = pixels > 1 and pixels % PIXELS
    if last and not alone:  # it runs as a pair
        pairs, last = pairs + 1, 0
    block = block_cycles(shape, limits) + extra_block
    multiplying = pairs * (blocks * block + 9 + extra_pixels)
    if last:
        multiplying += blocks * alone_cycles(shape, limits)
    return multiplying + pixels * widening + rows + blank + 60


def block_cycles(shape: Geometry, limits: tuple[int, int]) -> int:
    """Predicted cycles of four channels of two pixels."""
    passes, _, _ = loop(shape.pairs)
    limiting = 6 * (limits[0] > -128) + 6 * (limits[1] < 127)
    return 49 + limiting + 15 * shape.pairs + 6 * passes


def alone_cycles(shape: Geometry, limits: tuple[int, int]) -> float:
    """Predicted cycles of four channels of a last pixel alone."""
    limiting = 4 * (limits[0] > -128) + 4 * (limits[1] < 127)
    return 37 + limiting + 9.5 * shape.pairs + 4 * (shape.pairs // 8)


def widening_cycles(shape: Geometry) -> int:
    """Predicted cycles of widening a window."""
    return sum(run.cycles for run in _widened(shape))
