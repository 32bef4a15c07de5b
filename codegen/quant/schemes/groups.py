"""Blocks of weights with a small integer factor each: scales on two levels, the coarse one per channel."""

from __future__ import annotations

from functools import partial

import numpy as np

from codegen.ir import Factors, Storage
from codegen.quant.scheme import BITS, Rows, Scheme, Stored, blocks, counted, usable

FACTOR_BITS = 4


def quantize(name: str, size: int, rows: Rows, least: Rows, weights: str) -> Stored:
    """Blocks of `size` weights; a block's factor is what its largest weight needs, rounded up."""
    bits, most = BITS[weights], (1 << FACTOR_BITS) - 1
    top = (1 << (bits - 1)) - 1
    cut = blocks(rows, size)
    wanted = np.abs(cut).max(axis=2) / top
    scales = usable(wanted.max(axis=1) / most, least)
    factors = np.clip(np.ceil(wanted / scales[:, None] - 1e-9), 1, most)
    steps = (factors * scales[:, None])[:, :, None]
    codes = np.clip(np.rint(cut / steps), -top, top) + top + 1
    storage = Storage(
        name,
        weights,
        bits,
        codes.reshape(len(rows), -1)[:, : rows.shape[1]].astype(np.uint8),
        counted(bits),
        (Factors(size, FACTOR_BITS, False, factors.astype(np.uint8)),),
    )
    return Stored(storage, scales)


def _scheme(name: str, size: int) -> Scheme:
    summary = f"a factor of {FACTOR_BITS} bits per {size} weights"
    return Scheme(name, ("int4", "int3"), summary, partial(quantize, name, size))


SCHEMES = (_scheme("vsq16", 16), _scheme("group32", 32))
