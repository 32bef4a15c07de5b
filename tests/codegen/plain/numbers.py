"""Operands that show mistakes: random numbers with the ends of their range among them."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Numbers: TypeAlias = npt.NDArray[Any]

RNG = np.random.default_rng(23)


def reals(*shape: int) -> Numbers:
    """Random float32 numbers."""
    return RNG.normal(size=shape).astype(np.float32)


def whole(dtype: str, *shape: int) -> Numbers:
    """Random integers, the least and the greatest first."""
    info = np.iinfo(dtype)
    found = RNG.integers(info.min, info.max, shape, dtype, endpoint=True)
    ends = found.reshape(-1)[:2]
    ends[:] = (info.min, info.max)[: ends.size]
    return found
