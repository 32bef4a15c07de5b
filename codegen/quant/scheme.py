"""What a way to store weights declares, and the pieces that several of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codegen.ir import Array, IntArray, Storage

Rows = npt.NDArray[np.float64]
INT8_LIMIT = 127  # of weights that int8 kernels multiply with
WIDE_LIMIT = 2047  # of those that need int16
BITS = {"int8": 8, "int4": 4, "int3": 3, "int2": 2, "ternary": 2, "binary": 1}
"""Bits of a code, by what the user calls the weights."""

_FRACTIONS = np.linspace(1.2, 0.3, 46)


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """Quantized rows: real = scales[row] * storage.expanded()[row]."""

    storage: Storage
    scales: Rows


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way to store weights.

    Attributes:
        name: as users write it.
        weights: which of `BITS` it can store, the usual one first.
        summary: one line for tables.
        quantize: (rows, least scale of each row, weights) -> `Stored`.
        needs_training: whether rounding trained float weights leaves no usable model.
    """

    name: str
    weights: tuple[str, ...]
    summary: str
    quantize: Callable[[Rows, Rows, str], Stored]
    needs_training: tuple[str, ...] = ()


def largest(rows: Rows) -> Rows:
    """Largest magnitude of each row."""
    found: Rows = np.abs(rows).max(axis=1)
    return found


def usable(scales: Rows, least: Rows) -> Rows:
    """Scales that are positive, and not below what the row's bias allows."""
    raised = np.maximum(scales, least)
    return np.where(raised > 0, raised, 1.0)


def nearest(levels: Array, values: Rows) -> IntArray:
    """Index of the level closest to each value; levels ascend."""
    known = levels.astype(np.float64)
    return np.searchsorted((known[1:] + known[:-1]) / 2, values)


def fitted(rows: Rows, levels: Array, least: Rows) -> Rows:
    """The scale of each row with the least squared error, among fractions of the usual one."""
    top = usable(largest(rows) / np.abs(levels).max(), least)
    best, error = top, np.full(len(rows), np.inf)
    for fraction in _FRACTIONS:
        scales = np.maximum(top * fraction, least)
        along = scales[:, None]
        mine = ((levels[nearest(levels, rows / along)] * along - rows) ** 2).sum(axis=1)
        best, error = np.where(mine < error, scales, best), np.minimum(mine, error)
    return best


def blocks(rows: Rows, size: int) -> Rows:
    """Rows cut into blocks, zeros at the end: (rows, blocks, size)."""
    missing = -rows.shape[1] % size
    return np.pad(rows, ((0, 0), (0, missing))).reshape(len(rows), -1, size)


def counted(bits: int, offset: int | None = None) -> Array:
    """Levels that are a code minus an offset (half the codes unless told), as one row."""
    zero = 1 << (bits - 1) if offset is None else offset
    return (np.arange(1 << bits) - zero).astype(np.int8)[None]
