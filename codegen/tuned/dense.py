"""The weight stream of dense.dsp and dense.raw: blocks of channels, two channels to a halfword.

half = 256 * w_odd + w_even. SMLAD on raw words sums 256 * odd + even; SXTB16 leaves w_even, and SMLAD on that
sums the even channel alone, which is then subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from codegen.ir import IntArray
from codegen.quant.fixed import INT8_MAX, INT8_MIN
from codegen.quant.float_rounding import Patch
from codegen.tuned import mending
from codegen.tuned.lanes import EVEN_ODD, halves, signed

# Cycles per pair of inputs and block of so many channels: loads, two SMLAD and one SXTB16 per channel pair.
PAIR_CYCLES = {2: 6, 4: 10, 6: 14, 8: 19}


class Store(NamedTuple):
    """A channel's result: its place in the block, its sum, its multiplier's register and place."""

    channel: int
    total: str
    multiplier: str
    offset: int


_WORDS = ("r2", "r3", "lr")
SUMS = ("r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11")
_PASSES = range(8, 13)  # pairs per pass
_LONGEST_PASS = max(_PASSES)


@dataclass(frozen=True, slots=True)
class Blocks:
    """How channels are cut: `starts` of blocks of `width` channels; the last may overlap the one before."""

    width: int
    starts: tuple[int, ...]


def blocks(channels: int) -> Blocks:
    """The cheapest cut."""
    fitting = [width for width in PAIR_CYCLES if width <= channels + 1]
    widths = fitting or [min(PAIR_CYCLES)]
    width = min(widths, key=lambda w: (-(-channels // w) * PAIR_CYCLES[w], -w))
    last = max(channels - width, 0)
    return Blocks(width, tuple(min(at, last) for at in range(0, channels, width)))


def padded_length(length: int) -> int:
    """Inputs with zero weights added, so that they fill words."""
    return -(-length // 4) * 4


def input_order(length: int) -> IntArray:
    """Which input position i of the widened row holds."""
    group = np.arange(0, padded_length(length), 4)[:, None]
    order: IntArray = (group + np.array(EVEN_ODD)).ravel()
    return order


def pack(weights: IntArray, bias: IntArray, multipliers: IntArray) -> IntArray:
    """The stream: per block the first sums, words by pair of inputs, where it starts, multipliers.

    Args:
        weights: (channels, length), -127..127.
        bias: folded, one per channel.
        multipliers: one per channel; even channels of a block come before its odd ones.
    """
    channels, length = weights.shape
    cut = blocks(channels)
    order = input_order(length)
    rows = np.zeros((max(channels, cut.width), len(order)), np.int64)
    rows[:channels, :length] = weights
    ordered = rows[:, order]
    first, scale = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    first[:channels], scale[:channels] = bias, multipliers
    words: list[IntArray] = []
    for start in cut.starts:
        even = slice(start, start + cut.width, 2)
        odd = slice(start + 1, start + cut.width, 2)
        sums = np.stack([first[even], 256 * first[odd] + first[even]], axis=1)
        both = 256 * ordered[odd] + ordered[even]
        pairs = halves(both[:, ::2], both[:, 1::2])
        words += [signed(sums.ravel()), pairs.T.ravel(), np.array([start])]
        words += [scale[even], scale[odd]]
    return np.concatenate(words)


def schedule(width: int) -> list[list[tuple[str, str, str]]]:
    """Words that are loaded together: register of the word, sums of its even and its odd channel."""
    triples = [(_WORDS[i % len(_WORDS)], SUMS[2 * i], SUMS[2 * i + 1]) for i in range(width // 2)]
    return [triples[i : i + len(_WORDS)] for i in range(0, len(triples), len(_WORDS))]


def unrolling(pairs: int, raw: bool = False) -> tuple[int, int, int]:
    """Passes of a loop, pairs of inputs in a pass, pairs after the loop.

    Args:
        pairs: of inputs.
        raw: whether a word of inputs makes two pairs, so that passes are even.
    """
    if pairs <= _LONGEST_PASS:
        return 0, 0, pairs
    size = min(_PASSES[:: 2 if raw else 1], key=lambda n: (pairs % n, -n))
    return pairs // size, size, pairs % size


def stores(width: int, channels: int) -> tuple[list[list[Store]], list[list[Store]]]:
    """Even and odd channels of a block that exist, in pairs whose multipliers are loaded together."""
    kept = [
        Store(c, SUMS[c], ("r2", "r12")[c // 2 % 2], 4 * (c // 2 + c % 2 * (width // 2)))
        for c in range(min(width, channels))
    ]
    even, odd = kept[::2], kept[1::2]
    return [even[i : i + 2] for i in range(0, len(even), 2)], [
        odd[i : i + 2] for i in range(0, len(odd), 2)
    ]


def limits(low: int, high: int) -> dict[str, object]:
    """Limits of results as the templates want them: as bytes too, None where saturation keeps them."""
    return {
        "low": low,
        "high": high,
        "low_byte": low % 256 if low > INT8_MIN else None,
        "high_byte": high % 256 if high < INT8_MAX else None,
    }


def params(channels: int, length: int, raw: bool) -> dict[str, object]:
    """Everything in the templates that follows from the layer's size."""
    cut = blocks(channels)
    passes, pass_pairs, rest_pairs = unrolling(padded_length(length) // 2, raw)
    even, odd = stores(cut.width, channels)
    order = input_order(length).tolist()
    whole = length // 4 * 4
    tail = [(k - whole, order.index(k) - whole) for k in range(whole, length)]
    return {
        "channels": channels,
        "length": length,
        "padded": padded_length(length),
        "raw": raw,
        "pair_bytes": 2 if raw else 4,
        "width": cut.width,
        "blocks": len(cut.starts),
        "groups": schedule(cut.width),
        "sums": ", ".join(SUMS[: cut.width]),
        "passes": passes,
        "pass_pairs": pass_pairs,
        "rest_pairs": rest_pairs,
        "words16": length // 16,
        "words": length % 16 // 4,
        "tail": tail,
        # Their weights are zero; what is multiplied with them must be something.
        "blanks": sorted(set(range(padded_length(length) - whole)) - {at for _, at in tail}),
        "lanes": ((0, even), (8, odd)),
        "packing": "raw8",
        "mended": False,
    }


def mended(words: IntArray, cut: Blocks, patches: Sequence[Sequence[Patch]]) -> IntArray:
    """The stream with lists of sums to replace."""
    rows = words.reshape(len(cut.starts), -1)
    lists = mending.lists(patches, cut.starts, cut.width, 256)
    return mending.woven(rows, rows.shape[1] - cut.width - 1, lists)


def cycles(channels: int, length: int, rows: int, bounds: int, raw: bool) -> float:
    """Predicted, counted from the template; m4-simple.

    Args:
        channels: of the result.
        length: inputs of a row.
        rows: how many.
        bounds: limits of the results that saturation does not keep: 0 to 2.
        raw: whether inputs are widened where they are used.
    """
    cut = blocks(channels)
    kept = min(cut.width, channels)
    pairs = padded_length(length) // 2
    passes, _, _ = unrolling(pairs, raw)
    products = pairs * (PAIR_CYCLES[cut.width] + raw) + (6 * passes - 2 if passes else 0)
    limiting = bounds * (2 * -(-kept // 4) + 2 * kept)
    block = products + 1.5 * cut.width + 5 * kept + limiting + 21
    widening = 0 if raw else 25 * (length // 16) + 5 * (length % 16 // 4) + 2 * (length % 4)
    return 60 + rows * (len(cut.starts) * block + widening) + 22 * (rows - 1)
