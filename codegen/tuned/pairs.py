"""Two multiplications per MULS, for cores without SMLAD: lanes, chunks and excess weights.

X = x0 + x1 * 2**16 times w sums two products. A chunk of such sums splits exactly while the magnitudes of its
weights sum to at most LANE: then the lower lane stays within 16 signed bits. Chunks are CHUNK weights, the
bytes of a word, unless a kernel says otherwise. What a chunk's weights exceed LANE by is taken off the
largest of them, and summed by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from codegen.ir import IntArray

CHUNK = 4
THUMB2_SHARE = 0.88  # of the cycles on Armv6-M, with shifted operands and MLA
LANE = 255  # times 128: the most that 16 signed bits hold


class Excess(NamedTuple):
    """A weight's part that is summed by itself."""

    element: int
    weight: int


def limited(row: IntArray, size: int = CHUNK) -> tuple[IntArray, list[Excess]]:
    """A channel's weights as its chunks can hold them, and the rest.

    Args:
        row: (length,), -128..127.
        size: weights per chunk.
    """
    kept, rest = row.copy(), []
    whole = np.zeros(-(-len(row) // size) * size, np.int64)
    whole[: len(row)] = np.abs(row)
    for number in (whole.reshape(-1, size).sum(axis=1) > LANE).nonzero()[0]:
        chunk = kept[number * size : (number + 1) * size]
        beyond = int(np.abs(chunk).sum()) - LANE
        for at in np.argsort(-np.abs(chunk), kind="stable"):
            taken = int(min(beyond, abs(chunk[at])) * np.sign(chunk[at]))
            if taken:
                chunk[at] -= taken
                rest.append(Excess(int(number) * size + int(at), taken))
                beyond -= abs(taken)
    return kept, rest


def speed(thumb2: bool) -> float:
    """What cores take of the cycles that are predicted for Armv6-M."""
    return THUMB2_SHARE if thumb2 else 1.0


def words(row: IntArray, count: int) -> IntArray:
    """Bytes of a row as little-endian words, `count` of them; zeros fill up."""
    filled = np.zeros(4 * count, np.int64)
    filled[: len(row)] = row
    packed: IntArray = filled.astype(np.int8).view("<i4").astype(np.int64)
    return packed


def channel(
    row: IntArray, constants: IntArray, count: int, element_bytes: int
) -> Iterator[IntArray]:
    """The stream of one channel: its weights, excess weights ended by 0, constants.

    An excess weight is a word: 256 * the place of its element in the buffer of pairs + its byte.
    """
    kept, rest = limited(row)
    yield words(kept, count)
    yield np.array([256 * element_bytes * e.element + (e.weight & 0xFF) for e in rest] + [0])
    yield constants
