"""How binary activations lie in memory: one bit per value, 32 to a word, channels last.

A value of +1 is a set bit, -1 a clear one. The first channel of a pixel is the lowest bit of its first
word; every pixel starts a word, and bits beyond the last channel are clear. Words are little-endian.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from codegen.ir import Array

WORD = 32
WORD_BYTES = 4


def words(channels: int) -> int:
    """Words of a pixel."""
    return -(-channels // WORD)


def pack(signs: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """Signs as a device holds them.

    Args:
        signs: (..., C); positive numbers are +1, all others -1.

    Returns:
        int8, (..., 4 * words(C)).
    """
    missing = -signs.shape[-1] % WORD
    widths = [(0, 0)] * (signs.ndim - 1) + [(0, missing)]
    is_set = np.pad(np.asarray(signs > 0, np.uint8), widths)
    packed: npt.NDArray[np.int8] = np.packbits(is_set, axis=-1, bitorder="little").view(np.int8)
    return packed


def unpack(packed: Array, channels: int) -> npt.NDArray[np.int8]:
    """What `pack` packed: -1 and +1, int8, (..., channels)."""
    stream = np.unpackbits(packed.view(np.uint8), axis=-1, bitorder="little")[..., :channels]
    return (2 * stream.astype(np.int8) - 1).astype(np.int8)


def pack_words(signs: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    """The same as words: uint32, (..., words(C))."""
    return np.ascontiguousarray(pack(signs)).view("<u4").astype(np.uint32)
