"""dense.int4: the dense kernel of codegen.tuned.dense with 4-bit weights (codegen.tuned.int4)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codegen.ir import IntArray
from codegen.kernel import NO_SMLAD, NOT_ALIGNED, Footprint, Instance, Kernel, Layer, unmet
from codegen.quant.fixed import INT8_MAX, INT8_MIN
from codegen.requantize import Scaling
from codegen.tuned import dense, int4
from codegen.tuned.dense import SUMS, Blocks, Store
from codegen.tuned.lanes import folded_bias, stream

WIDTHS = (8, 4)
PAIR_CYCLES = {8: 18, 4: 10}  # per pair of inputs and block: loads, four products, three unpacked
_WORDS = ("r2", "r3")


def blocks(channels: int) -> Blocks:
    """How channels are cut; the last block may overlap the one before."""
    width = WIDTHS[0] if channels > WIDTHS[1] else WIDTHS[1]
    last = max(channels - width, 0)
    return Blocks(width, tuple(min(at, last) for at in range(0, channels, width)))


def pack(weights: IntArray, bias: IntArray, multipliers: IntArray) -> IntArray:
    """The stream: per block the first sums, words by pair of inputs, where it starts, multipliers."""
    channels, length = weights.shape
    cut = blocks(channels)
    order = dense.input_order(length)
    count = max(channels, cut.width)
    rows = np.zeros((count, len(order)), np.int64)
    rows[:channels, :length] = weights
    first, scale = np.zeros(count, np.int64), np.zeros(count, np.int64)
    first[:channels], scale[:channels] = bias, multipliers
    parts: list[IntArray] = []
    for start in cut.starts:
        mine = slice(start, start + cut.width)
        sums, words = int4.blocks(rows[mine][:, order], first[mine])
        parts += [sums.ravel(), words.T.ravel(), np.array([start]), scale[mine]]
    return np.concatenate(parts)


def params(channels: int, length: int, rule: int4.Rule) -> dict[str, object]:
    """Everything in the templates that follows from the layer's size."""
    cut = blocks(channels)
    groups = [(_WORDS[i], SUMS[4 * i : 4 * i + 4]) for i in range(cut.width // int4.CHANNELS)]
    lanes = [
        [
            [
                Store(c, SUMS[c], ("r2", "r12")[c // int4.CHANNELS], 4 * c)
                for c in range(n, min(cut.width, channels), int4.CHANNELS)
            ]
        ]
        for n in range(min(int4.CHANNELS, channels))
    ]
    return dense.params(channels, length, raw=False) | {
        "width": cut.width,
        "blocks": len(cut.starts),
        "groups": groups,
        "sums": ", ".join(SUMS[: cut.width]),
        "lanes": list(zip(rule.steps, lanes, strict=False)),
        "lift": rule.lift,
        "packing": "int4",
    }


def cycles(channels: int, length: int, rows: int, bounds: int) -> float:
    """Predicted, counted from the template; m4-simple. Arguments as for codegen.tuned.dense."""
    cut = blocks(channels)
    kept = min(cut.width, channels)
    pairs = dense.padded_length(length) // 2
    passes, _, _ = dense.unrolling(pairs)
    products = pairs * PAIR_CYCLES[cut.width] + (6 * passes - 2 if passes else 0)
    limiting = bounds * (2 * int4.CHANNELS + 2 * kept)
    block = products + 2.5 * cut.width + 5 * kept + limiting + 28
    widening = 33 * (length // 16) + 7 * (length % 16 // 4) + 3 * (length % 4) + 6
    return 60 + rows * (len(cut.starts) * block + widening) + 22 * (rows - 1)


def _refusal(layer: Layer, scaling: Callable[[Layer], Scaling]) -> str:
    channels, length = layer.inputs[1].shape
    aligned = length % 4 == 0 or layer.output.size == channels or layer.core.unaligned
    starts = blocks(channels).starts
    return unmet(
        (lambda: layer.core.dsp, NO_SMLAD),
        (lambda: aligned, NOT_ALIGNED),
        (lambda: int4.fits(layer), int4.NOT_FITTING),
        (lambda: int4.exact(layer, scaling(layer), starts), int4.NOT_EXACT),
    )


def _rows(layer: Layer) -> float:
    """Rows of the input: each reads all weights."""
    return layer.output.size / layer.inputs[1].shape[0]


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
        x, w, b = layer.inputs
        channels, length = w.shape
        scales = scaling(layer)
        rule = int4.rule(scales)
        assert rule is not None
        words = pack(w.values.astype(np.int64), folded_bias(x, w, b), scales.multipliers)
        numbers = params(channels, length, rule) | {
            "rows": layer.output.size // channels,
            "stream_bytes": 4 * len(words),
            **dense.limits(rule.low, rule.high),
        }
        head = np.array([rule.addend, rule.shift])
        cut = blocks(channels)
        held = len(cut.starts) * cut.width * dense.padded_length(length) // 2
        everything = stream(np.concatenate([head, words]), held)
        return Instance(f"int4_{length}_{channels}", numbers, (everything,))

    def price(layer: Layer) -> float:
        channels, length = layer.inputs[1].shape
        q = scaling(layer).q
        bounds = (q["low"] != INT8_MIN) + (q["high"] != INT8_MAX)
        return cycles(channels, length, layer.output.size // channels, bounds)

    return Kernel(
        name="dense.int4",
        template="ops/dense.int4.c.j2",
        assembly="ops/dense.dsp.S.j2",
        serves=lambda layer: not refusal(layer),
        refusal=refusal,
        instance=instance,
        cycles=price,
        passes=_rows,
        footprints=footprints,
        scratch=lambda layer: 2 * dense.padded_length(layer.inputs[1].shape[1]),
    )
