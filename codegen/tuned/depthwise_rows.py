"""conv2d.depthwise_rows: conv2d.depthwise_strips for layers that are worth a function of their own.

Columns roll by as there (codegen.tuned.depthwise_strips). What differs:

- Results go straight to the output: channels and rows of the output are immediates.
- Rounding and zero point lie in the bias (codegen.tuned.folded), which frees the register for the output.
- Two channels share the words of a slot, so that loads are aligned: SXTB16 and SXTB16 ROR #8 take one each.
- What a border column adds is in the stream, as a bias of the first and, without a loop, of the last column.
- An odd number of rows: the last strip starts a row earlier and computes that one again.
- conv2d.depthwise_bytes and conv2d.depthwise_int4 are the same with weights in bytes and nibbles. A channel
  widens its own once per strip: AND with 0xff00ff00 or 0xf000f000 of a word, shifted left, leaves a pair of
  weights times 2**8 or 2**12.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from codegen import window
from codegen.ir import IntArray
from codegen.kernel import (
    BOTH_ORDERS,
    NO_SMLAD,
    NOT_DEPTHWISE,
    Footprint,
    Instance,
    Kernel,
    Layer,
    unmet,
)
from codegen.requantize import Scaling, reach
from codegen.spatial import Window
from codegen.tuned import depthwise_strips as strips
from codegen.tuned import int4
from codegen.tuned.depthwise import BLOCK, starts
from codegen.tuned.depthwise_strips import ROWS, Geometry
from codegen.tuned.folded import Folded, fold
from codegen.tuned.lanes import folded_bias, halves, signed, stream

HALF, BYTE = 16, 8  # bits
LAST_BYTES = 2  # of a channel: the ninth weight, widened
MOST_CHANNELS = 255  # post-index of a store
MOST_BYTES = 4095  # immediate offsets, and what registers are set back by
FIELDS: tuple[str, ...] = ("right", "bias", "stream", "scratch", "offset", "y", "y_base")
FIELDS += ("top", "header", "x", "edge", "outside", "last_slot")
FIELDS += ("row0", "row1", "row2", "row3", "row4")


@dataclass(frozen=True, slots=True)
class Packing:
    """How a channel's weights lie in the stream.

    Eight of them in half words, the first of each at the top: (g0 of columns 0, 1, 2, m0) and
    (g2 of columns 0, 1, 2, m1). The ninth is widened already, below the turns of the loop.
    """

    name: str
    bits: int

    @property
    def scale(self) -> int:
        """Bits by which widened weights are scaled: they fit 16 bits."""
        return HALF - min(self.bits, BYTE)

    @property
    def words(self) -> int:
        """Words of the eight."""
        return 4 * self.bits // HALF

    @property
    def channel_bytes(self) -> int:
        """Bytes of a channel's weights."""
        return 4 * self.words + LAST_BYTES

    @property
    def extra(self) -> int:
        """Cycles of widening, less the loads that it saves."""
        return 5 + self.words - 4 if self.bits < HALF else 0

    def params(self) -> dict[str, object]:
        """For templates: mask, and the register, shift of each pair."""
        mask = ((1 << self.bits) - 1) << (HALF - self.bits)
        per_word = HALF // self.bits
        pairs = [(5 - self.words + n // per_word, n % per_word * self.bits) for n in range(4)]
        return {"pairs": pairs, "mask": mask, "bits": self.bits, "packed_words": self.words}


WIDE = Packing("conv2d.depthwise_rows", HALF)
BYTES = Packing("conv2d.depthwise_bytes", BYTE)
INT4 = Packing("conv2d.depthwise_int4", 4)


def has_right(shape: Geometry) -> bool:
    """Whether the last column starts from a bias of its own."""
    return shape.ends_outside and not shape.looped and shape.y[2] > shape.tail


def fits(shape: Geometry) -> bool:
    """Whether the kernel can run a layer of this size."""
    if not strips.fits(shape) or shape.x[3] > MOST_CHANNELS or shape.y[1] < ROWS:
        return False
    row = shape.x[3] * max(shape.used, shape.y[2])
    return max(row, shape.slots * shape.slot_bytes) <= MOST_BYTES


@lru_cache(maxsize=256)
def folded(layer: Layer, scaling: Callable[[Layer], Scaling], scale: int) -> Folded | None:
    """The requantization; None when there is none. Layers are compared as themselves."""
    x, w, b = layer.inputs
    return fold(scaling(layer), scale, reach(x.grid, w, b))


def pack(
    packing: Packing, weights: IntArray, biases: IntArray, multipliers: IntArray, turns: int
) -> IntArray:
    """Per channel: eight weights; the ninth and the turns; multiplier, biases.

    Args:
        packing: bits of weights.
        weights: (channels, 3, 3).
        biases: (channels, n), as the kernel loads them.
        multipliers: one per channel.
        turns: how often the loop comes back; in the half word that is free.
    """
    middle = weights[:, 1]
    lower = np.concatenate([weights[:, 0], middle[:, :1]], axis=1)
    upper = np.concatenate([weights[:, 2], middle[:, 1:2]], axis=1)
    per_word, least = HALF // packing.bits, (1 << packing.bits) - 1
    shifts = HALF - packing.bits * np.arange(1, per_word + 1)
    grown = packing.scale if packing.bits == HALF else 0
    packed = [
        ((half << grown & least).reshape(len(weights), -1, per_word) << shifts).sum(axis=2).T
        for half in (lower, upper)
    ]
    eight = [halves(low, high) for low, high in zip(*packed, strict=True)]
    last = halves(middle[:, 2] << packing.scale, np.full(len(weights), turns))
    words = [*eight, last, multipliers, *signed(biases).T]
    channels = np.stack(words, axis=1)
    return np.concatenate([channels[at : at + BLOCK].ravel() for at in starts(len(weights))])


def footprint(slides: Window, x: window.Shape, y: window.Shape) -> Footprint:
    """One event per strip; its input is read until the last byte of it is written."""
    pixels = window.footprint(slides, x, y, reads_first=False)
    rows = np.minimum(np.arange(0, y[1], ROWS), y[1] - ROWS)
    at = [slice(int(row) * y[2], (int(row) + ROWS) * y[2]) for row in rows]
    ends = ((pixels.read_low, min), (pixels.write_low, min))
    low = [np.array([pick(values[s]) for s in at], np.int64) for values, pick in ends]
    ends = ((pixels.read_high, max), (pixels.write_high, max))
    high = [np.array([pick(values[s]) for s in at], np.int64) for values, pick in ends]
    return Footprint(low[0], high[0], low[1], high[1], False)


def tops(shape: Geometry) -> tuple[int, int]:
    """First input row of the first and the last strip."""
    first = -shape.slides.pads[0]
    return first, first + (shape.y[1] - ROWS) * shape.stride


def params(shape: Geometry, packing: Packing) -> dict[str, object]:
    """What differs between functions, beside the requantization."""
    left, right = shape.starts_outside, has_right(shape)
    return (
        strips.params(shape)
        | packing.params()
        | {
            "channels": shape.x[3],
            "used_bytes": shape.used * shape.x[3],
            "y_row": shape.y[2] * shape.x[3],
            "slots_bytes": shape.slots * shape.slot_bytes,
            "odd_rows": shape.y[1] % ROWS,
            "has_left": left,
            "has_right": right,
            "words": packing.words + 3 + left + right,
            "bias_word": packing.words + 2 + left,
            # push {r4-r11, lr} leaves the stack 4 bytes off its alignment of 8.
            "frame": 4 * len(FIELDS) | 4,
            "at": {name: 4 * i for i, name in enumerate(FIELDS)},
        }
    )


def instance(
    layer: Layer, form: Folded, shape: Geometry, limits: tuple[int, int], packing: Packing
) -> Instance:
    """Template params and the stream."""
    image, w, b = layer.inputs
    weights = w.values.astype(np.int64).reshape(-1, 3, 3)
    bias = (folded_bias(image, w, b) << packing.scale) + form.addends
    border = (weights.sum(axis=1) * image.grid.zero_point) << packing.scale
    biases = [bias]
    if shape.starts_outside:
        biases.insert(0, bias + border[:, 0])
    if has_right(shape):
        biases.append(bias + border[:, 2])
    turns = (shape.y[2] - shape.tail - shape.before) // shape.turn
    words = [
        strips.header(shape, image.grid.zero_point, 0, tops(shape)),
        pack(packing, weights, np.stack(biases, axis=1), form.multipliers, turns),
    ]
    low, high = limits
    lane = {
        "shift": form.shift,
        "low": low if low > -128 else None,
        "high": high if high < 127 else None,
    }
    numbers = params(shape, packing) | {"lane": lane, "q_low": low, "q_high": high}
    label = window.label(shape.slides, shape.x, shape.y)
    constant = stream(np.concatenate(words), packing.channel_bytes * len(weights))
    return Instance(f"{packing.name.split('.')[1]}_{label}", numbers, (constant,))


def cycles(shape: Geometry, clamps: int, packing: Packing = WIDE) -> float:
    """Predicted, counted from the template; m4-simple.

    Args:
        shape: the layer's geometry.
        clamps: how many limits of results saturation does not cover.
        packing: of weights.
    """
    blocks = len(starts(shape.x[3]))
    move = 15 + (14 if shape.stride == 1 else 20) * shape.used + strips.loop(shape, shape.used)
    channel = _channel(shape) + packing.extra
    block = move + 14 + BLOCK * (channel + 6 * clamps * shape.y[2])
    strip = 49 + 7 * shape.seen + blocks * block
    first, last = tops(shape)
    rows = [*range(first, last, ROWS * shape.stride), last]
    edges = sum(strips.edge(shape, top) for top in rows)
    return float(40 + 5 * shape.scratch // 4 + shape.strips * strip + blocks * edges)


def _channel(shape: Geometry) -> float:
    """Cycles of a channel in a strip, apart from clamps."""
    right, left = has_right(shape), shape.starts_outside
    columns = shape.y[2]
    taps = 3 * columns - left - shape.ends_outside
    turns = (columns - shape.tail - shape.before) // shape.turn
    products = 4 * taps + 6 * (shape.ends_outside and not right) + 6 * columns
    loop = (6 + 4 * turns) * shape.looped
    if shape.stride == 1:
        return 16 + left + 2 * right + 5 * shape.slots + products + columns - 1 + loop
    return 15 + 2 * left + 4 * right + 7 * shape.slots + products + loop


def kernel(
    sliding: Callable[[Layer], tuple[Window, window.Shape, window.Shape]],
    deep: Callable[[Layer], bool],
    scaling: Callable[[Layer], Scaling],
    limits: Callable[[Layer], tuple[int, int]],
    packing: Packing = WIDE,
) -> Kernel:
    """The variant. Arguments as of `depthwise_strips.kernel`, and how weights lie in flash."""

    def shape(layer: Layer) -> Geometry:
        return Geometry(*sliding(layer))

    def form(layer: Layer) -> Folded | None:
        return folded(layer, scaling, packing.scale)

    def stored(layer: Layer) -> bool:
        if packing.bits < BYTE:
            return int4.fits(layer)
        return packing.bits == BYTE or layer.inputs[1].storage is None

    def refusal(layer: Layer) -> str:
        return unmet(
            (lambda: layer.core.dsp, NO_SMLAD),
            (lambda: deep(layer), NOT_DEPTHWISE),
            (lambda: stored(layer), f"holds {packing.bits} bits per weight, flash others"),
            (lambda: fits(shape(layer)), "not 3x3 with stride 1 or 2, too small, or too wide"),
            (lambda: form(layer) is not None, "no bias that rounds for all sums"),
        )

    def made(layer: Layer) -> Instance:
        found = form(layer)
        assert found is not None
        return instance(layer, found, shape(layer), limits(layer), packing)

    def price(layer: Layer) -> float:
        low, high = limits(layer)
        return cycles(shape(layer), (low != -128) + (high != 127), packing)

    return Kernel(
        name=packing.name,
        template="ops/conv2d.depthwise_rows.c.j2",
        assembly="ops/conv2d.depthwise_rows.S.j2",
        serves=lambda layer: not refusal(layer),
        refusal=refusal,
        instance=made,
        cycles=price,
        footprints=lambda layer: (footprint(*sliding(layer)),),
        scratch=lambda layer: shape(layer).scratch,
        passes=lambda layer: shape(layer).y[1] / ROWS,
        orders=BOTH_ORDERS,
    )
