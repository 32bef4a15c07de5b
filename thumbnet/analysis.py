"""Where quantization loses what: errors per layer, on real inputs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from codegen import execute, reference
from codegen.data import DataSet
from codegen.ir import Array, Graph, Quant

Numbers = npt.NDArray[np.float64]
BINS = 32  # of a layer's histogram, over its grid; one more on each side for what the grid cuts off
SAMPLES = 64
PORTION = 8


@dataclass(slots=True)
class Sums:
    """What is known of a tensor so far: powers of signal and error, and where its values fall."""

    signal: float = 0.0
    error: float = 0.0
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS + 2, np.int64))

    def add(self, real: Numbers, found: Numbers, grid: Quant) -> None:
        """Counts values in."""
        self.signal += float(np.square(real).sum())
        self.error += float(np.square(found - real).sum())
        low = grid.scale * (-128 - grid.zero_point - 0.5)
        places = np.floor((real - low) / (256 * grid.scale) * BINS) + 1
        places = np.clip(places, 0, BINS + 1).astype(np.int64)
        self.counts += np.bincount(places.ravel(), minlength=BINS + 2)

    def summary(self) -> dict[str, Any]:
        """Signal to noise in dB (None: exact, or nothing there), share cut off, histogram."""
        exact = self.error == 0 or self.signal == 0
        total = int(self.counts.sum())
        return {
            "sqnr_db": None if exact else round(10 * float(np.log10(self.signal / self.error)), 2),
            "clipped": float(self.counts[0] + self.counts[-1]) / total if total else 0.0,
            "histogram": [int(count) for count in self.counts],
        }


FLOAT_MODEL = "the float model"
ROUNDING_ALONE = "the same weights in real numbers"


def layer_errors(
    quantized: Graph, float_graph: Graph | None, samples: DataSet
) -> dict[str, dict[str, Any]]:
    """Errors of every activation on a data set; see `errors_on`."""
    real = samples.spread(SAMPLES).real()
    inputs = (execute.to_device(p, x) for p, x in zip(quantized.inputs, real, strict=True))
    return errors_on(quantized, float_graph, tuple(inputs))


def errors_on(
    quantized: Graph, float_graph: Graph | None, inputs: tuple[Array, ...]
) -> dict[str, dict[str, Any]]:
    """Errors of every activation, by its name; `against` says what each was measured against.

    Args:
        quantized: the integers.
        float_graph: the model before quantization. Where it is None, or has another shape because
            channels were pruned, the quantized weights in real numbers take its place: then the rounding
            of activations alone is seen.
        inputs: real ones, one array per input, device layout; at most SAMPLES of them are run, evenly spread.
    """
    count = len(inputs[0])
    spread = np.unique(np.linspace(0, count - 1, min(count, SAMPLES)).astype(np.int64))
    chosen = tuple(x[spread] for x in inputs)
    found: dict[str, dict[str, Any]] = {}
    if float_graph is not None:
        sums = _errors(quantized, float_graph, chosen)
        found = {name: one.summary() | {"against": FLOAT_MODEL} for name, one in sums.items()}
    activations = {node.output for node in quantized.nodes}
    if activations <= set(found):
        return found
    sums = _errors(quantized, _in_real_numbers(quantized), chosen)
    alone = {name: one.summary() | {"against": ROUNDING_ALONE} for name, one in sums.items()}
    return alone | found


def _errors(quantized: Graph, real_graph: Graph, chosen: tuple[Array, ...]) -> dict[str, Sums]:
    sums: dict[str, Sums] = {}
    for start in range(0, len(chosen[0]), PORTION):
        ports = quantized.inputs
        inputs = tuple(x[start : start + PORTION] for x in chosen)
        real: dict[str, list[Any]] = defaultdict(list)

        def keep(name: str, values: Any, into: dict[str, list[Any]] = real) -> None:
            into[name].append(values)

        execute.run_float(real_graph, inputs, keep)
        stored = tuple(
            reference.to_stored(quantized, p, x) for p, x in zip(ports, inputs, strict=True)
        )
        found: dict[str, Any] = {}
        reference.run(quantized, stored, found.__setitem__)
        _add(sums, quantized, {name: np.concatenate(parts) for name, parts in real.items()}, found)
    return sums


def _add(
    sums: dict[str, Sums], graph: Graph, real: Mapping[str, Any], found: Mapping[str, Any]
) -> None:
    for name, stored in found.items():
        wanted, grid = real.get(name), graph.tensors[name].grid
        if wanted is None or wanted.shape != stored.shape:
            continue  # pruned: the float model has channels that are no longer computed
        values = (stored.astype(np.float64) - grid.zero_point) * grid.scale
        sums.setdefault(name, Sums()).add(wanted.astype(np.float64), values, grid)


def _in_real_numbers(quantized: Graph) -> Graph:
    """The same network without grids for its activations."""
    activations = (t for t in quantized.tensors.values() if t.data is None)
    return quantized.with_tensors(*(replace(tensor, quant=None) for tensor in activations))
