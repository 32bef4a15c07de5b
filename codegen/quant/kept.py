"""Integer weights that a model brings, stored in fewer bits without a change: only where they are such."""

from __future__ import annotations

import numpy as np

from codegen.ir import Array, IntArray, Storage, Tensor
from codegen.quant.scheme import BITS, counted

SIGNS: Array = np.array([[-1, 1]], np.int8)


def storage(tensor: Tensor, weights: str, scheme: str) -> Storage | None:
    """How flash can hold a constant's integers, (N, ...) int8, in a format; None where it cannot.

    Known are "uniform", "ternary", "binary", and "ttq": rows of -a, 0 and b.
    """
    rows = tensor.values.astype(np.int64).reshape(len(tensor.values), -1)
    bits = BITS[weights]
    if scheme == "ttq":
        return _two_sided(rows, weights)
    if scheme == "binary":
        codes = (rows > 0).astype(np.uint8) if bool(np.all(np.abs(rows) == 1)) else None
        levels = SIGNS
    elif scheme in ("uniform", "ternary"):
        least, most = (
            (-1, 1) if scheme == "ternary" else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
        )
        inside = rows.min() >= least and rows.max() <= most
        codes = (rows + (1 << (bits - 1))).astype(np.uint8) if inside else None
        levels = counted(bits)
    else:
        return None
    return None if codes is None else Storage(scheme, weights, bits, codes, levels)


def _two_sided(rows: IntArray, weights: str) -> Storage | None:
    low, high = np.minimum(rows.min(axis=1), 0), np.maximum(rows.max(axis=1), 0)
    along = low[:, None], high[:, None]
    if not bool(np.all((rows == 0) | (rows == along[0]) | (rows == along[1]))) or low.min() < -127:
        return None
    levels = np.zeros((len(rows), 1 << BITS[weights]), np.int8)
    levels[:, 0], levels[:, 2] = low, high
    codes = np.where(rows < 0, 0, np.where(rows > 0, 2, 1)).astype(np.uint8)
    return Storage("ttq", weights, BITS[weights], codes, levels)
