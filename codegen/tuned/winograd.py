"""Exact integer Winograd F(2x2, 3x3): 3x3 convolutions of stride 1 with 16 products for every 4 results of 9.

With G = [[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]], twice the usual one, the weights U = G g G' of a
channel pair are integers, and so is everything else; results are 4 * sum, and requantization takes the 4.
Inputs are combined as they are stored: the bias has the zero point folded in, padding is the zero point.

A row of tiles reads four input rows before it writes its two output rows. Units of two tiles, 2 x 4 results,
make the products two tiles by four channels. Where the output's height is odd, or its width no multiple of
4, the last row of tiles or unit starts earlier, and computes some results anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codegen import window
from codegen.ir import IntArray
from codegen.kernel import Constant, Footprint, Instance, Layer
from codegen.requantize import Scaling, reach
from codegen.spatial import Window
from codegen.tuned.lanes import EVEN_ODD, Lane, folded_bias, halves, lane, signed

SCALE = 2  # sums are 2**2 times a convolution's
BLOCK = 4  # output channels of a block of the stream
UNIT = 4  # output columns of two tiles
MOST_DEPTH = 64  # immediate offsets reach all of a unit
ORDER = (1, 2, 0, 3)  # of rows and columns of a tile: 0 continues the sum of 1 and 2
TRANSFORM = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]])
HEADER = 3  # words before the first block: rounding constant, shift, zero points
_NUMBERS: tuple[str, ...] = ("return", "addend", "shift", "border", "x", "out", "stream", "end")
_NUMBERS += ("columns", "tiles", "unit", "left", "top", "rows", "inner_end", "tile", "zeros")
_MULTIPLIERS = 4 * len(_NUMBERS)
_BIASES = _MULTIPLIERS + 4 * BLOCK
_SUMS = _BIASES + 4 * BLOCK
FRAME = _SUMS + 5 * 32  # five times eight sums


@dataclass(frozen=True, slots=True)
class Geometry:
    """A layer's shapes (1, H, W, C), and what follows from them."""

    slides: Window
    x: window.Shape
    y: window.Shape

    @property
    def line(self) -> int:
        """Columns with borders."""
        return self.y[2] + 2

    @property
    def plane_bytes(self) -> int:
        """Bytes of four combined rows with borders."""
        return 8 * self.x[3] * self.line

    @property
    def outside(self) -> bool:
        """Whether tiles see rows outside the image."""
        return self.slides.pads[0] > 0 or self.slides.pads[2] > 0

    def first_rows(self) -> list[int]:
        """First output row of each row of tiles."""
        return [min(at, self.y[1] - 2) for at in range(0, self.y[1], 2)]

    def first_columns(self) -> list[int]:
        """First output column of each unit."""
        return [min(at, self.y[2] - UNIT) for at in range(0, self.y[2], UNIT)]


def serves(layer: Layer, scaling: Scaling, shape: Geometry) -> bool:
    """Whether the kernel computes a layer exactly: shapes, and the bounds of its arithmetic."""
    slides, depth, channels = shape.slides, shape.x[3], shape.y[3]
    if slides.kernel != (3, 3) or slides.stride != (1, 1) or slides.dilation != (1, 1):
        return False
    if depth % 4 or channels % BLOCK or depth > MOST_DEPTH or channels > 4 * MOST_DEPTH:
        return False
    if shape.y[1] < 2 or shape.y[2] < UNIT or lane(scaling, SCALE) is None:
        return False
    x, w, b = layer.inputs
    fits_16_bits = np.abs(transformed(w.values.astype(np.int64))).max() < 1 << 15
    least, greatest = reach(x.grid, w, b)
    # The sums of single positions may wrap; only 4 * (sum + bias) has to fit.
    bound = max(np.abs(least).max(), np.abs(greatest).max()) << SCALE
    return bool(fits_16_bits and bound < 1 << 31)


def transformed(weights: IntArray) -> IntArray:
    """U of weights (O, 3, 3, C): (O, 4, 4, C)."""
    result: IntArray = np.einsum("ai,oijc,bj->oabc", TRANSFORM, weights, TRANSFORM)
    return result


