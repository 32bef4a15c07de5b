"""conv2d.depthwise_strips: depthwise 3x3, two output rows by one channel, rolling along the columns.

What two output rows see of four channels lies in scratch, a slot per column, with a border of zero points:

    stride 1, rows a b c d:    a0 a1 c0 c1 | a2 a3 c2 c3 | b0 b1 d0 d1 | b2 b3 d2 d3
    stride 2, rows a b c d e:  the same, then  c0 c1 e0 e1 | c2 c3 e2 e3

A word loaded from a channel's byte and widened by SXTB16 is a pair of rows: (a, c), (b, d), (c, e). With the
weights (g0, g2) of a column as a pair, SMLAD takes two products of it and SMLAxy the one of g1. A channel's
two results take the place of its own bytes a and c, in a column that it has passed; when four channels are
done, words of results are copied to the output. Border columns have no slot where they come first or last.

All numbers of a layer lie in front of its stream, so that layers share a function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codegen import window
from codegen.ir import IntArray
from codegen.kernel import (
    BOTH_ORDERS,
    NO_LANE,
    NO_SMLAD,
    NOT_ALIGNED,
    NOT_DEPTHWISE,
    Instance,
    Kernel,
    Layer,
    unmet,
)
from codegen.requantize import Scaling, reach
from codegen.spatial import Window
from codegen.tuned.depthwise import BLOCK, starts
from codegen.tuned.lanes import Lane, folded_bias, halves, lane, signed, stream

ROWS = 2  # of the output, in a strip
WORDS = 7  # of a channel: five of weights, multiplier, bias
SHIFT = 12  # that layers are brought to, so that they share a function
MOST_SCALE = 8  # weights * 2**8 fit 16 bits
_HEADER: tuple[str, ...] = ("addend", "zeros", "channels", "x_row", "rows", "used", "y_row")
_HEADER += ("first_top", "last_top", "last_distance", "fill_words")
_FRAME: tuple[str, ...] = ("bias", "addend", "slot", "stream", "scratch", "offset", "y", "distance")
_FRAME += ("top", "header", "x", "edge", "outside", "last_slot")
_FRAME += ("row0", "row1", "row2", "row3", "row4")


@dataclass(frozen=True, slots=True)
class Geometry:
    """A layer's window and shapes, and what follows from them."""

    slides: Window
    x: window.Shape
    y: window.Shape

    @property
    def stride(self) -> int:
        """Of both axes."""
        return self.slides.stride[0]

    @property
    def seen(self) -> int:
        """Input rows under two output rows."""
        return self.stride + 3

    @property
    def slot_bytes(self) -> int:
        """Bytes of scratch per input column."""
        return 8 * (self.stride + 1)

    @property
    def seen_columns(self) -> int:
        """Input columns that a row of windows sees, with borders."""
        return (self.y[2] - 1) * self.stride + 3

    @property
    def used(self) -> int:
        """Those inside the image."""
        return min(self.x[2], self.seen_columns - self.slides.pads[1])

    @property
    def starts_outside(self) -> bool:
        """Whether the first column is border; it then has no slot."""
        return self.slides.pads[1] > 0

    @property
    def ends_outside(self) -> bool:
        """Whether the last column is border; it then has no slot."""
        return self.slides.pads[1] + self.used < self.seen_columns

    @property
    def slots(self) -> int:
        """Columns in scratch."""
        return self.seen_columns - self.starts_outside - self.ends_outside

    @property
    def scratch(self) -> int:
        """Bytes: the slots, and what a word from the last channel's byte reads beyond."""
        return self.slots * self.slot_bytes + 4

    @property
    def strips(self) -> int:
        """Of two output rows; the last one may have one."""
        return -(-self.y[1] // ROWS)

    @property
    def tail(self) -> int:
        """Last columns, which start fewer sums than the others."""
        return 3 - self.stride

    @property
    def turn(self) -> int:
        """Columns of a turn of the loop; even for stride 1, where two pairs of sums take turns."""
        return 6 // self.stride

    @property
    def looped(self) -> bool:
        """Whether there are more columns than a turn has."""
        return self.y[2] >= self.turn

    @property
    def before(self) -> int:
        """Columns of the first turn: what turns do not divide."""
        whole = self.y[2] - self.tail
        return whole % self.turn if self.looped else whole

    def tops(self) -> tuple[int, int]:
        """First input row of the first and the last strip."""
        first = -self.slides.pads[0]
        return first, first + (self.strips - 1) * ROWS * self.stride


def fits(shape: Geometry) -> bool:
    """Whether the kernel can run a layer of this size."""
    slides = shape.slides
    if slides.kernel != (3, 3) or slides.dilation != (1, 1):
        return False
    if slides.stride not in ((1, 1), (2, 2)) or shape.x[3] < BLOCK or shape.y[2] < shape.tail:
        return False
    # Results lie in columns of the image, which the sums have passed.
    return slides.pads[1] <= 2 and shape.stride * (shape.y[2] - 1) < shape.used


def scaled_lane(layer: Layer, scaling: Scaling) -> tuple[int, Lane] | None:
    """By how many bits weights are scaled, and the requantization; None when there is none.

    Sums may wrap on the way, as long as those that are requantized fit.
    """
    x, w, b = layer.inputs
    bound = int(max(np.abs(end).max() for end in reach(x.grid, w, b)))
    plain = lane(scaling)
    if plain is None:
        return None
    scale = max(0, min(MOST_SCALE, SHIFT - plain.shift))
    while scale and bound << scale >= 1 << 31:
        scale -= 1
    found = lane(scaling, scale)
    return (scale, found) if found is not None and bound << scale < 1 << 31 else None


def pack(weights: IntArray, bias: IntArray, multipliers: IntArray, turns: int) -> IntArray:
    """Per channel: (g0, g2) of each column, the middle row in two words, multiplier, bias.

    Args:
        weights: (channels, 3, 3), scaled.
        bias: folded and scaled, one per channel.
        multipliers: one per channel.
        turns: how often the loop comes back; in the half word that is free.
    """
    columns = [halves(weights[:, 0, j], weights[:, 2, j]) for j in range(3)]
    middle = weights[:, 1]
    last = halves(middle[:, 2], np.full(len(weights), turns))
    words = [*columns, halves(middle[:, 0], middle[:, 1]), last, multipliers, signed(bias)]
    channels = np.stack(words, axis=1)
    blocks = [channels[at : at + BLOCK].ravel() for at in starts(len(weights))]
    return np.concatenate(blocks)


def header(shape: Geometry, zero_point: int, addend: int, tops: tuple[int, int]) -> IntArray:
    """What the function is told of a layer; tops: first input row of the first and the last strip."""
    depth = shape.x[3]
    first, last = tops
    numbers = {
        "addend": addend,
        "zeros": (zero_point & 0xFF) * 0x01010101,
        "channels": depth,
        "x_row": shape.x[2] * depth,
        "rows": shape.x[1],
        "used": shape.used * depth,
        "y_row": shape.y[2] * depth,
        "first_top": first,
        "last_top": last,
        "last_distance": 0 if shape.y[1] % ROWS else shape.y[2] * depth,
        "fill_words": shape.scratch // 4,
    }
    return signed(np.array([numbers[name] for name in _HEADER], np.int64))


def params(shape: Geometry) -> dict[str, object]:
    """What differs between functions, beside the requantization."""
    return {
        "stride": shape.stride,
        "pad_left": shape.slides.pads[1],
        "left": shape.slides.pads[1] - shape.starts_outside,
        "starts_outside": shape.starts_outside,
        "ends_outside": shape.ends_outside,
        "tail": shape.tail,
        "turn": shape.turn,
        "before": shape.before,
        "looped": shape.looped,
        "odd_used": shape.used % 2,
        "odd_columns": shape.y[2] % 2,
        "used": None if shape.looped else shape.used,
        "columns": None if shape.looped else shape.y[2],
        "seen": shape.seen,
        "slot_bytes": shape.slot_bytes,
        "words": WORDS,
        # push {r4-r11, lr} leaves the stack 4 bytes off its alignment of 8.
        "frame": 4 * len(_FRAME) | 4,
        "at": {name: 4 * i for i, name in enumerate(_FRAME)},
        "head": {name: 4 * i for i, name in enumerate(_HEADER)},
        "header_words": len(_HEADER),
    }


def instance(layer: Layer, scaling: Scaling, shape: Geometry) -> Instance:
    """Template params and the stream."""
    image, w, b = layer.inputs
    found = scaled_lane(layer, scaling)
    assert found is not None
    scale, requantization = found
    weights = w.values.astype(np.int64).reshape(-1, 3, 3) << scale
    turns = (shape.y[2] - shape.tail - shape.before) // shape.turn
    bias = folded_bias(image, w, b) << scale
    words = [
        header(shape, image.grid.zero_point, requantization.addend, shape.tops()),
        pack(weights, bias, scaling.multipliers, turns),
    ]
    lanes = requantization.params()
    lanes.pop("addend")
    numbers = params(shape) | {"lane": lanes, "q_low": requantization.low}
    numbers |= {"q_high": requantization.high}
    label = f"depthwise_strips_s{shape.stride}"
    return Instance(label, numbers, (stream(np.concatenate(words), 2 * w.size),))


def cycles(shape: Geometry, clamps: int) -> float:
    """Predicted, counted from the template; m4-simple.

    Args:
        shape: the layer's geometry.
        clamps: how many limits of results saturation does not cover.
    """
    blocks = len(starts(shape.x[3]))
    move = 20 + (14 if shape.stride == 1 else 20) * shape.used + loop(shape, shape.used)
    copy = 10 + 8 * shape.y[2] + loop(shape, shape.y[2])
    block = move + copy + 12 + BLOCK * (_channel(shape) + 6 * clamps * shape.y[2])
    strip = 31 + 7 * shape.seen + blocks * block
    first, last = shape.tops()
    edges = sum(edge(shape, top) for top in range(first, last + 1, ROWS * shape.stride))
    return float(45 + 5 * shape.scratch // 4 + shape.strips * strip + blocks * edges)


def loop(shape: Geometry, columns: int) -> int:
    """What a loop over columns costs, two at a time; short ones are straight."""
    return 4 * -(-columns // 2) - 2 + 3 * (columns % 2) if shape.looped else 0


def _channel(shape: Geometry) -> int:
    """Cycles of a channel in a strip, apart from clamps."""
    whole = shape.y[2] - shape.tail
    if shape.stride == 1:
        ends = 37 + (4 if shape.starts_outside else 8) + 19 + (12 if shape.ends_outside else 15)
    else:
        ends = 22 + (4 if shape.starts_outside else 10) + (23 if shape.ends_outside else 28)
    turns = (whole - shape.before) // shape.turn
    return ends + (24 if shape.stride == 1 else 32) * whole + (5 + 4 * turns) * shape.looped


def edge(shape: Geometry, top: int) -> int:
    """Cycles of setting rows outside the image to zero points, for four channels of a strip."""
    outside = [row for row in range(shape.seen) if not 0 <= top + row < shape.x[1]]
    if not outside:
        return 0
    loops = (2 + shape.used * (9 if shape.stride == row == 2 else 7) for row in outside)
    return 7 + 5 * (shape.seen - len(outside)) + sum(loops)


def kernel(
    sliding: Callable[[Layer], tuple[Window, window.Shape, window.Shape]],
    deep: Callable[[Layer], bool],
    scaling: Callable[[Layer], Scaling],
    limits: Callable[[Layer], tuple[int, int]],
) -> Kernel:
    """The variant.

    Args:
        sliding: window, input and output shape of a layer.
        deep: whether a layer has one output channel per input channel, and each sees only its own.
        scaling: how its sums become int8.
        limits: least and largest result.
    """

    def shape(layer: Layer) -> Geometry:
        return Geometry(*sliding(layer))

    def refusal(layer: Layer) -> str:
        return unmet(
            (lambda: layer.core.dsp, NO_SMLAD),
            (lambda: layer.core.unaligned, NOT_ALIGNED),
            (lambda: deep(layer), NOT_DEPTHWISE),
            (lambda: fits(shape(layer)), "not 3x3 with stride 1 or 2, or too small"),
            (lambda: scaled_lane(layer, scaling(layer)) is not None, NO_LANE),
        )

    def price(layer: Layer) -> float:
        low, high = limits(layer)
        return cycles(shape(layer), (low != -128) + (high != 127))

    return Kernel(
        name="conv2d.depthwise_strips",
        template="ops/conv2d.depthwise_strips.c.j2",
        assembly="ops/conv2d.depthwise_strips.S.j2",
        serves=lambda layer: not refusal(layer),
        refusal=refusal,
        instance=lambda layer: instance(layer, scaling(layer), shape(layer)),
        cycles=price,
        footprints=lambda layer: (window.strips(*sliding(layer), ROWS),),
        scratch=lambda layer: shape(layer).scratch,
        passes=lambda layer: shape(layer).y[1] / ROWS,
        orders=BOTH_ORDERS,
    )
