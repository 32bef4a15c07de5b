"""The stream of conv2d.depthwise_dsp and the numbers of its template: four channels at a time.

SXTB16 of a word of four channels gives channels 0 and 2, SXTB16 ROR #8 channels 1 and 3, so weights lie in
pairs (0, 2) and (1, 3) of int16. Padding is read from a row of zero points: biases are folded everywhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from codegen import window
from codegen.ir import IntArray
from codegen.kernel import NO_LANE, NO_SMLAD, NOT_ALIGNED, NOT_DEPTHWISE, Instance, Layer, unmet
from codegen.requantize import Scaling
from codegen.spatial import Window
from codegen.tuned import mending
from codegen.tuned.lanes import folded_bias, halves, lane, stream

Shape = tuple[int, ...]
BLOCK = 4
OFFSET_LIMIT = 4095  # of LDR's immediate
TAPS_LIMIT = 64  # the table of taps lies on the stack
_SLOTS = ("end", "addend", "stream", "base", "left", "top", "zeros")
_TWO_TAPS, _ONE_TAP = 19, 10  # cycles for four channels
_BLOCK_CYCLES, _PIXEL_CYCLES = 29, 24


class Tap(NamedTuple):
    """A kernel element: where its word lies, and the registers that take the word and its weights."""

    offset: int
    slot: int
    word: str
    even: str
    odd: str


_REGISTERS = (("r8", "r10", "r11"), ("r9", "r12", "lr"))


def starts(channels: int) -> list[int]:
    """First channels of the blocks: the last one overlaps the one before where C % 4 != 0."""
    return [min(at, channels - BLOCK) for at in range(0, channels, BLOCK)]


def pack(weights: IntArray, bias: IntArray, multipliers: IntArray) -> IntArray:
    """Per block: four first sums; two words for every tap; four multipliers.

    Args:
        weights: (channels, taps).
        bias: folded, one per channel.
        multipliers: one per channel.
    """
    words: list[IntArray] = []
    for start in starts(len(weights)):
        block = slice(start, start + BLOCK)
        w = weights[block].astype(np.int64)
        pairs = np.stack([halves(w[0], w[2]), halves(w[1], w[3])], axis=1)
        words += [bias[block], pairs.ravel(), multipliers[block]]
    return np.concatenate(words)


def params(slides: Window, x: Shape, y: Shape, mended: bool = False) -> dict[str, object]:
    """Numbers for the assembly beside those that every windowed template has.

    Args:
        slides: the sliding window.
        x: input shape.
        y: output shape.
        mended: whether blocks have lists of sums to replace.
    """
    row_bytes, channels = x[2] * x[3], x[3]
    taps = slides.kernel[0] * slides.kernel[1]
    limits = _limits(slides, x)
    # push {r4-r11, lr} leaves the stack 4 bytes off its alignment of 8.
    frame = 4 * (taps + len(_SLOTS)) | 4
    block_bytes = 4 * (2 * BLOCK + 2 * taps + mended)
    return {
        "taps": taps,
        "mended": mended,
        "frame": frame,
        "at": {name: 4 * (taps + i) for i, name in enumerate(_SLOTS)},
        "interior": _has_interior(slides, x),
        "border": any(slides.pads) or not _has_interior(slides, x),
        "groups": _groups(slides, x),
        "row_limit": limits[0],
        "column_limit": limits[1],
        "corner": slides.pads[0] * row_bytes + slides.pads[1] * channels,
        "pixel_step": slides.stride[1] * channels,
        "row_step": slides.stride[0] * row_bytes - y[2] * slides.stride[1] * channels,
        "left_end": y[2] * slides.stride[1] - slides.pads[1],
        "top_end": y[1] * slides.stride[0] - slides.pads[0],
        "tap_column": slides.dilation[1] * channels,
        "tap_row": slides.dilation[0] * row_bytes,
        "blocks": len(starts(channels)),
        "block_bytes": block_bytes,
        "stream_bytes": len(starts(channels)) * block_bytes,
        "overlap": -channels % BLOCK,
        "zero_words": -(-channels // 4),
    }


def instance(layer: Layer, scaling: Scaling, slides: Window, x: Shape, y: Shape) -> Instance:
    """Template params and the stream."""
    image, w, b = layer.inputs
    scaling = scaling.fixed
    found, mended = lane(scaling), bool(scaling.patches)
    assert found is not None
    weights = w.values.astype(np.int64).reshape(len(w.values), -1)
    words = pack(weights, folded_bias(image, w, b), scaling.multipliers)
    if mended:
        blocks = words.reshape(len(starts(len(weights))), -1)
        lists = mending.lists(scaling.patches, starts(len(weights)), BLOCK)
        words = mending.woven(blocks, blocks.shape[1] - BLOCK, lists)
    common = window.params(slides, x, y) | params(slides, x, y, mended)
    extra = {"zero_point": image.grid.zero_point, "lane": found.params(), "q": scaling.q}
    label = f"depthwise_{window.label(slides, x, y)}"
    return Instance(label, common | extra, (stream(words, 2 * w.size),))


def fits(slides: Window, x: Shape) -> bool:
    """Whether the kernel can run a layer of this size."""
    taps = slides.kernel[0] * slides.kernel[1]
    steps = max(*slides.stride, *slides.dilation)
    return x[3] >= BLOCK and taps <= TAPS_LIMIT and steps < 256


def refusal(layer: Layer, scaling: Scaling, slides: Window, x: Shape, deep: bool) -> str:
    """Why the kernel cannot run a layer, depthwise if `deep`; empty if it can."""
    core = layer.core
    return unmet(
        (lambda: core.dsp, NO_SMLAD),
        (lambda: deep, NOT_DEPTHWISE),
        (lambda: fits(slides, x), "too few channels, or too large a window"),
        (lambda: layer.output.shape[3] % 4 == 0 or core.unaligned, NOT_ALIGNED),
        (lambda: lane(scaling.fixed) is not None, NO_LANE),
    )


def scratch(slides: Window, x: Shape) -> int:
    """A row of zero points, where there is padding."""
    return -(-x[3] // 4) * 4 if any(slides.pads) else 0


def cycles(slides: Window, x: Shape, y: Shape, clamps: int) -> float:
    """Predicted on m4-simple; `clamps` counts limits that saturation does not cover."""
    taps = slides.kernel[0] * slides.kernel[1]
    block = _BLOCK_CYCLES + taps // 2 * _TWO_TAPS + taps % 2 * _ONE_TAP + 3 * BLOCK * clamps
    block += 5 if y[3] % BLOCK else 0
    border_block = block + taps
    build = 14 + slides.kernel[0] * (12 + 7 * slides.kernel[1])
    inside = [
        sum(
            0 <= at * slides.stride[axis] - slides.pads[axis] <= _limits(slides, x)[axis]
            for at in range(y[axis + 1])
        )
        for axis in (0, 1)
    ]
    pixels = y[1] * y[2]
    interior = inside[0] * inside[1] if _has_interior(slides, x) else 0
    blocks = len(starts(y[3]))
    total = interior * blocks * block + (pixels - interior) * (blocks * border_block + build)
    return float(50 + y[3] + 15 * y[1] + pixels * _PIXEL_CYCLES + total)


def mending_cycles(scaling: Scaling, y: Shape) -> float:
    """Predicted cycles of replacing sums."""
    return y[1] * y[2] * mending.cycles(scaling.fixed.patches, starts(y[3]), BLOCK)


def _limits(slides: Window, x: Shape) -> tuple[int, int]:
    """The last row and column where a window that lies inside the image starts."""
    spans = [(k - 1) * d for k, d in zip(slides.kernel, slides.dilation, strict=True)]
    return x[1] - 1 - spans[0], x[2] - 1 - spans[1]


def _has_interior(slides: Window, x: Shape) -> bool:
    """Whether some pixels see no padding, and immediate offsets reach all of their taps."""
    return min(_limits(slides, x)) >= 0 and _offsets(slides, x)[-1] <= OFFSET_LIMIT


def _offsets(slides: Window, x: Shape) -> list[int]:
    rows = [i * slides.dilation[0] * x[2] for i in range(slides.kernel[0])]
    columns = [j * slides.dilation[1] for j in range(slides.kernel[1])]
    return [(row + column) * x[3] for row in rows for column in columns]


def _groups(slides: Window, x: Shape) -> list[list[Tap]]:
    """Taps two by two: their loads stand together."""
    taps = [Tap(offset, 4 * i, *_REGISTERS[i % 2]) for i, offset in enumerate(_offsets(slides, x))]
    return [taps[i : i + 2] for i in range(0, len(taps), 2)]
