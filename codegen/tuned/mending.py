"""Sums that a kernel replaces before it multiplies them: lists at the end of its stream of weights.

A layer that rounds as float32 does has, in some channels, a few sums for which its fixed-point multiplier
gives the neighbouring result (codegen.quant.float_rounding). Each block of such a stream has one word more:
how many bytes after that word the block's list begins, 0 where it has none. A list is a count, then for
each patch the byte offset of the channel among the block's sums, the sum, and what stands for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codegen.ir import IntArray
from codegen.quant.fixed import INT32_MAX
from codegen.quant.float_rounding import Patch

SKIP = 3  # cycles of a block without a list
BLOCK = 24  # of one with a list: its sums are stored and loaded
PATCH = {1: 14, 2: 18}  # of each patch, by how many pixels a block has


def woven(blocks: IntArray, at: int, lists: Sequence[IntArray]) -> IntArray:
    """The stream: blocks with one word more, then the lists.

    Args:
        blocks: (blocks, words).
        at: where in a block the word goes.
        lists: of every block, (patches, 3): byte offset among the sums, sum, replacement.
    """
    extended = np.insert(blocks, at, 0, axis=1)
    tail: list[int] = []
    for index, found in enumerate(lists):
        if len(found):
            here = index * extended.shape[1] + at + 1
            extended[index, at] = 4 * (extended.size + len(tail) - here)
            tail += [len(found), *found.ravel().tolist()]
    return np.concatenate([extended.ravel(), np.array(tail, np.int64)])


def lists(
    patches: Sequence[Sequence[Patch]], starts: Sequence[int], width: int, odd_scale: int = 1
) -> list[IntArray]:
    """The list of every block.

    Args:
        patches: of every channel.
        starts: first channel of every block.
        width: channels of a block.
        odd_scale: what the sums of a block's odd channels are multiplied by.
    """
    found = []
    for start in starts:
        rows = [
            (4 * lane, total * scale, instead * scale)
            for lane in range(min(width, len(patches) - start))
            for scale in (odd_scale if lane % 2 else 1,)
            for total, instead in patches[start + lane]
        ]
        found.append(np.array(rows, np.int64).reshape(-1, 3))
    return found


def fit(patches: Sequence[Sequence[Patch]], scale: int = 1) -> bool:
    """Whether sums and replacements, scaled, fit 32 bits: a replacement may lie one beyond the reach."""
    largest = max(
        (abs(number) for found in patches for patch in found for number in patch), default=0
    )
    return largest * scale <= INT32_MAX


def cycles(
    patches: Sequence[Sequence[Patch]], starts: Sequence[int], width: int, pixels: int = 1
) -> float:
    """Predicted cycles of looking at all blocks once; 0 without patches."""
    if not patches:
        return 0
    counts = [sum(map(len, patches[start : start + width])) for start in starts]
    return sum(SKIP + (BLOCK + PATCH[pixels] * count if count else 0) for count in counts)