def pack(weights: IntArray, bias: IntArray, multipliers: IntArray) -> IntArray:
    """The blocks of the stream: per four channels multipliers, 4 * biases, then the 16 positions.

    A position has a word for each pair of elements and channel. Positions lie column by column, both in
    `ORDER`.

    Args:
        weights: (O, 3, 3, C), O and C multiples of 4.
        bias: (O,), with the input's zero point folded in.
        multipliers: (O,), 31 bits.
    """
    u = transformed(weights)[:, ORDER][:, :, ORDER]
    u = u[..., order(weights.shape[3])].transpose(0, 2, 1, 3).reshape(len(u), -1)
    words = halves(u[:, ::2], u[:, 1::2]).reshape(len(u) // BLOCK, BLOCK, -1)
    heads = (
        part.reshape(-1, BLOCK) for part in (multipliers, signed(bias.astype(np.int64) << SCALE))
    )
    blocks: IntArray = np.concatenate(
        [*heads, words.transpose(0, 2, 1).reshape(len(words), -1)], axis=1
    )
    return blocks.ravel()


def order(depth: int) -> list[int]:
    """Element of each int16 of a position."""
    return [word + lane for word in range(0, depth, 4) for lane in EVEN_ODD]


def instance(layer: Layer, scaling: Scaling, shape: Geometry) -> Instance:
    """Template params and the stream."""
    x, w, b = layer.inputs
    blocks = pack(w.values.astype(np.int64), folded_bias(x, w, b), scaling.multipliers)
    words = np.concatenate([header(layer, scaling), blocks])
    constant = Constant("stream", "int32_t", words, 2 * 16 * w.size // 9)
    label = window.label(shape.slides, shape.x, shape.y)
    found = lane(scaling, SCALE)
    assert found is not None
    fixed = params(shape, scaling) | {"shift": found.shift}
    return Instance(f"winograd_{label}", fixed, (constant,))


def header(layer: Layer, scaling: Scaling) -> IntArray:
    """First words of the stream: rounding constant, shift, four zero points."""
    found = lane(scaling, SCALE)
    assert found is not None
    border = (layer.inputs[0].grid.zero_point & 0xFF) * 0x01010101
    return signed(np.array([found.addend, found.shift, border]))


def params(shape: Geometry, scaling: Scaling) -> dict[str, object]:
    """What the templates are told. The shift is left to the stream, so that layers share a function."""
    found = lane(scaling, SCALE)
    assert found is not None
    depth, channels = shape.x[3], shape.y[3]
    out_row = shape.y[2] * channels
    common = window.params(shape.slides, shape.x, shape.y) | _machine(shape) | _limits(found)
    return common | {
        "channels": channels,
        "shift": None,
        "line_columns": shape.line,
        "tile_rows": tuple(shape.first_rows()),
        "tile_columns": tuple(c + t for c in shape.first_columns() for t in (0, 2)),
        "elements": tuple(order(depth)),
        "places": tuple(_place(row, column) for row in range(4) for column in range(4)),
        "block_words": 2 * BLOCK + 16 * depth // 2 * BLOCK,
        "stream_bytes": channels // BLOCK * 4 * (2 * BLOCK + 32 * depth),
        "out_row_bytes": out_row,
        "results": tuple(tuple(row * out_row + c * channels for c in (0, 1)) for row in (0, 1)),
    }


def _machine(shape: Geometry) -> dict[str, object]:
    """What only the assembly needs to know."""
    depth, left, right = shape.x[3], shape.slides.pads[1], shape.slides.pads[3]
    column, groups = 8 * depth, depth // 4
    borders = [(0, left * groups * 2), ((shape.line - right) * column, right * groups * 2)]
    return {
        "frame": FRAME | 4,  # push {r4-r11, lr} leaves the stack 4 bytes off its alignment of 8
        "slots": _slots(),
        "row_bytes": shape.x[2] * depth,
        "outside": shape.outside,
        "zero_words": shape.x[2] * groups,
        "tiles_at": shape.plane_bytes,
        "zeros_at": shape.plane_bytes,
        "borders": tuple({"start": s, "count": count} for s, count in borders if count),
        "first_bytes": left * column,
        "inner_bytes": shape.x[2] * column,
        "column_bytes": column,
        "unrolled": _unrolled(shape),
        "groups": groups,
        "steps": _steps(depth),
        "pairs": depth // 2,
        "back": {"columns": -shape.y[2] % UNIT, "rows": shape.y[1] % 2},
    }


def _limits(found: Lane) -> dict[str, object]:
    low, high = found.params()["low"], found.params()["high"]
    return {
        "low": found.low,
        "high": found.high,
        "low_bytes": None if low is None else (found.low & 0xFF) * 0x01010101,
        "high_bytes": None if high is None else (found.high & 0xFF) * 0x01010101,
    }


def _slots() -> dict[str, object]:
    """Offsets in the stack frame."""
    numbers: dict[str, object] = {name: 4 * i for i, name in enumerate(_NUMBERS)}
    sums = [_SUMS + 32 * i for i in range(5)]
    return numbers | {
        "multipliers": _MULTIPLIERS,
        "biases": _BIASES,
        "first": sums[0],
        "plus": tuple(sums[1:3]),
        "minus": tuple(sums[3:]),
    }


def _place(row: int, column: int) -> int:
    """Where a position lies among the 16."""
    return 4 * ORDER.index(column) + ORDER.index(row)


def _steps(depth: int) -> tuple[dict[str, tuple[int, ...]], ...]:
    """Offsets of the transform along rows, for four rows and two pairs of a word's elements."""
    steps = []
    for place in range(4):
        for pair in (0, 1):
            loads = tuple(8 * depth * column + 16 * pair + 4 * place for column in range(6))
            stores = tuple(
                4 * depth * (4 * column + place) + 8 * pair + 4 * tile
                for column in range(4)
                for tile in (0, 1)
            )
            steps.append({"loads": loads, "stores": stores})
    return tuple(steps)


def _unrolled(shape: Geometry) -> int:
    """Words per pass of the transform down columns."""
    words = shape.x[2] * shape.x[3] // 4
    return next(count for count in (4, 2, 1) if words % count == 0)


def scratch(shape: Geometry) -> int:
    """Bytes of scratch: four combined rows; then two tiles, or before them a row of zero points."""
    row = shape.x[2] * shape.x[3] if shape.outside else 0
    return shape.plane_bytes + max(4 * 16 * shape.x[3], row)


def footprint(shape: Geometry) -> Footprint:
    """One event per row of tiles: four rows are read, then two are written."""
    first = np.array(shape.first_rows(), np.int64)
    row, out_row = shape.x[2] * shape.x[3], shape.y[2] * shape.y[3]
    top = first - shape.slides.pads[0]
    low, high = np.clip(top, 0, shape.x[1] - 1), np.clip(top + 4, 1, shape.x[1])
    return Footprint(low * row, high * row, first * out_row, (first + 2) * out_row, True)


def cycles(shape: Geometry, limits: tuple[int, int]) -> float:
    """Predicted cycles, counted from the template; m4-simple.

    Args:
        shape: the layer's geometry.
        limits: least and largest result.
    """
    bands, units = len(shape.first_rows()), len(shape.first_columns())
    blocks = shape.y[3] // BLOCK * block_cycles(shape, limits)
    unit = 25 + 190 * shape.x[3] // 4 + blocks
    sides = shape.slides.pads[1] + shape.slides.pads[3]
    band = rows_cycles(shape) + units * unit
    return 60.0 + 4 * sides * shape.x[3] + bands * band + outside_cycles(shape)


def block_cycles(shape: Geometry, limits: tuple[int, int]) -> int:
    """Predicted cycles of four channels of two tiles."""
    limiting = 4 * (6 * (limits[0] > -128) + 6 * (limits[1] < 127))
    return 614 + limiting + 16 * 16 * shape.x[3] // 2


def rows_cycles(shape: Geometry) -> float:
    """Predicted cycles for the columns of a row of tiles."""
    words = shape.x[2] * shape.x[3] // 4
    return 62 + words * (29 + 6 / _unrolled(shape))


def outside_cycles(shape: Geometry) -> int:
    """Predicted cycles for rows of zero points, above and below."""
    return 2 * shape.outside * 5 * shape.x[2] * shape.x[3] // 4


def code_bytes(shape: Geometry, limits: tuple[int, int]) -> int:
    """Predicted bytes of instructions."""
    clamps = (limits[0] > -128) + (limits[1] < 127)
    padding = 120 * shape.outside + 96 * any(shape.slides.pads[1::2])
    return 2483 + 116 * _unrolled(shape) + 28 * shape.x[3] + 96 * clamps + padding


def flash(shape: Geometry, limits: tuple[int, int]) -> int:
    """Predicted bytes in flash: the stream and the instructions."""
    return 4 * HEADER + _stream_bytes(shape) + code_bytes(shape, limits)


def flash_bytes(shape: Geometry) -> int:
    """Bytes of the stream that one inference reads: all for every two tiles."""
    return len(shape.first_rows()) * len(shape.first_columns()) * _stream_bytes(shape)


def _stream_bytes(shape: Geometry) -> int:
    return shape.y[3] * (2 * BLOCK + 32 * shape.x[3])
