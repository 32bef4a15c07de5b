"""The weight stream of conv2d.gemm: two channels to a halfword, a pure function from integers to words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from codegen.ir import Array, IntArray
from codegen.quant.float_rounding import Patch
from codegen.tuned import mending

BLOCK = 4  # output channels that share a block of a stream
WIDENED = (0, 2, 1, 3)  # SXTB16 takes bytes 0 and 2 of a word, then bytes 1 and 3


def widened_order(lengths: list[int]) -> list[int]:
    """Which element each int16 of a widened window holds, -1 for none.

    A window is runs of consecutive elements. Whole words of a run give two pairs each; two or three
    elements after them give the pair of the first and the last. An element that is left over waits for
    the next one of its kind, and makes a pair with it, or after all runs one with none.
    """
    order: list[int] = []
    waiting: list[int] = []
    start = 0
    for length in lengths:
        whole = length // 4 * 4
        order += [start + word + lane for word in range(0, whole, 4) for lane in WIDENED]
        tail = start + whole
        if length % 4 > 1:
            order += [tail, start + length - 1]
        if length % 2:
            waiting.append(tail + (length % 4 == 3))
        if len(waiting) == 2:
            order += waiting
            waiting = []
        start += length
    return [*order, *waiting, -1] if waiting else order


def fits_raw8(weights: Array) -> bool:
    """Whether each 256 * odd + even fits 16 bits: fails only for an odd -128 above a negative number."""
    w = weights[: len(weights) // 2 * 2].astype(np.int64)
    return bool(np.all(256 * w[1::2] + w[::2] >= -(1 << 15)))


def stream(
    weights: Array, bias: IntArray, multipliers: IntArray, order: list[int]
) -> npt.NDArray[np.int32]:
    """The stream of a matrix product, four output channels per block.

    Channels 1 and 3 of a block are stacked on channels 0 and 2: one int16 holds 256 * odd + even. SMLAD
    sums it as it is; SXTB16 leaves the even channel alone. A block is four first sums, two words per
    pair of `order` (channels 0 and 1, channels 2 and 3), the multipliers of channels 0, 2, 1, 3.

    Args:
        weights: (channels, elements) of int8 for which `fits_raw8` holds.
        bias: (channels,), with the input's zero point folded in.
        multipliers: (channels,), 31 bits.
        order: element of each int16 of the window, -1 for none.
    """
    count = -(-len(weights) // BLOCK) * BLOCK
    w = np.zeros((count, weights.shape[1] + 1), np.int64)  # the last column stands for "none"
    w[: len(weights), :-1] = weights
    w = w[:, order]
    b, m = np.zeros((2, count), np.int64)
    b[: len(bias)], m[: len(multipliers)] = bias, multipliers
    w, b, m = w.reshape(-1, 2, 2, w.shape[1]), b.reshape(-1, 2, 2), m.reshape(-1, 2, 2)
    halves = (256 * w[:, :, 1] + w[:, :, 0]) & 0xFFFF
    words = (halves[..., 0::2] | halves[..., 1::2] << 16).transpose(0, 2, 1)
    sums = np.stack([b[..., 0], 256 * b[..., 1] + b[..., 0]], axis=-1)
    blocks = len(w)
    stream = np.concatenate(
        [
            sums.reshape(blocks, -1),
            words.reshape(blocks, -1),
            m.transpose(0, 2, 1).reshape(blocks, -1),
        ],
        axis=1,
    )
    return (stream & 0xFFFFFFFF).astype(np.uint32).view(np.int32).ravel()


def mended(stream: Array, patches: Sequence[Sequence[Patch]], pairs: int) -> IntArray:
    """The stream of so many pairs with lists of sums to replace (codegen.tuned.mending).

    Sums of odd channels are 256 times as large when they are compared.
    """
    blocks: IntArray = stream.reshape(-1, 8 + 2 * pairs).astype(np.int64)
    lists = mending.lists(patches, range(0, len(patches), BLOCK), BLOCK, 256)
    return mending.woven(blocks, 4 + 2 * pairs, lists)
