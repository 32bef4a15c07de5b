"""conv2d.signed_sums: convolution with ternary or binary weights for Armv6-M, by tables of sums of inputs.

Windows of four pixels are packed in pairs as for codegen.tuned.conv_pairs. Of every three inputs (ternary) or
four (binary) all signed sums are written to a table once, each one from the one before by adding or
subtracting one input; then a byte of flash per channel says which sum to add, for four pixels at a time.

Both lanes of a sum stay within 16 bits for 255 weights; longer windows are read in segments. Tables of a
*chunk* of groups exist at a time, so that scratch stays small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

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
from codegen.tuned import conv_pairs
from codegen.tuned.lanes import signed
from codegen.tuned.limbs import Form
from codegen.tuned.pairs import LANE

ENTRY_BYTES = 8  # of a table: two pairs of pixels
GROUPS = range(11, 3, -1)  # of a chunk
MOST_SPARE = 16  # elements of zeros: immediate offsets
NOT_SIGNS = "the weights are not -1, 0 and 1"
NEAR_GROUPS = 10  # two channels of a chunk within the reach of a conditional branch
_BUILD = {3: 164, 2: 120}  # cycles of a group's table, by radix


@dataclass(frozen=True, slots=True)
class Step:
    """What makes an entry of a table from the one before: an element added or subtracted."""

    element: int
    plus: bool


@dataclass(frozen=True, slots=True)
class Table:
    """Signed sums of a few inputs in the order of a reflected code.

    Attributes:
        radix: values of a weight: 2 (-1, 1) or 3 (-1, 0, 1).
        size: inputs.
    """

    radix: int
    size: int

    def digits(self) -> list[tuple[int, ...]]:
        """Of every entry, the values' numbers, the fastest first; neighbours differ in one, by one."""
        found: list[tuple[int, ...]] = [()]
        for _ in range(self.size):
            turned = [found, found[::-1]]
            found = [(*low, digit) for digit in range(self.radix) for low in turned[digit % 2]]
        return found

    def steps(self) -> list[Step]:
        """From entry to entry."""
        digits = self.digits()
        moved = [np.subtract(after, before) for before, after in pairwise(digits)]
        return [Step(int(np.flatnonzero(m)[0]), bool(m.sum() > 0)) for m in moved]

    def weights(self) -> IntArray:
        """(entries, size): -1, 0, 1."""
        digits = np.array(self.digits(), np.int64)
        return digits - 1 if self.radix == 3 else 2 * digits - 1

    @property
    def bytes(self) -> int:
        """Bytes of scratch."""
        return int(self.radix**self.size) * ENTRY_BYTES

    def codes(self, groups: IntArray) -> IntArray:
        """Offset of the entry for weights (..., size); weights that a table has not count as the least."""
        digits = groups + 1 if self.radix == 3 else (groups + 1) // 2
        places: IntArray = self.radix ** np.arange(self.size)
        entry = np.zeros(self.radix**self.size, np.int64)
        entry[np.array(self.digits()) @ places] = np.arange(len(entry))
        found: IntArray = ENTRY_BYTES * entry[digits @ places]
        return found


BINARY, TERNARY = Table(2, 4), Table(3, 3)


