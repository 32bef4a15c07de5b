"""Products of signs in assembly: exclusive or, and one count of the bits that differ (codegen.tuned.adders).

A result is `base - 2 * count`, base = products that count + what outside taps would have given; where
zeros lie around the image the base depends on which taps are outside: a class of pixels, a row of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from codegen import bits, window
from codegen.ir import IntArray
from codegen.kernel import NO_SMLAD, Constant, Footprint, Instance, Kernel, Layer, unmet
from codegen.quant.fixed import INT8_MAX, INT8_MIN
from codegen.spatial import Window
from codegen.tuned.adders import MOST, chunk, chunks

Sliding = tuple[Window, tuple[int, ...], tuple[int, ...]]
MOST_WORDS = 128  # of a window: code is unrolled
MOST_ROW = 8191  # sums that fit a table's entries


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """A binary convolution as kernels need it.

    Attributes:
        slides: the window.
        x: shape of the input in bytes.
        y: shape of the output in bytes.
        layer: the layer.
        pad_value: what lies outside: 0 or a sign.
        binary: whether results are bits.
        shift: of the requantization.
        limits: least and largest result in int8.
    """

    slides: Window
    x: tuple[int, ...]
    y: tuple[int, ...]
    layer: Layer
    pad_value: int
    binary: bool
    shift: int
    limits: tuple[int, int]

    @property
    def words(self) -> int:
        """Words of a pixel."""
        return self.x[3] // bits.WORD_BYTES

    @property
    def row_words(self) -> int:
        """Words of a window."""
        return self.slides.kernel[0] * self.slides.kernel[1] * self.words

    @property
    def channels(self) -> int:
        """Results of a pixel."""
        return self.layer.output.shape[3]

    @property
    def tabled(self) -> bool:
        """Whether zeros lie around the image."""
        return self.pad_value == 0 and any(self.slides.pads)


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """Pixels with the same taps outside.

    Attributes:
        rows: class of each output row.
        columns: class of each output column.
        base: products that count minus what the taps outside seem to give, (row classes, column classes, O).
    """

    rows: IntArray
    columns: IntArray
    base: IntArray


def classes(found: Products) -> Classes:
    """Outside taps read clear bits, -1: what they add to a sum is minus the sum of their weights."""
    slides, x, y = found.slides, found.x, found.y
    w = found.layer.inputs[1].values.astype(np.int64)
    row_numbers, row_masks = _patterns(slides, 0, x[1], y[1])
    column_numbers, column_masks = _patterns(slides, 1, x[2], y[2])
    outside = 1 - row_masks[:, None, :, None] * column_masks[None, :, None, :]
    seen: IntArray = np.einsum("rcij,oijk->rco", outside, w)
    return Classes(row_numbers, column_numbers, seen + w[0].size)


def _patterns(slides: Window, axis: int, extent: int, count: int) -> tuple[IntArray, IntArray]:
    """Which taps along an axis lie inside: number of the pattern for every position, and the patterns."""
    taps = np.arange(slides.kernel[axis]) * slides.dilation[axis] - slides.pads[axis]
    positions = np.arange(count)[:, None] * slides.stride[axis] + taps
    inside = ((positions >= 0) & (positions < extent)).astype(np.int64)
    masks, numbers = np.unique(inside, axis=0, return_inverse=True)
    return numbers.reshape(-1).astype(np.int64), masks


def _bounds(found: Products, base: IntArray) -> IntArray:
    """Of bits: a bit is set where the count is below this. base - 2 * count >= threshold."""
    edges = found.layer.inputs[2].values.astype(np.int64)
    least_unset: IntArray = np.maximum((base - edges) // 2 + 1, 0)
    return least_unset


def _stream(found: Products) -> tuple[IntArray, int, int]:
    """Words of the kernel's array; where the table starts, and the classes of rows, in words."""
    packed = bits.pack_words(found.layer.inputs[1].values).astype(np.int64)
    rows = [packed.reshape(found.channels, -1)]
    length = found.layer.inputs[1].values[0].size
    numbers = [t.values.astype(np.int64) for t in found.layer.inputs[2:]]
    if found.binary and not found.tabled:
        rows.append(_bounds(found, np.full(found.channels, length))[:, None])
    elif not found.binary:
        multipliers, addends = numbers
        if not found.tabled:
            addends = addends + multipliers * length
        rows += [(multipliers if found.tabled else -2 * multipliers)[:, None], addends[:, None]]
    weights = np.concatenate(rows, axis=1).reshape(-1)
    if not found.tabled:
        return weights, 0, 0
    groups = classes(found)
    entries = _bounds(found, groups.base) if found.binary else groups.base
    entries = np.pad(entries, ((0, 0), (0, 0), (0, found.channels % 2)))
    row_bytes = 2 * entries.shape[2]
    places = np.concatenate([groups.rows * groups.base.shape[1], groups.columns]) * row_bytes
    halves = [_halfwords(entries.reshape(-1)), _halfwords(places)]
    return np.concatenate([weights, *halves]), len(weights), len(weights) + len(halves[0])


