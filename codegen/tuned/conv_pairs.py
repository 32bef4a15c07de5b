"""Convolution with one group for Armv6-M: four pixels by one channel, two pixels per MULS.

The windows of four output pixels become pairs x0 + x1 * 2**16 and x2 + x3 * 2**16 in scratch. Then every
channel's stream (codegen.tuned.pairs) passes by once. The last block repeats pixels where fewer are left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from codegen import window
from codegen.ir import IntArray
from codegen.kernel import (
    HAS_DSP,
    NO_LIMBS,
    NOT_GROUPED,
    Constant,
    Footprint,
    Instance,
    Kernel,
    Layer,
    unmet,
)
from codegen.spatial import Window
from codegen.tuned import pairs
from codegen.tuned.lanes import signed
from codegen.tuned.limbs import Form

PIXELS = 4
ELEMENT_BYTES = 8  # of scratch: two pairs
FLAT_WORDS = 12  # weights' words up to which the inner loop is unrolled
PASSES = range(8, 3, -1)  # words per pass otherwise, best first
LONGEST_WINDOW = 1 << 13
MOST_CHANNELS = 1 << 12
STEP_LIMIT = 256  # strides, dilated extents: immediates
_WORD_CYCLES = 43
_EXCESS_CYCLES = 27
_PACK_CYCLES = 19  # one element of four pixels


@dataclass(frozen=True, slots=True)
class Geometry:
    """A layer's window and shapes; flat where each window is one pixel, and each pixel a window."""

    slides: Window
    x: window.Shape
    y: window.Shape

    @property
    def flat(self) -> bool:
        """Whether windows follow each other without a gap."""
        return self.slides.kernel == self.slides.stride == (1, 1) and not any(self.slides.pads)

    @property
    def length(self) -> int:
        """Elements of a window."""
        return prod(self.slides.kernel) * self.x[3]

    @property
    def pixels(self) -> int:
        """Output pixels."""
        return self.y[1] * self.y[2]

    @property
    def last_start(self) -> tuple[int, int]:
        """Last row and column where a window that lies inside the image starts; negative if none."""
        spans = [(k - 1) * d for k, d in zip(self.slides.kernel, self.slides.dilation, strict=True)]
        return self.x[1] - 1 - spans[0], self.x[2] - 1 - spans[1]

    @property
    def border(self) -> bool:
        """Whether some windows may leave the image."""
        return any(self.slides.pads)

    @property
    def runs(self) -> bool:
        """Whether a window inside the image is one run of elements per kernel row."""
        return self.slides.dilation[1] == 1 or self.slides.kernel[1] == 1

    @property
    def interior(self) -> bool:
        """Whether windows inside the image take the short way."""
        return self.runs and min(self.last_start) >= 0

    @property
    def edge_pixels(self) -> int:
        """Output pixels in blocks that take the long way, roughly: those that see padding, and neighbours."""
        if not self.interior:
            return self.pixels
        inside: list[int] = []
        for axis, last in enumerate(self.last_start):
            starts = np.arange(self.y[axis + 1]) * self.slides.stride[axis] - self.slides.pads[axis]
            inside.append(int(np.count_nonzero((starts >= 0) & (starts <= last))))
        edges = inside[0] * min(2 * (PIXELS - 1), inside[1])
        return self.pixels - inside[0] * inside[1] + edges

    @property
    def pair_bytes(self) -> int:
        """Bytes of the pairs of four windows."""
        return ELEMENT_BYTES * pairs.CHUNK * word_count(self.length)

    @property
    def padding_bytes(self) -> int:
        """Bytes of a pixel of padding, where windows may take the long way."""
        return -(-self.x[3] // 4) * 4 if self.border or not self.interior else 0

    @property
    def scratch(self) -> int:
        """Bytes of scratch."""
        return self.pair_bytes + self.padding_bytes


def kernel(
    sliding: Callable[[Layer], tuple[Window, window.Shape, window.Shape]],
    groups: Callable[[Layer], int],
    form: Callable[[Layer], Form | None],
) -> Kernel:
    """The variant.

    Args:
        sliding: window, input and output shape of a layer.
        groups: how many groups a layer has.
        form: its requantization, None where it has no such form.
    """

    def shape(layer: Layer) -> Geometry:
        return Geometry(*sliding(layer))

    def found(layer: Layer) -> Form:
        fitting = form(layer)
        assert fitting is not None
        return fitting

    def refusal(layer: Layer) -> str:
        return unmet(
            (lambda: not layer.core.dsp, HAS_DSP),
            (lambda: groups(layer) == 1, NOT_GROUPED),
            (lambda: serves(shape(layer)), "constants or offsets are too large for the template"),
            (lambda: form(layer) is not None, NO_LIMBS),
        )

    return Kernel(
        name="conv2d.pairs",
        template="ops/conv2d.pairs.c.j2",
        assembly="ops/conv2d.pairs.S.j2",
        serves=lambda layer: not refusal(layer),
        refusal=refusal,
        instance=lambda layer: instance(layer, found(layer), shape(layer)),
        cycles=lambda layer: (
            cycles(layer, found(layer), shape(layer)) * pairs.speed(layer.core.thumb2)
        ),
        footprints=lambda layer: (footprint(shape(layer)),),
        scratch=lambda layer: shape(layer).scratch,
        passes=lambda layer: shape(layer).pixels / PIXELS,
    )


def loop(words: int) -> tuple[int, int]:
    """Passes of the inner loop and words per pass for so many words; the last pass may be longer."""
    if words <= FLAT_WORDS:
        return 1, words
    size = min(PASSES, key=lambda count: (-words % count, -count))
    return -(-words // size), size


def word_count(length: int) -> int:
    """Words of a channel's weights, zeros of the last pass included."""
    passes, size = loop(-(-length // pairs.CHUNK))
    return passes * size


def serves(shape: Geometry) -> bool:
    """Whether the template's constants and immediates reach."""
    slides = shape.slides
    steps = (*slides.stride, *slides.dilation, *slides.pads)
    extents = [k * d for k, d in zip(slides.kernel, slides.dilation, strict=True)]
    sizes = shape.length <= LONGEST_WINDOW and shape.y[3] <= MOST_CHANNELS
    return sizes and max(*steps, *extents) < STEP_LIMIT


def stream(layer: Layer, form: Form, length: int) -> IntArray:
    """All channels' streams."""
    w = layer.inputs[1].values.astype(np.int64)
    count = word_count(length)
    parts: list[IntArray] = []
    for row, constants in zip(w.reshape(len(w), -1), form.words(), strict=True):
        parts += pairs.channel(row, constants, count, ELEMENT_BYTES)
    return signed(np.concatenate(parts))


def instance(layer: Layer, form: Form, shape: Geometry) -> Instance:
    """Template params and the packed stream."""
    words = stream(layer, form, shape.length)
    passes, size = loop(-(-shape.length // pairs.CHUNK))
    numbers = params(layer, form, shape) | {
        "words": passes * size,
        "filled": 4 * passes * size,
        "passes": passes,
        "pass_words": size,
        "stream_bytes": 4 * len(words),
        "inner": "multiply",
        "frame": 100,
    }
    label = window.label(shape.slides, shape.x, shape.y)
    constant = Constant("stream", "int32_t", words, layer.inputs[1].size)
    return Instance(f"pairs_{label}", numbers, (constant,))


def params(layer: Layer, form: Form, shape: Geometry) -> dict[str, object]:
    """What the template is told of the layer's shapes and its requantization."""
    slides, depth, channels = shape.slides, shape.x[3], shape.y[3]
    row_bytes = shape.x[2] * depth
    step = slides.stride[1] * depth
    extra = {
        "channels": channels,
        "pixels": shape.pixels,
        "tail": shape.pixels % PIXELS,
        "length": shape.length,
        "flat": shape.flat,
        "border": shape.border,
        "interior": shape.interior,
        "run": slides.kernel[1] * depth,
        "pitch": slides.dilation[0] * row_bytes,
        "row_bytes": row_bytes,
        "step": step,
        "row_step": slides.stride[0] * row_bytes - shape.y[2] * step,
        "corner": slides.pads[0] * row_bytes + slides.pads[1] * depth,
        "last_row": shape.last_start[0],
        "last_column": shape.last_start[1],
        "padding": shape.padding_bytes,
        "zero_point": layer.inputs[0].grid.zero_point,
        "thumb2": layer.core.thumb2,
    }
    return window.params(slides, shape.x, shape.y) | extra | form.params()


def footprint(shape: Geometry) -> Footprint:
    """One event per four output pixels, raster order."""
    pixels = window.footprint(shape.slides, shape.x, shape.y, reads_first=True)
    first = np.arange(0, len(pixels.read_low), PIXELS)
    last = np.minimum(first + PIXELS - 1, len(pixels.read_low) - 1)
    low: IntArray = np.minimum.reduceat(pixels.read_low, first)
    high: IntArray = np.maximum.reduceat(pixels.read_high, first)
    return Footprint(low, high, pixels.write_low[first], pixels.write_high[last], True)


def cycles(layer: Layer, form: Form, shape: Geometry) -> float:
    """Predicted on a Cortex-M0+ with the fast multiplier, counted from the template."""
    rows = layer.inputs[1].values.astype(np.int64).reshape(shape.y[3], -1)
    excess = sum(len(pairs.limited(row)[1]) for row in rows)
    longer = sum(bool(channel.lower) for channel in form.channels)
    passes, size = loop(-(-shape.length // pairs.CHUNK))
    per_channel = 42 + 4 * (15 + 4 * form.patches) + passes * (size * _WORD_CYCLES + 5)
    channels = shape.y[3] * per_channel + excess * _EXCESS_CYCLES + longer * 4 * 9
    return walking(shape, channels, -(-shape.pixels // PIXELS))


def walking(shape: Geometry, channels: float, blocks: int) -> float:
    """Predicted cycles of a layer whose channels take so many for a block of pixels."""
    taps = prod(shape.slides.kernel)
    walk = 30 if shape.flat else 150 + 20 * shape.slides.kernel[0]
    edge = shape.edge_pixels * 18 * taps if shape.border else 0
    return float(blocks * (channels + shape.length * _PACK_CYCLES + walk) + edge + 100)
