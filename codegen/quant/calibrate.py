"""Calibration: the value ranges of a float graph's activations on sample inputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codegen.execute import run_float
from codegen.ir import Array, Graph
from codegen.quant.clipping import BINS, LEAST_SPAN, Histogram, Range, clip
from codegen.quant.vocabulary import Method
from targets.errors import UsageError

ONE_PASS = ("minmax", "ema")
BATCH = 16
EMA_DECAY = 0.9  # per batch


def passes(method: Method) -> int:
    """How often a method walks over the samples."""
    return 1 if method in ONE_PASS else 2


def ranges(
    graph: Graph,
    samples: tuple[Array, ...],
    method: Method,
    progress: Callable[[int], None] = lambda done: None,
    width: int = 8,
) -> dict[str, Range]:
    """Range of every activation, inputs included.

    Args:
        graph: a float graph.
        samples: one array per input, device layout, float32, samples along axis 0.
        method: "minmax"; "ema" (moving average of the extremes of batches of 16, Jacob et al., CVPR
            2018); or a method of codegen.quant.clipping. Inputs and outputs of the network always take
            min-max: their extremes carry meaning (an anomaly *is* a large error).
        progress: called with the number of samples seen since its last call, `passes(method)` times
            over all samples.
        width: bits of the activations' grids.

    Raises:
        UsageError: no samples, or a tensor that is not finite on them.
    """
    count = min((len(x) for x in samples), default=0)
    if count == 0:
        raise UsageError("no calibration samples", hint="pass --calib FILE.npz, or --calib random")
    seen: dict[str, Range] = {}
    moving: dict[str, Range] = {}

    def widen(name: str, value: Array) -> None:
        low, high = _ends(value)
        old, mean = seen.get(name, Range(0.0, 0.0)), moving.get(name, Range(low, high))
        seen[name] = Range(min(old.low, low), max(old.high, high))
        rest = 1 - EMA_DECAY
        moving[name] = Range(EMA_DECAY * mean.low + rest * low, EMA_DECAY * mean.high + rest * high)

    _run(graph, samples, count, progress, widen)
    bad = [name for name, limit in seen.items() if not np.isfinite([limit.low, limit.high]).all()]
    if bad:
        raise UsageError(
            f"tensor {bad[0]} is not finite on the calibration data",
            hint="check the data's scale: the float model itself overflows on it",
        )
    ports = {port.tensor for port in (*graph.inputs, *graph.outputs)}
    if method in ONE_PASS:
        inner = moving if method == "ema" else seen
        return {name: seen[name] if name in ports else inner[name] for name in seen}
    counts = {name: np.zeros(BINS, np.int64) for name in seen}

    def count_values(name: str, value: Array) -> None:
        low, high = seen[name].low, seen[name].high
        if high > low and name not in ports:
            counts[name] += np.histogram(value, bins=BINS, range=(low, high))[0]

    _run(graph, samples, count, progress, count_values)
    return {
        name: limit
        if name in ports
        else clip(Histogram(counts[name], limit.low, limit.high), method, width)
        for name, limit in seen.items()
    }


def _ends(value: Array) -> tuple[float, float]:
    """The extremes of an array and 0; all 0 where no histogram could tell them apart."""
    low, high = min(0.0, float(value.min())), max(0.0, float(value.max()))
    return (0.0, 0.0) if high - low <= LEAST_SPAN else (low, high)


def _run(
    graph: Graph,
    samples: tuple[Array, ...],
    count: int,
    progress: Callable[[int], None],
    watch: Callable[[str, Array], None],
) -> None:
    def reals(name: str, value: Array) -> None:
        if graph.tensors[name].dtype is None:
            watch(name, value)

    for start in range(0, count, BATCH):
        stop = min(start + BATCH, count)
        run_float(graph, tuple(x[start:stop] for x in samples), reals)
        progress(stop - start)


def random_samples(graph: Graph, count: int, seed: int) -> tuple[Array, ...]:
    """Uniform values in [0, 1) for every input: calibration when there is no data at all."""
    generator = np.random.default_rng(seed)
    return tuple(
        generator.random((count, *graph.tensors[port.tensor].shape[1:]), np.float32)
        if graph.tensors[port.tensor].dtype in (None, "float32")
        else generator.integers(0, 2, (count, *graph.tensors[port.tensor].shape[1:]))
        for port in graph.inputs
    )
