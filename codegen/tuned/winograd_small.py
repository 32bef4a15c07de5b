"""conv2d.winograd with weights as they are in flash: they are combined in scratch, four channels at a time.

It saves conv2d.winograd's flash (32 bytes for every 9 weights) and pays with time and scratch: weights are
combined anew for every row of tiles, and the combined inputs of the whole row wait for them.
"""

from __future__ import annotations

import numpy as np

from codegen import window
from codegen.ir import IntArray
from codegen.kernel import Constant, Instance, Layer
from codegen.requantize import Scaling
from codegen.tuned import winograd
from codegen.tuned.lanes import folded_bias, signed
from codegen.tuned.winograd import BLOCK, HEADER, SCALE, Geometry

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
    taps = np.stack([weights[:, row, column] for row, column in TAPS], axis=1)
    quads = taps.reshape(len(weights), len(TAPS), -1, 4).transpose(0, 2, 1, 3)
    words = np.ascontiguousarray(quads).astype(np.int8).view("<i4").astype(np.int64)
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


def _block_words(shape: Geometry) -> int:
    return BLOCK * (2 + 9 * shape.x[3] // 4)


def instance(layer: Layer, scaling: Scaling, shape: Geometry) -> Instance:
    """Template params and the stream."""
    x, w, b = layer.inputs
    blocks = pack(w.values.astype(np.int64), folded_bias(x, w, b), scaling.multipliers)
    words = np.concatenate([winograd.header(layer, scaling), blocks])
    depth = shape.x[3]
    params = winograd.params(shape, scaling) | {
        "tiles_at": _tiles_at(shape),
        "block_words": _block_words(shape),
        "stream_bytes": shape.y[3] // BLOCK * 4 * _block_words(shape),
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
    return Instance(
        f"winograd_small_{label}", params, (Constant("stream", "int32_t", words, w.size),)
    )


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


def flash(shape: Geometry, limits: tuple[int, int]) -> int:
    """Predicted bytes in flash: the stream and the instructions."""
    stream = 4 * HEADER + shape.y[3] // BLOCK * 4 * _block_words(shape)
    return stream + 895 + winograd.code_bytes(shape, limits)


def flash_bytes(shape: Geometry) -> int:
    """Bytes of the stream that one inference reads: all for every row of tiles."""
    return len(shape.first_rows()) * shape.y[3] * _block_words(shape)
