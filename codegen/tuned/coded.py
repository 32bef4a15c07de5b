"""Stored weights that are expanded to int8 in scratch: codes, a table of levels, a factor per block.

A code is a place in a table of at most 16 levels, or, where levels are evenly spaced, a level itself. Where
flash has a factor for every two weights as well, it is part of the table. Of two bits, every channel may have
a table of its own. Evenly spaced levels that are too many for a table are codes of six bits, with the factors
of two weights in them (mx6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codegen.ir import Factors, IntArray, Storage

MOST_LEVELS = 16
MOST_HALF = 255  # of (level + offset) * factor: two such share a half word
BLOCK_SIZES = (16, 32)
FACTOR_BITS = 4
OWN_BITS, OWN_OFFSET = 2, 128
LONG_BITS, LONG_OFFSET = 6, 32
_PAIR = 2


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """Weights = (table[code] - offset) * factor of the block.

    Attributes:
        bits: of a code: 2, 4 or 6.
        codes: (rows, length).
        table: (1 or rows, 2**bits) numbers from 0 up, for all channels or for each, or None where a code
            stands for itself.
        offset: what a number is too large by.
        zero: a code of a weight 0; None when there is none.
        factors: of blocks, or None.
    """

    bits: int
    codes: IntArray
    table: IntArray | None
    offset: int
    zero: int | None
    factors: Factors | None

    @property
    def own_tables(self) -> bool:
        """Whether each channel has a table of its own."""
        return self.table is not None and len(self.table) > 1


def read(stored: Storage) -> Coded | None:
    """Stored weights as the kernels expand them; None for what they cannot."""
    pairs = [f for f in stored.factors if f.size == _PAIR]
    blocks = [f for f in stored.factors if f.size != _PAIR]
    if len(stored.levels) > 1:
        return _own(stored)
    if len(blocks) > 1:
        return None
    if any(f.size not in BLOCK_SIZES or f.bits > FACTOR_BITS for f in blocks):
        return None
    factors = blocks[0] if blocks else None
    if factors and not factors.shifts and not pairs and stored.offset in (4, 8):
        codes = stored.codes.astype(np.int64) - stored.offset + 8
        return Coded(4, codes, None, 8, 8, factors)
    values = stored.levels[0].astype(np.int64)[stored.codes]
    for own in pairs:
        values = values * own.expanded(values.shape[1])
    return _tabled(values, factors) or _counted(values, factors)


def _own(stored: Storage) -> Coded | None:
    """Codes of two bits with levels of each channel's own, none of them -128."""
    levels = stored.levels.astype(np.int64)
    if stored.bits != OWN_BITS or stored.factors or levels.min() <= -OWN_OFFSET:
        return None
    everywhere = np.flatnonzero(np.all(levels == 0, axis=0))
    zero = int(everywhere[0]) if len(everywhere) else None
    codes = stored.codes.astype(np.int64)
    return Coded(OWN_BITS, codes, levels + OWN_OFFSET, OWN_OFFSET, zero, None)


def _tabled(values: IntArray, factors: Factors | None) -> Coded | None:
    levels = np.unique(values)
    if len(levels) not in (4, MOST_LEVELS) and 0 not in levels:  # there is room for one
        levels = np.union1d(levels, [0])
    most = int(factors.expanded(values.shape[1]).max(initial=1)) if factors else 1
    offset = max(0, -int(levels.min(initial=0)))
    if len(levels) > MOST_LEVELS or (int(levels.max(initial=0)) + offset) * most > MOST_HALF:
        return None
    bits = 2 if len(levels) <= 4 else 4
    table = np.full(1 << bits, offset, np.int64)
    table[: len(levels)] = levels + offset
    zero = int(np.argmax(table == offset)) if offset in table else None
    return Coded(bits, np.searchsorted(levels, values), table[None], offset, zero, factors)


def _counted(values: IntArray, factors: Factors | None) -> Coded | None:
    """Codes of six bits that stand for themselves."""
    if factors is None or not factors.shifts:
        return None
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    most = int(factors.expanded(values.shape[1]).max(initial=1))
    top = 2 * LONG_OFFSET - 1
    if low < -LONG_OFFSET or high + LONG_OFFSET > top or top * most > MOST_HALF:
        return None
    return Coded(LONG_BITS, values + LONG_OFFSET, None, LONG_OFFSET, LONG_OFFSET, factors)


def sixes(codes: IntArray) -> IntArray:
    """Words of blocks of four channels, for each two pairs of elements three: high bits, nibbles, nibbles.

    Of a last single pair there are two. High bits of channel c of pair p are bits 8 * p + 2 * c on, those
    of the pair's second element 16 bits above.

    Args:
        codes: (channels, elements) of six bits, multiples of 4 and 2.
    """
    low = nibbles(codes & 15)
    single = low.shape[1] % 2
    pairs = np.pad(codes >> 4, ((0, 0), (0, 2 * single))).reshape(len(codes) // 4, 4, -1, 2, 2)
    channel, pair, second = np.ogrid[:4, :2, :2]
    places = (8 * pair + 2 * channel + 16 * second)[:, None]
    high = (pairs << places).sum(axis=(1, 3, 4))
    low = np.pad(low, ((0, 0), (0, single))).reshape(len(low), -1, 2)
    found: IntArray = np.concatenate([high[..., None], low], axis=2).reshape(len(low), -1)
    return found[:, : found.shape[1] - single]


def units(codes: IntArray, bits: int) -> IntArray:
    """Words of blocks of four channels: of table places, two inputs of a channel next to each other.

    Args:
        codes: (channels, elements), multiples of 4 and 2.
        bits: 4, for a word per pair of elements, or 2, for a word for two pairs.
    """
    both = codes[:, 0::2] | codes[:, 1::2] << bits
    places = both.reshape(-1, 4, both.shape[1]) << 2 * bits * np.arange(4)[:, None]
    joined: IntArray = places.sum(axis=1)
    if bits == 4:
        return joined
    joined = np.pad(joined, ((0, 0), (0, joined.shape[1] % 2)))
    paired: IntArray = joined[:, 0::2] | joined[:, 1::2] << 16
    return paired


def nibbles(rows: IntArray) -> IntArray:
    """Words of blocks of four rows: a half word for each column, the first row in its lowest bits."""
    halves = (rows.reshape(-1, 4, rows.shape[1]) << 4 * np.arange(4)[:, None]).sum(axis=1)
    joined: IntArray = halves[:, 0::2] | halves[:, 1::2] << 16
    return joined
