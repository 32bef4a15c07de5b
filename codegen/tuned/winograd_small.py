"""conv2d.winograd with weights as they are in flash: they are combined in scratch, four channels at a time.

It saves conv2d.winograd's flash (32 bytes for every 9 weights) and pays with time and scratch: weights are
combined anew for every row of tiles, and the combined inputs of the whole row wait for them.

conv2d.winograd_int4 is the same with 4-bit weights: a word has the elements of two quads, those of the
first half of the depth in the upper nibbles, and weights are multiplied by 16, in the upper half of a byte,
as are biases. So it is the kernel of int8 weights that are multiples of 16.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codegen import window
from codegen.ir import IntArray
from codegen.kernel import Constant, Instance, Layer
from codegen.requantize import Scaling
from codegen.tuned import winograd
from codegen.tuned.lanes import folded_bias, signed
from codegen.tuned.winograd import BLOCK, SCALE, Geometry

NIBBLE = 4  # bits
SHIFTING = 40  # cycles per element and four channels, for nibbles

# Taps in the order in which they are combined: outer columns, then the middle one.
TAPS = tuple((row, column) for column in (0, 2, 1) for row in range(3))


def pack(weights: IntArray, bias: IntArray, multipliers: IntArray) -> IntArray:
    """The blocks of the stream: per four channels multipliers, 4 * biases, then each channel's weights.

    A word is four elements of a tap; the words of its nine taps follow each other.

    Args:
        weights: (O, 3, 3, C), O and C multiples of 4.
        bias: (O,), with the input's zero point folded in.
        multipliers: (O,), 31 bits.
    """
    return _blocks(_bytes(weights), bias, multipliers)


def pack_nibbles(weights: IntArray, bias: IntArray, multipliers: IntArray) -> IntArray:
    """As `pack`, for weights that are multiples of 16 and a depth that is a multiple of 8."""
    whole = _bytes(weights) & 0xF0
    upper, lower = np.split(whole, 2, axis=1)
    return _blocks(upper | lower >> NIBBLE, bias, multipliers)


def _bytes(weights: IntArray) -> IntArray:
    """(O, quads, taps, 4) of weights (O, 3, 3, C)."""
    taps = np.stack([weights[:, row, column] for row, column in TAPS], axis=1)
    quads: IntArray = taps.reshape(len(weights), len(TAPS), -1, 4).transpose(0, 2, 1, 3)
    return quads


def _blocks(quads: IntArray, bias: IntArray, multipliers: IntArray) -> IntArray:
    """The stream of bytes (O, words, taps, 4)."""
    words = np.ascontiguousarray(quads).astype(np.uint8).view("<i4").astype(np.int64)
    heads = (part.reshape(-1, BLOCK) for part in (multipliers, signed(bias << SCALE)))
    blocks: IntArray = np.concatenate([*heads, words.reshape(len(words) // BLOCK, -1)], axis=1)
    return blocks.ravel()


def scratch(shape: Geometry) -> int:
    """Bytes of scratch: combined weights, then all tiles of a row.

    The combined columns of the row begin where the weights will be. Tiles are made from the last to the
    first; each unit lies behind all columns that it and those before it need. Where the image has a border,
    a row of zero points is needed while there are columns, but no tiles yet: it lies at the end.
    """
    return _tiles_at(shape) + len(shape.first_columns()) * _unit_bytes(shape)


def _tiles_at(shape: Geometry) -> int:
    return 16 * 8 * shape.x[3]


def _unit_bytes(shape: Geometry) -> int:
    return 4 * 16 * shape.x[3]


def _block_words(shape: Geometry, nibbles: bool) -> int:
    return BLOCK * (2 + 9 * shape.x[3] // (8 if nibbles else 4))


def times_sixteen(layer: Layer, scaling: Scaling) -> tuple[Layer, Scaling]:
    """The same layer with int8 weights 16 times as large, and the rule that takes this back."""
    x, w, b = layer.inputs
    grown = replace(w, data=(w.values.astype(np.int64) << NIBBLE).astype(np.int8), storage=None)
    biases = replace(b, data=b.values.astype(np.int64) << NIBBLE)
    shift = scaling.q["shift"]
    assert isinstance(shift, int)
    rule = replace(scaling, q=scaling.q | {"shift": shift + NIBBLE})
    return replace(layer, inputs=(x, grown, biases)), rule


def instance_int4(layer: Layer, scaling: Scaling, shape: Geometry) -> Instance:
    """Template params and the stream, of 4-bit weights."""
    return instance(*times_sixteen(layer, scaling), shape, nibbles=True)


def instance(layer: Layer, scaling: Scaling, shape: Geometry, nibbles: bool = False) -> Instance:
    """Template params and the stream."""
    x, w, b = layer.inputs
    packed = pack_nibbles if nibbles else pack
    blocks = packed(w.values.astype(np.int64), folded_bias(x, w, b), scaling.multipliers)
    words = np.concatenate([winograd.header(layer, scaling), blocks])
    depth = shape.x[3]
    params = winograd.params(shape, scaling) | {
        "tiles_at": _tiles_at(shape),
        "block_words": _block_words(shape, nibbles),
        "stream_bytes": shape.y[3] // BLOCK * 4 * _block_words(shape, nibbles),
        "nibbles": nibbles,
        "unit_count": len(shape.first_columns()),
        "unit_bytes": _unit_bytes(shape),
        "zeros_at": scratch(shape) - shape.x[2] * depth,
        "last_unit": {
            "columns": 8 * depth * shape.first_columns()[-1],
            "tiles": (len(shape.first_columns()) - 1) * _unit_bytes(shape),
        },
        "weights": {"place": 8 * depth, "upper": 64 * depth, "bytes": 8 * depth},
    }
    label = window.label(shape.slides, shape.x, shape.y)
    held = w.size // 2 if nibbles else w.size
    name = "winograd_int4" if nibbles else "winograd_small"
    return Instance(f"{name}_{label}", params, (Constant("stream", "int32_t", words, held),))


def cycles_int4(shape: Geometry, limits: tuple[int, int]) -> float:
    """Predicted cycles with 4-bit weights."""
    blocks, bands = shape.y[3] // BLOCK, len(shape.first_rows())
    return cycles(shape, limits) + SHIFTING * shape.x[3] * blocks * bands


def cycles(shape: Geometry, limits: tuple[int, int]) -> float:
    """Predicted cycles, counted from the template; m4-simple.

    Args:
        shape: the layer's geometry.
        limits: least and largest result.
    """
    depth, blocks = shape.x[3], shape.y[3] // BLOCK
    bands, units = len(shape.first_rows()), len(shape.first_columns())
    along = units * (10 + 190 * depth // 4)
    block = 100 + depth * 152 + units * (winograd.block_cycles(shape, limits) + 47)
    sides = shape.slides.pads[1] + shape.slides.pads[3]
    border = 10 + 4 * sides * depth
    band = winograd.rows_cycles(shape) + border + along + blocks * block
    return 60.0 + bands * band + winograd.outside_cycles(shape)
