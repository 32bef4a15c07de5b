"""Depthwise convolution for Armv6-M: two output rows at once, the pixels above each other share each MULS.

For one channel, what two rows of windows see becomes pairs x + x' * 2**16 in scratch, column after column, so
that a window is consecutive words, its weights as well: LDM takes three of each, a chunk. Beyond the image,
rows are read from a row of zero points; columns of pairs are set once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codegen import window
from codegen.ir import Array, IntArray
from codegen.kernel import (
    BOTH_ORDERS,
    HAS_DSP,
    NO_LIMBS,
    NOT_DEPTHWISE,
    Constant,
    Instance,
    Kernel,
    Layer,
    unmet,
)
from codegen.spatial import Window
from codegen.tuned import pairs
from codegen.tuned.lanes import signed
from codegen.tuned.limbs import WORDS, Form

ROWS = 2
CHUNK = 3  # words of an LDM
TAPS_LIMIT = 63
ROWS_LIMIT = 18  # under a pair of output rows: the frame holds where they start
IMMEDIATE = 256
_BASES = ("r0", "r1", "r3", "r4")
_ROW_TABLE = 48  # of the frame


@dataclass(frozen=True, slots=True)
class Geometry:
    """A layer's window and shapes."""

    slides: Window
    x: window.Shape
    y: window.Shape

    @property
    def taps(self) -> int:
        """Elements of a kernel."""
        return self.slides.kernel[0] * self.slides.kernel[1]

    @property
    def rows(self) -> int:
        """Input rows from the first to the last that two output rows see."""
        return (self.slides.kernel[0] - 1) * self.slides.dilation[0] + self.slides.stride[0] + 1

    @property
    def columns(self) -> int:
        """Input columns that a row of windows sees, padding included."""
        return (self.y[2] - 1) * self.slides.stride[1] + self.slides.kernel[1]

    @property
    def used(self) -> int:
        """Those of them that lie inside the image."""
        return max(0, min(self.x[2], self.columns - self.slides.pads[1]))

    @property
    def edge(self) -> bool:
        """Whether rows beyond the image are read."""
        return any(self.slides.pads[::2]) or self.y[1] % ROWS == 1

    @property
    def pair_bytes(self) -> int:
        """Bytes of pairs."""
        return 4 * self.columns * self.slides.kernel[0]

    @property
    def channel_bytes(self) -> int:
        """Bytes of a channel's weights as words, and its constants."""
        return 4 * (4 * -(-self.taps // 4) + WORDS)

    @property
    def scratch(self) -> int:
        """Bytes: pairs, a channel's words, a row of zero points."""
        row = -(-self.x[2] * self.x[3] // 4) * 4 if self.edge else 0
        return self.pair_bytes + self.channel_bytes + row

    def groups(self) -> list[list[tuple[int, str, str]]]:
        """Kernel rows that are read together: row, bases of both pixels; at most four bases a group."""
        found: list[list[tuple[int, str, str]]] = []
        bases: dict[int, str] = {}
        for i in range(self.slides.kernel[0]):
            upper = i * self.slides.dilation[0]
            wanted = dict.fromkeys((upper, upper + self.slides.stride[0]))
            if not found or len({**bases, **wanted}) > len(_BASES):
                found.append([])
                bases = {}
            for row in wanted:
                bases.setdefault(row, _BASES[len(bases)])
            found[-1].append((i, bases[upper], bases[upper + self.slides.stride[0]]))
        return found

    def loads(self) -> list[list[tuple[str, int]]]:
        """Per group: bases and which of the rows they hold."""
        stride, dilation = self.slides.stride[0], self.slides.dilation[0]
        return [
            sorted(
                {
                    base: i * dilation + step
                    for i, *both in group
                    for base, step in zip(both, (0, stride), strict=True)
                }.items()
            )
            for group in self.groups()
        ]


def serves(shape: Geometry) -> bool:
    """Whether the template's frame and immediates reach."""
    slides = shape.slides
    dense = slides.dilation[1] == 1 or slides.kernel[1] == 1
    small = shape.taps <= TAPS_LIMIT and shape.rows <= ROWS_LIMIT and slides.kernel[0] < 32
    return dense and small and 2 * max(*slides.stride, *slides.pads) < IMMEDIATE


def by_column(weights: Array) -> IntArray:
    """(channels, kernel rows, kernel columns, 1) to (channels, taps), column after column."""
    columns: IntArray = weights[..., 0].astype(np.int64).transpose(0, 2, 1)
    return columns.reshape(len(weights), -1)


def stream(weights: IntArray, form: Form) -> IntArray:
    """Per channel: its length in bytes, weights four to a word, constants, excess weights ended by 0.

    An excess weight is a word: 256 * the distance of its element from the window's end + its byte. Where
    no channel has any, there is no end either.

    Args:
        weights: (channels, taps), column after column.
        form: requantization.
    """
    taps = weights.shape[1]
    split = [pairs.limited(row, CHUNK) for row in weights]
    some = any(rest for _, rest in split)
    parts: list[IntArray] = []
    for (kept, rest), constants in zip(split, form.words(), strict=True):
        packed = pairs.words(kept, -(-taps // 4))
        tail = [1024 * (taps - e.element) + (e.weight & 0xFF) for e in rest] + [0] * some
        length = 4 * (len(packed) + len(constants) + len(tail))
        parts += [np.array([length]), packed, constants, np.array(tail, np.int64)]
    return signed(np.concatenate(parts))


def instance(layer: Layer, form: Form, shape: Geometry) -> Instance:
    """Template params and the packed stream."""
    slides = shape.slides
    weights = by_column(layer.inputs[1].values)
    words = stream(weights, form)
    depth, taps = shape.x[3], shape.taps
    constant = Constant("stream", "int32_t", words, layer.inputs[1].size)
    extra = {
        "taps": taps,
        "chunks": [min(CHUNK, taps - at) for at in range(0, taps, CHUNK)],
        "groups": list(zip(shape.groups(), shape.loads(), strict=True)),
        "excess": any(pairs.limited(row, CHUNK)[1] for row in weights),
        "frame": _ROW_TABLE + 4 * shape.rows + 4 * (shape.rows % 2 == 0),
        "table": _ROW_TABLE,
        "seen_rows": shape.rows,
        "seen_columns": shape.columns,
        "used_bytes": shape.used * depth,
        "pair_words": shape.pair_bytes // 4,
        "pair_bytes": shape.pair_bytes,
        "channel_bytes": shape.channel_bytes + 8 * form.patches,
        "edge": shape.edge,
        "row_bytes": shape.x[2] * depth,
        "stream_bytes": 4 * len(words),
        "column_step": 4 * slides.kernel[0] * slides.stride[1],
        "zero_point": layer.inputs[0].grid.zero_point,
    }
    params = window.params(slides, shape.x, shape.y) | extra | form.params()
    params["thumb2"] = layer.core.thumb2
    label = window.label(slides, shape.x, shape.y)
    return Instance(f"depthwise_pairs_{label}", params, (constant,))


def cycles(layer: Layer, form: Form, shape: Geometry) -> float:
    """Predicted on a Cortex-M0+ with the fast multiplier, counted from the template."""
    weights = by_column(layer.inputs[1].values)
    rests = [len(pairs.limited(row, CHUNK)[1]) for row in weights]
    longer = sum(bool(channel.lower) for channel in form.channels)
    channels, width, taps = len(weights), shape.y[2], shape.taps
    column = 7 * shape.slides.kernel[0] + 5 * len(shape.groups())
    pixel_pair = (
        61 + 18 * form.patches + 4 * taps + 5 * (-(-taps // CHUNK)) + (8 if any(rests) else 0)
    )
    per_channel = 75 + 4 * taps + shape.used * column + width * pixel_pair
    extra = width * (15 * sum(rests) + 2 * 11 * longer)
    return float(-(-shape.y[1] // ROWS) * (channels * per_channel + extra + 12 * shape.rows) + 300)


def kernel(
    sliding: Callable[[Layer], tuple[Window, window.Shape, window.Shape]],
    deep: Callable[[Layer], bool],
    form: Callable[[Layer], Form | None],
) -> Kernel:
    """The variant.

    Args:
        sliding: window, input and output shape of a layer.
        deep: whether a layer has one output channel per input channel, and each sees only its own.
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
            (lambda: deep(layer), NOT_DEPTHWISE),
            (lambda: serves(shape(layer)), "constants or offsets are too large for the template"),
            (lambda: form(layer) is not None, NO_LIMBS),
        )

    return Kernel(
        name="conv2d.depthwise_pairs",
        template="ops/conv2d.depthwise_pairs.c.j2",
        assembly="ops/conv2d.depthwise_pairs.S.j2",
        serves=lambda layer: not refusal(layer),
        refusal=refusal,
        instance=lambda layer: instance(layer, found(layer), shape(layer)),
        cycles=lambda layer: (
            cycles(layer, found(layer), shape(layer)) * pairs.speed(layer.core.thumb2)
        ),
        footprints=lambda layer: (window.strips(*sliding(layer), ROWS),),
        scratch=lambda layer: shape(layer).scratch + 8 * found(layer).patches,
        passes=lambda layer: shape(layer).y[1] / ROWS,
        orders=BOTH_ORDERS,
    )
