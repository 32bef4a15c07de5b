"""Operands that show mistakes: random numbers with the ends of their range among them."""

from __future__ import annotations

import numpy as np

from codegen.ir import Array

RNG = np.random.default_rng(23)


def reals(*shape: int) -> Array:
    """Random float32 numbers."""
    return RNG.normal(size=shape).astype(np.float32)


def whole(dtype: str, *shape: int) -> Array:
    """Random integers, the least and the greatest first."""
    info = np.iinfo(dtype)
    found = RNG.integers(info.min, info.max, shape, dtype, endpoint=True)
    ends = found.reshape(-1)[:2]
    ends[:] = (info.min, info.max)[: ends.size]
    return found
