"""Calibration: the value ranges of a float graph's activations on sample inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from codegen.execute import run_float
from codegen.ir import Array, Graph
from targets.errors import UsageError

Method = Literal["minmax", "percentile", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "mse")
BINS = 2048
BATCH = 16
LEVELS = 256
PERCENTILE = 99.99
SHRINKS = np.linspace(1.0, 0.3, 71)  # of the min-max range, tried by the MSE method


@dataclass(frozen=True, slots=True)
class Range:
    """Real values that a tensor's grid must cover; always holds 0."""

    low: float
    high: float


def passes(method: Method) -> int:
    """How often a method walks over the samples."""
    return 1 if method == "minmax" else 2


def ranges(
    graph: Graph,
    samples: tuple[Array, ...],
    method: Method,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Range]:
    """Range of every activation, inputs included.

    Args:
        graph: a float graph.
        samples: one array per input, device layout, float32, samples along axis 0.
        method: "minmax"; "percentile" (the 99.99th at both ends); "mse" (the range with the least squared
            quantization error, Lp norm with p = 2). Inputs and outputs of the network always take min-max:
            their extremes carry meaning (an anomaly *is* a large error).
        progress: called with the number of samples seen since its last call, `passes(method)` times
            over all samples.

    Raises:
        UsageError: no samples, or a tensor that is not finite on them.
    """
    count = min((len(x) for x in samples), default=0)
    if count == 0:
        raise UsageError("no calibration samples", hint="pass --calib FILE.npz, or --calib random")
    limits: dict[str, tuple[float, float]] = {}

    def widen(name: str, value: Array) -> None:
        low, high = limits.get(name, (0.0, 0.0))
        limits[name] = (min(low, float(value.min())), max(high, float(value.max())))

    _run(graph, samples, count, progress, widen)
    bad = [name for name, limit in limits.items() if not np.all(np.isfinite(limit))]
    if bad:
        raise UsageError(
            f"tensor {bad[0]} is not finite on the calibration data",
            hint="check the data's scale: the float model itself overflows on it",
        )
    if method == "minmax":
        return {name: Range(*limit) for name, limit in limits.items()}
    histograms = {name: np.zeros(BINS, np.int64) for name in limits}

    def count_values(name: str, value: Array) -> None:
        low, high = limits[name]
        if high > low:
            histograms[name] += np.histogram(value, bins=BINS, range=(low, high))[0]

    _run(graph, samples, count, progress, count_values)
    ports = {port.tensor for port in (*graph.inputs, *graph.outputs)}
    clip = _percentile if method == "percentile" else _least_squares
    return {
        name: Range(*limit) if name in ports else clip(histograms[name], *limit)
        for name, limit in limits.items()
    }


def _run(
    graph: Graph,
    samples: tuple[Array, ...],
    count: int,
    progress: Callable[[int], None],
    watch: Callable[[str, Array], None],
) -> None:
    for start in range(0, count, BATCH):
        stop = min(start + BATCH, count)
        run_float(graph, tuple(x[start:stop] for x in samples), watch)
        progress(stop - start)


def _percentile(histogram: npt.NDArray[np.int64], low: float, high: float) -> Range:
    total = histogram.sum()
    if total == 0:
        return Range(low, high)
    share = np.cumsum(histogram) / total
    edges = np.linspace(low, high, BINS + 1)
    tail = 1 - PERCENTILE / 100
    first = int(np.searchsorted(share, tail))
    last = int(np.searchsorted(share, 1 - tail))
    return Range(min(0.0, float(edges[first])), max(0.0, float(edges[last + 1])))


def _least_squares(histogram: npt.NDArray[np.int64], low: float, high: float) -> Range:
    if histogram.sum() == 0:
        return Range(low, high)
    edges = np.linspace(low, high, BINS + 1)
    centers = (edges[1:] + edges[:-1]) / 2
    errors = [_squared_error(histogram, centers, low * s, high * s) for s in SHRINKS]
    best = SHRINKS[int(np.argmin(errors))]
    return Range(low * float(best), high * float(best))


def _squared_error(
    histogram: npt.NDArray[np.int64], centers: npt.NDArray[np.float64], low: float, high: float
) -> float:
    step = (high - low) / (LEVELS - 1)
    rounded = np.clip(np.rint((centers - low) / step), 0, LEVELS - 1) * step + low
    return float((histogram * (centers - rounded) ** 2).sum())


def random_samples(graph: Graph, count: int, seed: int) -> tuple[Array, ...]:
    """Uniform values in [0, 1) for every input: calibration when there is no data at all."""
    generator = np.random.default_rng(seed)
    return tuple(
        generator.random((count, *graph.tensors[port.tensor].shape[1:]), np.float32)
        for port in graph.inputs
    )
