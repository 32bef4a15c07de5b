"""Dense layer for Armv6-M: four channels at once, two channels per MULS.

w + w' * 2**16 of two channels is one word; times an input it sums a product of each. Chunks are as in
codegen.tuned.pairs, of as many inputs as suits the layer's weights. Two bytes of flash per weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codegen.ir import IntArray
from codegen.kernel import (
    HAS_DSP,
    NO_LIMBS,
    Constant,
    Footprint,
    Instance,
    Kernel,
    Layer,
    unmet,
)
from codegen.tuned import pairs
from codegen.tuned.conv_pairs import loop
from codegen.tuned.lanes import signed
from codegen.tuned.limbs import Form

BLOCK = 4
CHUNKS = (2, 4, 6, 8)
LONGEST = 1 << 13
_EXCESS_CYCLES = 25
_BLOCK_CYCLES = 118


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Weights of a layer, cut into blocks of channels and chunks of inputs.

    Attributes:
        starts: first channel of each block; the last one overlaps the one before where C % 4 != 0.
        chunk: inputs of a chunk.
        kept: (blocks, 4, padded length), what the chunks hold.
        excess: (blocks, 4, padded length), what they do not.
    """

    starts: tuple[int, ...]
    chunk: int
    kept: IntArray
    excess: IntArray

    @property
    def passes(self) -> tuple[int, int]:
        """Passes of the inner loop, chunks per pass."""
        return loop(self.kept.shape[2] // self.chunk)

    @property
    def cycles(self) -> float:
        """Predicted for one row on a Cortex-M0+ with the fast multiplier."""
        blocks, _, length = self.kept.shape
        chunks = length // self.chunk
        entries = np.count_nonzero(self.excess.any(axis=1))
        inner = chunks * (8.5 * self.chunk + 6) + 5 * self.passes[0]
        return float(7 * length + blocks * (inner + _BLOCK_CYCLES) + entries * _EXCESS_CYCLES)


def blocks(weights: IntArray) -> Blocks:
    """The cut that is predicted to be fastest.

    Args:
        weights: (channels, length), -128..127.
    """
    return min((_cut(weights, chunk) for chunk in CHUNKS), key=lambda cut: cut.cycles)


def _cut(weights: IntArray, chunk: int) -> Blocks:
    channels, length = weights.shape
    passes, size = loop(-(-length // chunk))
    padded = np.zeros((max(channels, BLOCK), passes * size * chunk), np.int64)
    padded[:channels, :length] = weights
    kept = np.stack([pairs.limited(row, chunk)[0] for row in padded])
    last = max(channels - BLOCK, 0)
    starts = tuple(min(at, last) for at in range(0, channels, BLOCK))
    rows = np.array(starts)[:, None] + np.arange(BLOCK)
    return Blocks(starts, chunk, kept[rows], (padded - kept)[rows])


def pack(cut: Blocks, constants: IntArray) -> IntArray:
    """The stream: per block words by input, excess words ended by 0, first channel, constants.

    An excess entry is 4 * (input + 1) and that input's two words.

    Args:
        cut: the weights.
        constants: (channels, words).
    """
    rows = np.zeros((max(len(constants), BLOCK), constants.shape[1]), np.int64)
    rows[: len(constants)] = constants
    parts: list[IntArray] = []
    for start, kept, excess in zip(cut.starts, _words(cut.kept), _words(cut.excess), strict=True):
        inputs = excess.any(axis=1).nonzero()[0]
        entries = np.concatenate([4 * (inputs[:, None] + 1), excess[inputs]], axis=1)
        parts += [kept.ravel(), entries.ravel(), np.array([0, start])]
        parts += [rows[start : start + BLOCK].ravel()]
    return signed(np.concatenate(parts))


def _words(weights: IntArray) -> IntArray:
    """(blocks, 4, length) to (blocks, length, 2): channels 0 and 1, 2 and 3."""
    both: IntArray = (weights[:, 0::2] + 65536 * weights[:, 1::2]).transpose(0, 2, 1)
    return both


def kernel(
    cut: Callable[[Layer], Blocks],
    form: Callable[[Layer], Form | None],
    footprints: Callable[[Layer], tuple[Footprint | None, ...]],
) -> Kernel:
    """The variant.

    Args:
        cut: blocks of a layer's weights.
        form: its requantization, None where it has no such form.
        footprints: one event per row, which is copied first.
    """

    def rows(layer: Layer) -> int:
        return layer.output.size // layer.output.shape[-1]

    def refusal(layer: Layer) -> str:
        return unmet(
            (lambda: not layer.core.dsp, HAS_DSP),
            (lambda: layer.inputs[1].shape[1] <= LONGEST, f"over {LONGEST} inputs"),
            (lambda: form(layer) is not None, NO_LIMBS),
        )

    def instance(layer: Layer) -> Instance:
        found = form(layer)
        assert found is not None
        return _instance(layer, cut(layer), found)

    return Kernel(
        name="dense.pairs",
        template="ops/dense.pairs.c.j2",
        assembly="ops/dense.pairs.S.j2",
        serves=lambda layer: not refusal(layer),
        refusal=refusal,
        instance=instance,
        cycles=lambda layer: cut(layer).cycles * rows(layer),
        footprints=footprints,
        scratch=lambda layer: 4 * cut(layer).kept.shape[2],
    )


def _instance(layer: Layer, cut: Blocks, form: Form) -> Instance:
    channels, length = layer.inputs[1].shape
    words = pack(cut, form.words())
    passes, size = cut.passes
    params = {
        "rows": layer.output.size // channels,
        "length": length,
        "padded": cut.kept.shape[2],
        "channels": channels,
        "blocks": len(cut.starts),
        "block": min(BLOCK, channels),
        "chunk": cut.chunk,
        "passes": passes,
        "pass_chunks": size,
        "stream_bytes": 4 * len(words),
        "thumb2": layer.core.thumb2,
    }
    constant = Constant("stream", "int32_t", words, 2 * layer.inputs[1].size)
    return Instance(f"pairs_{length}_{channels}", params | form.params(), (constant,))
