"""Sixteen or four levels, not evenly spaced: powers of two and sums of them, clusters of weights."""

from __future__ import annotations

from functools import partial

import numpy as np

from codegen.ir import IntArray, Storage
from codegen.quant.scheme import (
    BITS,
    INT8_LIMIT,
    Rows,
    Scheme,
    Stored,
    fitted,
    largest,
    nearest,
    usable,
)

MAGNITUDES = {"log2": (1, 2, 4, 8, 16, 32, 64), "apot": (1, 2, 3, 4, 6, 8, 10)}
ROUNDS = 40  # of clustering


def fixed(name: str, rows: Rows, least: Rows, weights: str) -> Stored:
    """Rows of real weights on a scheme's fixed levels."""
    positive = MAGNITUDES[name]
    levels = np.array([*(-m for m in reversed(positive)), 0, *positive])
    scales = fitted(rows, levels, least)
    codes = nearest(levels, rows / scales[:, None]).astype(np.uint8)
    table = np.append(levels, 0).astype(np.int8)[None]
    return Stored(Storage(name, weights, BITS[weights], codes, table), scales)


def clustered(name: str, rows: Rows, least: Rows, weights: str) -> Stored:
    """Rows of real weights on the centres of clusters of the layer's weights, rows scaled alike."""
    tops = usable(largest(rows), least * INT8_LIMIT)
    scaled = rows / tops[:, None]
    levels = _centres(scaled, tops, 1 << BITS[weights])
    codes = nearest(levels, scaled * INT8_LIMIT).astype(np.uint8)
    table = levels.astype(np.int8)[None]
    return Stored(Storage(name, weights, BITS[weights], codes, table), tops / INT8_LIMIT)


def _centres(scaled: Rows, tops: Rows, count: int) -> IntArray:
    """Lloyd's algorithm in one dimension; weights count by the square of their row's size."""
    values = scaled.ravel()
    counts = np.repeat(tops**2, scaled.shape[1])
    centres = np.linspace(values.min(initial=0), values.max(initial=0), count)
    for _ in range(ROUNDS):
        member = nearest(centres, values)
        total = np.bincount(member, counts, count)
        mass = np.bincount(member, counts * values, count)
        centres = np.sort(np.where(total > 0, mass / np.where(total > 0, total, 1), centres))
    found: IntArray = np.clip(np.rint(centres * INT8_LIMIT), -INT8_LIMIT, INT8_LIMIT)
    return found.astype(np.int64)


SCHEMES = (
    Scheme("log2", ("int4",), "powers of two, one scale per channel", partial(fixed, "log2")),
    Scheme("apot", ("int4",), "sums of two powers of two", partial(fixed, "apot")),
    Scheme("codebook16", ("int4",), "16 clusters per layer", partial(clustered, "codebook16")),
    Scheme("codebook4", ("int2",), "4 clusters per layer", partial(clustered, "codebook4")),
)
