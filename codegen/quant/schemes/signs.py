"""Signs of weights: ternary with one scale or two per channel, and binary. Made for models trained so."""

from __future__ import annotations

import numpy as np

from codegen.ir import Array, Storage
from codegen.quant.scheme import BITS, INT8_LIMIT, Rows, Scheme, Stored, counted, usable


def ternary(rows: Rows, least: Rows, weights: str) -> Stored:
    """-1, 0, 1 times a scale: the threshold and the scale with the least squared error."""
    bound, scales = _best_cut(np.abs(rows))
    scales = usable(scales, least)
    signs = np.sign(rows) * (np.abs(rows) >= bound[:, None]) * (rows != 0)
    codes = (signs + 2).astype(np.uint8)
    return Stored(Storage("ternary", weights, BITS[weights], codes, counted(2)), scales)


def two_scales(rows: Rows, least: Rows, weights: str) -> Stored:
    """-a, 0, b per channel (TTQ), each side with its own threshold."""
    up, down = np.maximum(rows, 0), np.maximum(-rows, 0)
    (above, high), (below, low) = _best_cut(up), _best_cut(down)
    scales = usable(np.maximum(high, low) / INT8_LIMIT, least)
    ends = np.clip(np.rint(np.stack([-low, high], axis=1) / scales[:, None]), -INT8_LIMIT, None)
    levels = np.zeros((len(rows), 1 << BITS[weights]), np.int8)
    levels[:, 0], levels[:, 2] = ends[:, 0], ends[:, 1]
    codes = np.ones(rows.shape, np.uint8)
    codes[(up >= above[:, None]) & (up > 0)] = 2
    codes[(down >= below[:, None]) & (down > 0)] = 0
    return Stored(Storage("ttq", weights, BITS[weights], codes, levels), scales)


def binary(rows: Rows, least: Rows, weights: str) -> Stored:
    """-1 or 1 times the mean magnitude of the channel; zero counts as positive."""
    scales = usable(np.abs(rows).mean(axis=1), least)
    levels: Array = np.array([[-1, 1]], np.int8)
    codes = (rows >= 0).astype(np.uint8)
    return Stored(Storage("binary", weights, BITS[weights], codes, levels), scales)


def _best_cut(magnitudes: Rows) -> tuple[Rows, Rows]:
    """Least magnitude that is kept, and the mean of those kept: (sum of the k largest)**2 / k is greatest."""
    ordered = -np.sort(-magnitudes, axis=1)
    sums = np.cumsum(ordered, axis=1)
    kept = np.argmax(sums**2 / np.arange(1, magnitudes.shape[1] + 1), axis=1)[:, None]
    bound: Rows = np.take_along_axis(ordered, kept, axis=1)[:, 0]
    mean: Rows = (np.take_along_axis(sums, kept, axis=1) / (kept + 1))[:, 0]
    return bound, mean


TERNARY, BINARY = ("ternary",), ("binary",)
SCHEMES = (
    Scheme("ternary", TERNARY, "-1, 0, 1; one scale per channel", ternary, TERNARY),
    Scheme("ttq", TERNARY, "-a, 0, b per channel", two_scales, TERNARY),
    Scheme("binary", BINARY, "-1, 1; one scale per channel", binary, BINARY),
)
