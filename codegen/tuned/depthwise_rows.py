"""conv2d.depthwise_rows: conv2d.depthwise_strips for layers that are worth a function of their own.

Columns roll by as there (codegen.tuned.depthwise_strips). What differs:

- Results go straight to the output: channels and rows of the output are immediates.
- Rounding and zero point lie in the bias (codegen.tuned.folded), which frees the register for the output.
- Two channels share the words of a slot, so that loads are aligned: SXTB16 and SXTB16 ROR #8 take one each.
- What a border column adds is in the stream, as a bias of the first and, without a loop, of the last column.
- An odd number of rows: the last strip starts a row earlier and computes that one again.
"""

from __future__ import annotations

from collections.abc import Callable
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
from codegen.tuned.depthwise import BLOCK, starts
from codegen.tuned.depthwise_strips import ROWS, Geometry
from codegen.tuned.folded import Folded, fold
from codegen.tuned.lanes import folded_bias, halves, signed, stream

SCALE = 8  # weights * 2**8 fit 16 bits
MOST_CHANNELS = 255  # post-index of a store
MOST_BYTES = 4095  # immediate offsets, and what registers are set back by
FIELDS: tuple[str, ...] = ("right", "bias", "stream", "scratch", "offset", "y", "y_base")
FIELDS += ("top", "header", "x", "edge", "outside", "last_slot")
FIELDS += ("row0", "row1", "row2", "row3", "row4")


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
def folded(layer: Layer, scaling: Callable[[Layer], Scaling]) -> Folded | None:
    """The requantization; None when there is none. Layers are compared as themselves."""
    x, w, b = layer.inputs
    return fold(scaling(layer), SCALE, reach(x.grid, w, b))


def pack(weights: IntArray, biases: IntArray, multipliers: IntArray, turns: int) -> IntArray:
    """Per channel: (g0, g2) of each column, the middle row in two words, multiplier, biases.

    Args:
        weights: (channels, 3, 3), scaled.
        biases: (channels, n), as the kernel loads them.
        multipliers: one per channel.
        turns: how often the loop comes back; in the half word that is free.
    """
    columns = [halves(weights[:, 0, j], weights[:, 2, j]) for j in range(3)]
    middle = weights[:, 1]
    last = halves(middle[:, 2], np.full(len(weights), turns))
    words = [*columns, halves(middle[:, 0], middle[:, 1]), last, multipliers, *signed(biases).T]
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


def params(shape: Geometry) -> dict[str, object]:
    """What differs between functions, beside the requantization."""
    left, right = shape.starts_outside, has_right(shape)
    common = strips.params(shape)
    return common | {
        "channels": shape.x[3],
        "used_bytes": shape.used * shape.x[3],
        "y_row": shape.y[2] * shape.x[3],
        "slots_bytes": shape.slots * shape.slot_bytes,
        "odd_rows": shape.y[1] % ROWS,
        "has_left": left,
        "has_right": right,
        "words": 7 + left + right,
        "bias_word": 6 + left,
        # push {r4-r11, lr} leaves the stack 4 bytes off its alignment of 8.
        "frame": 4 * len(FIELDS) | 4,
        "at": {name: 4 * i for i, name in enumerate(FIELDS)},
    }


def instance(layer: Layer, form: Folded, shape: Geometry, limits: tuple[int, int]) -> Instance:
    """Template params and the stream."""
    image, w, b = layer.inputs
    weights = w.values.astype(np.int64).reshape(-1, 3, 3)
    bias = (folded_bias(image, w, b) << SCALE) + form.addends
    border = (weights.sum(axis=1) * image.grid.zero_point) << SCALE
    biases = [bias]
    if shape.starts_outside:
        biases.insert(0, bias + border[:, 0])
    if has_right(shape):
        biases.append(bias + border[:, 2])
    turns = (shape.y[2] - shape.tail - shape.before) // shape.turn
    words = [
        strips.header(shape, image.grid.zero_point, 0, tops(shape)),
        pack(weights << SCALE, np.stack(biases, axis=1), form.multipliers, turns),
    ]
    low, high = limits
    lane = {
        "shift": form.shift,
        "low": low if low > -128 else None,
        "high": high if high < 127 else None,
    }
    numbers = params(shape) | {"lane": lane, "q_low": low, "q_high": high}
    label = window.label(shape.slides, shape.x, shape.y)
    constant = stream(np.concatenate(words), 2 * w.size)
    return Instance(f"depthwise_rows_{label}", numbers, (constant,))


def cycles(shape: Geometry, clamps: int) -> float:
    """Predicted, counted from the template; m4-simple.

    Args:
        shape: the layer's geometry.
        clamps: how many limits of results saturation does not cover.
    """
    blocks = len(starts(shape.x[3]))
    move = 15 + (14 if shape.stride == 1 else 20) * shape.used + strips.loop(shape, shape.used)
    block = move + 14 + BLOCK * (_channel(shape) + 6 * clamps * shape.y[2])
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
) -> Kernel:
    """The variant. Arguments as of `depthwise_strips.kernel`."""

    def shape(layer: Layer) -> Geometry:
        return Geometry(*sliding(layer))

    def refusal(layer: Layer) -> str:
        return unmet(
            (lambda: layer.core.dsp, NO_SMLAD),
            (lambda: deep(layer), NOT_DEPTHWISE),
            (lambda: fits(shape(layer)), "not 3x3 with stride 1 or 2, too small, or too wide"),
            (lambda: folded(layer, scaling) is not None, "no bias that rounds for all sums"),
        )

    def made(layer: Layer) -> Instance:
        form = folded(layer, scaling)
        assert form is not None
        return instance(layer, form, shape(layer), limits(layer))

    def price(layer: Layer) -> float:
        low, high = limits(layer)
        return cycles(shape(layer), (low != -128) + (high != 127))

    return Kernel(
        name="conv2d.depthwise_rows",
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