def _halfwords(values: IntArray) -> IntArray:
    """Two to a word, the first in the lower half."""
    padded = np.pad(values, (0, len(values) % 2)).reshape(-1, 2) & 0xFFFF
    joined: IntArray = padded[:, 0] + (padded[:, 1] << 16)
    return joined


def runs(found: Products) -> dict[str, int]:
    """How a window is copied: rows and columns of taps, words of each. Without padding, runs are joined."""
    rows, columns = found.slides.kernel
    words, width = found.words, found.x[2]
    if not any(found.slides.pads) and found.slides.dilation[1] == 1:
        words, columns = words * columns, 1
        if found.slides.dilation[0] == 1 and found.slides.kernel[1] == width:
            words, rows = words * rows, 1
    return {"tap_rows": rows, "tap_columns": columns, "tap_words": words}


def _last_word(found: Products) -> int:
    """What fills the last word of a pixel outside, and with all bits set the others."""
    rest = found.layer.inputs[0].shape[3] % bits.WORD
    return (1 << rest) - 1 if rest else 0xFFFFFFFF


def instance(found: Products, counted: Sequence[object]) -> Instance:
    """Constants of a layer, for a kernel that counts words in these chunks."""
    stream, table, places = _stream(found)
    params: dict[str, object] = window.params(found.slides, found.x, found.y)
    params |= runs(found) | {
        "channels": found.channels,
        "in_channels": found.layer.inputs[0].shape[3],
        "words": found.words,
        "length": found.row_words,
        "chunks": list(counted),
        "tabled": found.tabled,
        "table": table,
        "places": places,
        "binary": found.binary,
        "filled": found.pad_value > 0,
        "last_word": _last_word(found),
        "shift": found.shift,
        "thumb2": found.layer.core.thumb2,
        "low": None if found.limits[0] == INT8_MIN else found.limits[0],
        "high": None if found.limits[1] == INT8_MAX else found.limits[1],
    }
    label = window.label(found.slides, found.layer.inputs[0].shape, found.layer.output.shape)
    weight_bytes = bits.WORD_BYTES * found.channels * found.row_words
    constant = Constant("stream", "uint32_t", stream % 2**32, weight_bytes)
    return Instance(f"xnor_{label}", params, (constant,))


def refusal(found: Products) -> str:
    """Why no kernel of these can run a layer."""
    return unmet(
        (lambda: found.row_words <= MOST_WORDS, f"windows of more than {MOST_WORDS} words"),
        (lambda: found.layer.inputs[1].values[0].size <= MOST_ROW, "sums that leave 14 bits"),
        (lambda: _small(found), "an image, or its table of borders, too large for its offsets"),
    )


def _small(found: Products) -> bool:
    """Whether sizes fit the immediates of comparisons, and the table its offsets."""
    sizes = (*found.x[1:3], *found.y[1:3])
    fits = max(sizes) < 256 and found.channels < 4096
    return fits and (not found.tabled or 2 * classes(found).base.size < 2**15)


def count_cycles(words: int) -> int:
    """Cycles of the products of one result on a core with shifted operands."""
    total = 0
    for at, size in chunks(words, MOST):
        loads = 3 * (size % 2) + 5 * (size // 2) + size
        total += loads + chunk(at, size).counting + 4
    return total


def cycles(found: Products) -> float:
    """Predicted cycles of a layer on a core with SMLAD."""
    pixels = found.y[1] * found.y[2]
    taps = runs(found)
    tap = 13 + 3 * taps["tap_words"] + 7 * any(found.slides.pads)
    copying = 40 + taps["tap_rows"] * (8 + taps["tap_columns"] * tap)
    many = len(chunks(found.row_words, MOST)) > 1
    result = (8 if found.binary else 12) + (4 if many else 2) * found.tabled
    clamps = sum(a != b for a, b in zip(found.limits, (INT8_MIN, INT8_MAX), strict=True))
    result += 0 if found.binary else 2 * clamps
    groups = 16 * bits.words(found.channels) if found.binary else 6
    each = count_cycles(found.row_words) + result
    return float(30 + pixels * (copying + groups + found.channels * each))


def footprints(found: Products) -> tuple[Footprint | None, ...]:
    """One event per pixel, which has copied its window first."""
    return (window.footprint(found.slides, found.x, found.y, reads_first=True),)


def kernel(products: Callable[[Layer], Products]) -> Kernel:
    """The variant for cores with SMLAD."""

    def why(layer: Layer) -> str:
        return refusal(products(layer)) if layer.core.dsp else NO_SMLAD

    def made(layer: Layer) -> Instance:
        found = products(layer)
        return instance(found, [chunk(*cut) for cut in chunks(found.row_words, MOST)])

    return Kernel(
        name="binary_conv2d.xnor",
        template="ops/binary_conv2d.xnor.c.j2",
        assembly="ops/binary_conv2d.xnor.S.j2",
        serves=lambda layer: not why(layer),
        refusal=why,
        instance=made,
        cycles=lambda layer: cycles(products(layer)),
        passes=lambda layer: float(np.prod(layer.output.shape[1:3])),
        footprints=lambda layer: footprints(products(layer)),
        scratch=lambda layer: bits.WORD_BYTES * products(layer).row_words,
    )