@dataclass(frozen=True, slots=True)
class Shape:
    """A layer's geometry, cut into chunks of groups.

    Attributes:
        size: windows.
        table: of a group.
        groups: of a chunk.
        chunks: how many.
    """

    size: conv_pairs.Geometry
    table: Table
    groups: int
    chunks: int

    @property
    def filled(self) -> int:
        """Elements of a window, zeros included."""
        return self.chunks * self.groups * self.table.size

    @property
    def segment(self) -> int:
        """Chunks after which lanes are read."""
        return max(1, LANE // (self.groups * self.table.size))

    @property
    def segments(self) -> int:
        """How often lanes are read."""
        return -(-self.chunks // self.segment)

    @property
    def channels(self) -> int:
        """Channels, an even number."""
        return self.size.y[3] + self.size.y[3] % 2

    @property
    def tables_at(self) -> int:
        """Where tables start in scratch: behind pairs and a pixel of padding."""
        return conv_pairs.ELEMENT_BYTES * self.filled + self.size.padding_bytes

    @property
    def scratch(self) -> int:
        """Bytes of scratch: also sums in lanes, and sums of segments."""
        sums = 8 * self.channels + (16 * self.channels if self.segments > 1 else 0)
        return self.tables_at + self.groups * self.table.bytes + sums


def _weights(layer: Layer) -> IntArray:
    w = layer.inputs[1].values.astype(np.int64)
    return w.reshape(len(w), -1)


def shape(layer: Layer, size: conv_pairs.Geometry) -> Shape:
    """How the kernel runs a layer whose weights are signs: as few zeros as may be, in few chunks."""
    table = BINARY if np.all(np.abs(_weights(layer)) == 1) else TERNARY
    count = -(-size.length // table.size)
    groups = min(GROUPS, key=lambda g: (-count % g, -g))
    return Shape(size, table, groups, -(-count // groups))


def stream(layer: Layer, form: Form, made: Shape) -> IntArray:
    """Codes by chunk, two channels and group; then the channels' constants."""
    rows = _weights(layer)
    fill = -1 if made.table.radix == 2 else 0
    filled = np.full((made.channels, made.filled), fill, np.int64)
    filled[: len(rows), : rows.shape[1]] = rows
    groups = filled.reshape(made.channels // 2, 2, made.chunks, made.groups, made.table.size)
    codes = made.table.codes(groups.transpose(2, 0, 3, 1, 4)).ravel()
    packed = np.pad(codes, (0, -len(codes) % 4)).astype(np.uint8).view("<u4").astype(np.int64)
    return signed(np.concatenate([packed, form.words().ravel()]))


def instance(layer: Layer, form: Form, made: Shape) -> Instance:
    """Template params and the packed stream."""
    words = stream(layer, form, made)
    code_words = -(-made.channels * made.chunks * made.groups // 4)
    params = conv_pairs.params(layer, form, made.size) | {
        "stream_bytes": 4 * len(words),
        "inner": "tables",
        "frame": 128,
        "filled": made.filled,
        "tables_at": made.tables_at,
        "code_bytes": 4 * code_words,
        "even_channels": made.channels,
        "groups": made.groups,
        "near": made.groups <= NEAR_GROUPS,
        "chunks": made.chunks,
        "segment": made.segment,
        "segments": made.segments,
        "radix": made.table.radix,
        "group_size": made.table.size,
        "table_bytes": made.table.bytes,
        "table_steps": made.table.steps(),
        "table_weights": made.table.weights().tolist(),
    }
    label = window.label(made.size.slides, made.size.x, made.size.y)
    constant = Constant("stream", "int32_t", words, 4 * code_words)
    return Instance(f"sums{made.table.radix}_{label}", params, (constant,))


def cycles(form: Form, made: Shape) -> float:
    """Predicted on a Cortex-M0+ with the fast multiplier, counted from the template."""
    size = made.size
    longer = sum(bool(channel.lower) for channel in form.channels)
    half = (23 if made.groups <= NEAR_GROUPS else 24) + made.groups * 17
    chunk = made.groups * _BUILD[made.table.radix] + made.channels // 2 * half + 40
    reading = made.channels * 36 if made.segments > 1 else 0
    per_channel = 32 + 4 * (15 + 4 * form.patches)
    results = size.y[3] * per_channel + longer * 4 * 9
    blocks = -(-size.pixels // conv_pairs.PIXELS)
    every = made.chunks * chunk + made.segments * reading + results + 4 * made.channels + 60
    return conv_pairs.walking(size, every, blocks)


def kernel(
    sliding: Callable[[Layer], tuple[Window, window.Shape, window.Shape]],
    groups: Callable[[Layer], int],
    form: Callable[[Layer], Form | None],
) -> Kernel:
    """The variant; arguments as for codegen.tuned.conv_pairs."""

    def size(layer: Layer) -> conv_pairs.Geometry:
        return conv_pairs.Geometry(*sliding(layer))

    def made(layer: Layer) -> Shape:
        return shape(layer, size(layer))

    def found(layer: Layer) -> Form:
        fitting = form(layer)
        assert fitting is not None
        return fitting

    def refusal(layer: Layer) -> str:
        w = layer.inputs[1]

        def signs() -> bool:
            # In int8 the magnitude of -128 would be negative.
            return w.storage is not None and bool(np.abs(w.values.astype(np.int64)).max() <= 1)

        return unmet(
            (lambda: not layer.core.dsp, HAS_DSP),
            (lambda: groups(layer) == 1, NOT_GROUPED),
            (signs, NOT_SIGNS),
            (
                lambda: conv_pairs.serves(size(layer)) and _spare(made(layer)) <= MOST_SPARE,
                "constants or offsets are too large for the template",
            ),
            (lambda: form(layer) is not None, NO_LIMBS),
        )

    def footprints(layer: Layer) -> tuple[Footprint | None, ...]:
        return (conv_pairs.footprint(size(layer)),)

    return Kernel(
        name="conv2d.signed_sums",
        template="ops/conv2d.signed_sums.c.j2",
        assembly="ops/conv2d.pairs.S.j2",
        serves=lambda layer: not refusal(layer),
        refusal=refusal,
        instance=lambda layer: instance(layer, found(layer), made(layer)),
        cycles=lambda layer: cycles(found(layer), made(layer)),
        footprints=footprints,
        scratch=lambda layer: made(layer).scratch,
        passes=lambda layer: size(layer).pixels / conv_pairs.PIXELS,
    )


def _spare(made: Shape) -> int:
    return made.filled - made.size.length
