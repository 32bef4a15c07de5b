"""Integers of few bits, evenly spaced, one scale per output channel."""

from __future__ import annotations

import numpy as np

from codegen.ir import Storage
from codegen.quant.scheme import BITS, Rows, Scheme, Stored, counted, fitted, largest, usable


def quantize(rows: Rows, least: Rows, weights: str) -> Stored:
    """Rows of real weights; the largest magnitude at the end of the range, or clipped at 2 and 3 bits."""
    bits = BITS[weights]
    top = (1 << (bits - 1)) - 1
    low = -top if bits > 2 else -top - 1
    levels = np.arange(low, top + 1)
    scales = usable(largest(rows) / top, least) if bits > 3 else fitted(rows, levels, least)
    codes = np.clip(np.rint(rows / scales[:, None]), low, top) + top + 1
    return Stored(Storage("uniform", weights, bits, codes.astype(np.uint8), counted(bits)), scales)


SCHEMES = (
    Scheme("uniform", ("int4", "int3", "int2"), "one scale per channel", quantize, ("int2",)),
)
