"""Clipping: which part of a distribution a grid covers.

Every method is a function of a histogram and the grid's width; `CLIPPERS` is the registry. A method only
ever shrinks the seen range: both ends by one factor, so that 0 stays where it is on the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 2048
LEAST_SPAN = 1e-30  # of float32 numbers that can be told apart in so many bins
PERCENTILE = 99.99
SHRINKS = np.linspace(1.0, 0.3, 71)  # of the seen range, tried by the searching methods
NEWTON_STEPS = 20

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Range:
    """Real values that a tensor's grid must cover; always holds 0."""

    low: float
    high: float

    def scaled(self, factor: float) -> Range:
        """Both ends moved towards 0."""
        return Range(self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How often values occurred, `BINS` bins of equal width from `low` to `high`."""

    counts: npt.NDArray[np.int64]
    low: float
    high: float

    @property
    def range(self) -> Range:
        """Everything that was seen."""
        return Range(self.low, self.high)

    @property
    def centers(self) -> Floats:
        """The middle of every bin."""
        edges = np.linspace(self.low, self.high, BINS + 1)
        middles: Floats = (edges[1:] + edges[:-1]) / 2
        return middles


def histogram(values: npt.NDArray[np.floating], low: float, high: float) -> Histogram:
    """The histogram of values that lie in low..high."""
    counts = np.zeros(BINS, np.int64)
    if high - low > LEAST_SPAN:
        counts += np.histogram(values, bins=BINS, range=(low, high))[0]
    return Histogram(counts, low, high)


def minmax(seen: Histogram, width: int) -> Range:
    """Everything that was seen."""
    return seen.range


def percentile(seen: Histogram, width: int) -> Range:
    """All but 0.01 % of the values at either end."""
    share = np.cumsum(seen.counts) / seen.counts.sum()
    edges = np.linspace(seen.low, seen.high, BINS + 1)
    tail = 1 - PERCENTILE / 100
    first = int(np.searchsorted(share, tail))
    last = min(int(np.searchsorted(share, 1 - tail)), BINS - 1)
    return Range(min(0.0, float(edges[first])), max(0.0, float(edges[last + 1])))


def mse(seen: Histogram, width: int) -> Range:
    """The shrunk range with the least squared error of quantization."""
    return _best(seen, width, _squared_error)


def kl(seen: Histogram, width: int) -> Range:
    """The shrunk range whose quantized distribution diverges least from the clipped one.

    Kullback-Leibler divergence as in Migacz, "8-bit inference with TensorRT", GTC 2017, for a range
    with two ends.
    """
    return _best(seen, width, _divergence)


def octav(seen: Histogram, width: int) -> Range:
    """The fixed point of Newton's method for the least mean squared error.

    Sakr et al., "Optimal clipping and magnitude-aware differentiation", ICML 2022, eq. 6, for a range
    with two ends: shrunk by s, values inside err by a uniform Δ(s)² / 12, values outside by their
    distance to the end.
    """
    centers, counts = seen.centers, seen.counts.astype(np.float64)
    ends = np.where(centers < 0, seen.low, seen.high)
    noise = ((seen.high - seen.low) / (2**width - 1)) ** 2 / 12
    factor = float((counts * np.abs(centers)).sum() / (counts * np.abs(ends)).sum())
    for _ in range(NEWTON_STEPS):  # from below, as in the paper: convergence is monotone
        outside = np.abs(centers) > factor * np.abs(ends)
        slope = (counts * centers * ends)[outside].sum()
        curvature = noise * counts[~outside].sum() + (counts * ends**2)[outside].sum()
        if slope <= 0:  # nothing is cut off any more
            break
        factor = min(float(slope / curvature), 1.0)
    return seen.range.scaled(factor)


def _best(
    seen: Histogram, width: int, loss: Callable[[Histogram, Floats, Range, int], float]
) -> Range:
    centers = seen.centers
    losses = [loss(seen, centers, seen.range.scaled(float(s)), width) for s in SHRINKS]
    return seen.range.scaled(float(SHRINKS[int(np.argmin(losses))]))


def _squared_error(seen: Histogram, centers: Floats, kept: Range, width: int) -> float:
    levels = 2**width - 1
    step = (kept.high - kept.low) / levels
    rounded = np.clip(np.rint((centers - kept.low) / step), 0, levels) * step + kept.low
    return float((seen.counts * (centers - rounded) ** 2).sum())


def _divergence(seen: Histogram, centers: Floats, kept: Range, width: int) -> float:
    inside = (centers >= kept.low) & (centers <= kept.high)
    counts = seen.counts.astype(np.float64)
    first, last = (int(i) for i in np.flatnonzero(inside)[[0, -1]])
    reference = counts[first : last + 1].copy()
    reference[0] += counts[:first].sum()
    reference[-1] += counts[last + 1 :].sum()
    level = np.arange(len(reference)) * 2**width // len(reference)
    occupied = counts[first : last + 1] > 0
    totals = np.bincount(level, counts[first : last + 1])
    spread = np.bincount(level, occupied)[level]
    candidate = np.where(occupied, totals[level] / np.maximum(spread, 1), 0.0)
    p, q = reference / reference.sum(), candidate / max(candidate.sum(), 1.0)
    where = p > 0
    return float((p[where] * np.log(p[where] / np.maximum(q[where], 1e-12))).sum())


CLIPPERS: Mapping[str, Callable[[Histogram, int], Range]] = {
    "minmax": minmax,
    "percentile": percentile,
    "mse": mse,
    "kl": kl,
    "octav": octav,
}


def clip(seen: Histogram, method: str, width: int) -> Range:
    """The range that a method keeps; all of it where nothing was seen."""
    if seen.counts.sum() == 0 or seen.high <= seen.low:
        return seen.range
    return CLIPPERS[method](seen, width)
