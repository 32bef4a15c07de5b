"""Where a monotone requantization steps from one result to the next."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codegen.ir import Array, IntArray


def first_sums(
    apply: Callable[[Array], Array], wanted: IntArray, lowest: IntArray, highest: IntArray
) -> IntArray:
    """Smallest accumulator of every channel whose result is at least v, for every wanted v.

    One beyond the highest accumulator where there is none. By bisection: results are monotone.

    Args:
        apply: results of accumulators (..., channels).
        wanted: (values,), results.
        lowest: (channels,), least accumulators.
        highest: (channels,), largest accumulators.

    Returns:
        (channels, values), int64.
    """
    shape = (len(lowest), len(wanted))
    low = np.broadcast_to(lowest[:, None], shape).copy()
    high = np.broadcast_to(highest[:, None] + 1, shape).copy()
    while np.any(low < high):
        middle = (low + high) >> 1
        results: IntArray = apply(middle.T).T.astype(np.int64)
        reached = (results >= wanted) | (middle > highest[:, None])
        active = low < high
        high = np.where(active & reached, middle, high)
        low = np.where(active & ~reached, middle + 1, low)
    found: IntArray = low
    return found
