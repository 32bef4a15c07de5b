"""dense.bits: the dense kernel of codegen.tuned.dense with weights of one or two bits.

Eight channels at a time: the upper lanes of channels 0, 2, 4, 6 and the lower ones of 1, 3, 5, 7 lie in four
registers; what has been read of the lower lanes in four more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codegen.ir import IntArray
from codegen.kernel import NO_SMLAD, NOT_ALIGNED, Footprint, Instance, Kernel, Layer, unmet
from codegen.quant.fixed import INT8_MAX, INT8_MIN
from codegen.requantize import Scaling
from codegen.tuned import bit_lanes, dense
from codegen.tuned.bit_lanes import Packing, Rule
from codegen.tuned.dense import SUMS, Blocks, Store
from codegen.tuned.lanes import folded_bias, stream

WIDTH = 8
LANES = WIDTH // 2
MOST_WORDS = {1: 16, 2: 24}  # without a loop, by the bits of weights
LEAST_WORDS = 2


def blocks(channels: int) -> Blocks:
    """How channels are cut; the last block may overlap the one before."""
    last = max(channels - WIDTH, 0)
    return Blocks(WIDTH, tuple(min(at, last) for at in range(0, channels, WIDTH)))


def _pairs_of_word(held: Packing) -> int:
    return len(held.turns) // LANES


def _rows(layer: Layer, fill: int) -> IntArray:
    """Weights (channels, inputs in the order of the widened row), at least a block of them."""
    w = layer.inputs[1].values.astype(np.int64)
    channels, length = w.shape
    rows = np.full((max(channels, WIDTH), dense.padded_length(length)), fill, np.int64)
    rows[:channels, :length] = w
    return rows[:, dense.input_order(length)]


def chunk(layer: Layer, held: Packing) -> int:
    """Words of a block after which lower lanes are read; 0 where they have no room."""
    codes = held.lower(_rows(layer, -held.offset))
    size, most = 2 * _pairs_of_word(held), MOST_WORDS[held.bits]
    found = bit_lanes.longest_chunk(codes, held.most, size, most)
    return found if found >= min(LEAST_WORDS, codes.shape[1] // size) else 0


def pack(layer: Layer, held: Packing, multipliers: IntArray, lift: int) -> IntArray:
    """Per block first sums, words, biases of upper lanes, where it starts, multipliers."""
    x, w, b = layer.inputs
    rows = _rows(layer, -held.offset)
    first, scale = np.zeros((2, len(rows)), np.int64)
    first[: w.shape[0]], scale[: w.shape[0]] = folded_bias(x, w, b) << lift, multipliers
    parts: list[IntArray] = []
    for start in blocks(w.shape[0]).starts:
        mine = slice(start, start + WIDTH)
        upper, lower = rows[mine][::2], rows[mine][1::2]
        halves = held.halves(upper, lower)
        lanes = (halves[:, 0::2] | halves[:, 1::2] << 16).T
        sums = first[mine].copy()
        sums[::2] = 0
        parts += [sums, held.words(lanes.reshape(-1, len(held.turns))), first[mine][::2]]
        parts += [np.array([start]), scale[mine]]
    return np.concatenate(parts)


def params(layer: Layer, held: Packing, rule: Rule) -> dict[str, object]:
    """Everything in the templates that follows from the layer."""
    channels, length = layer.inputs[1].shape
    pairs, size = dense.padded_length(length) // 2, _pairs_of_word(held)
    words, step = pairs // size, chunk(layer, held)
    passes, rest = (0, words) if step >= words else divmod(words, step)
    kept = min(WIDTH, channels)
    members = [[_store(c) for c in range(n, min(n + 2, kept))] for n in range(0, kept, 2)]
    return dense.params(channels, length, raw=False) | {
        "width": WIDTH,
        "blocks": len(blocks(channels).starts),
        "groups": [(SUMS[2 * lane], SUMS[2 * lane + 1]) for lane in range(LANES)],
        "sums": ", ".join(SUMS),
        "passes": passes,
        "pass_pairs": size * step if passes else 0,
        "rest_pairs": size * rest,
        "words": length % 16 // 4,
        "lanes": ((0, members),),
        "packing": "bits",
        "block_words": words,
        "bits": held.bits,
        "split": held.split,
        "negative": held.negative,
        "offset": held.offset,
        "turns": held.turns,
        "mask": held.mask,
        "doubling": held.doubling,
        "lift": rule.lift,
    }


def _store(channel: int) -> Store:
    return Store(channel, SUMS[channel], ("r2", "r12")[channel % 2], 4 * channel)


def cycles(layer: Layer, held: Packing, bounds: int) -> float:
    """Predicted, counted from the template; m4-simple.

    Args:
        layer: the layer.
        held: its packing.
        bounds: limits of the results that saturation does not keep: 0 to 2.
    """
    channels, length = layer.inputs[1].shape
    kept, rows = min(WIDTH, channels), layer.output.size // channels
    pairs, size = dense.padded_length(length) // 2, _pairs_of_word(held)
    words = pairs // size
    passes = 0 if chunk(layer, held) >= words else words // chunk(layer, held)
    products = words * (1 + 10 * size) + 18 * passes
    limiting = bounds * (2 * LANES + 2 * kept)
    block = products + 5 * kept + limiting + (60 if held.bits == 1 else 56)
    widening = 33 * (length // 16) + 7 * (length % 16 // 4) + 3 * (length % 4) + 6
    return 60 + rows * (len(blocks(channels).starts) * block + widening) + 22 * (rows - 1)


def _held(layer: Layer) -> Packing:
    found = bit_lanes.packing(layer.inputs[1].values.astype(np.int64))
    assert found is not None
    return found


def _refusal(layer: Layer, scaling: Callable[[Layer], Scaling]) -> str:
    channels, length = layer.inputs[1].shape
    aligned = length % 4 == 0 or layer.output.size == channels or layer.core.unaligned
    return unmet(
        (lambda: layer.core.dsp, NO_SMLAD),
        (lambda: aligned, NOT_ALIGNED),
    ) or (
        bit_lanes.refusal(layer, scaling(layer))
        or unmet((lambda: chunk(layer, _held(layer)) > 0, bit_lanes.NO_CHUNK))
    )


def kernel(
    scaling: Callable[[Layer], Scaling],
    footprints: Callable[[Layer], tuple[Footprint | None, ...]],
) -> Kernel:
    """The variant.

    Args:
        scaling: how a layer's sums become int8.
        footprints: of a kernel that copies a row before it writes one.
    """

    def refusal(layer: Layer) -> str:
        return _refusal(layer, scaling)

    def instance(layer: Layer) -> Instance:
        channels, length = layer.inputs[1].shape
        scales, held = scaling(layer), _held(layer)
        rule = bit_lanes.rule(scales)
        assert rule is not None
        words = pack(layer, held, scales.multipliers, rule.lift)
        numbers = params(layer, held, rule) | {
            "rows": layer.output.size // channels,
            "stream_bytes": 4 * len(words),
            **dense.limits(rule.low, rule.high),
        }
        head = np.array([rule.addend, rule.shift])
        counted = 4 * len(blocks(channels).starts) * int(str(numbers["block_words"]))
        everything = stream(np.concatenate([head, words]), counted)
        return Instance(f"bits{held.bits}_{length}_{channels}", numbers, (everything,))

    def price(layer: Layer) -> float:
        q = scaling(layer).q
        bounds = (q["low"] != INT8_MIN) + (q["high"] != INT8_MAX)
        return cycles(layer, _held(layer), bounds)

    return Kernel(
        name="dense.bits",
        template="ops/dense.bits.c.j2",
        assembly="ops/dense.dsp.S.j2",
        serves=lambda layer: not refusal(layer),
        refusal=refusal,
        instance=instance,
        cycles=price,
        passes=lambda layer: layer.output.size / layer.inputs[1].shape[0],
        footprints=footprints,
        scratch=lambda layer: 2 * dense.padded_length(layer.inputs[1].shape[1]),
    )
