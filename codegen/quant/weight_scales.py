"""Scales of weights: how much of each row its grid covers.

Rows are (G, N, K) as in codegen.quant.rounding; scales come back as (G, N, 1). `SCALES` is the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from codegen.quant import clipping
from codegen.quant.rounding import Floats, on_grid, output_error

SHRINKS = np.linspace(1.0, 0.4, 31)  # of the largest magnitude, tried by "output"

Method = Callable[[Floats, int, Floats], Floats]


def by_clipping(name: str) -> Method:
    """Scales by a clipping method on the distribution of each row."""

    def scales(w: Floats, width: int, h: Floats) -> Floats:
        limit = 2 ** (width - 1) - 1
        rows = w.reshape(-1, w.shape[2])
        found = [_magnitude(row, name, width) for row in rows]
        return np.array(found, np.float64).reshape(*w.shape[:2], 1) / np.float64(limit)

    return scales


def by_output(w: Floats, width: int, h: Floats) -> Floats:
    """Per row, the shrunk largest magnitude with the least output error after rounding to nearest."""
    limit = 2 ** (width - 1) - 1
    largest = np.abs(w).max(axis=2, keepdims=True)
    best: Floats = largest / limit
    least = np.full(w.shape[:2], np.inf)
    for shrink in SHRINKS:
        scales = np.where(largest > 0, largest * shrink / limit, 1.0)
        error = output_error(w, on_grid(w, scales, limit), scales, h)
        better = error < least
        best = np.asarray(np.where(better[:, :, None], scales, best))
        least = np.where(better, error, least)
    return best


def _magnitude(row: Floats, name: str, width: int) -> float:
    largest = float(np.abs(row).max())
    seen = clipping.histogram(row, -largest, largest)
    return clipping.clip(seen, name, width).high


SCALES: Mapping[str, Method] = {
    **{name: by_clipping(name) for name in clipping.CLIPPERS},
    "output": by_output,
}


def power_of_two(scales: Floats) -> Floats:
    """The next power of two: requantization becomes a shift."""
    rounded: Floats = np.exp2(np.ceil(np.log2(scales)))
    return rounded
