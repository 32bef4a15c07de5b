"""Post-training quantization, measured: `python -m benchmarks.quantization`.

Two tables: what the defaults reach on whole test sets beside onnxruntime's own min-max quantization, and
every clipping, rounding and granularity. Rows are kept in benchmarks/results/quantization.json and measured
once; `--anew` names groups to measure again. After each row docs/quantization-results.md is written
from them. `--minutes` ends in time. Needs the reference data, and Pillow for the JPEG test set.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import quantization_page, sets
from benchmarks.models import RESULTS, TASKS
from codegen import execute, metrics, reference
from codegen.ir import Graph
from codegen.quant.vocabulary import CLIPS, METHODS, ROUNDING_NAMES
from emulator.host import HostModel
from targets import toolchain
from thumbnet import compiler, project, verify
from thumbnet.options import CompileOptions, RunOptions

PATH = RESULTS / "quantization.json"
SAMPLES = 20  # in the emulator; of the JPEG set 2: the network is that of ic
COMPARED = 200  # of the host build's results with the reference's
FOUR: dict[str, Any] = {"weights": "int4"}
Found = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One row: a model, the options it is quantized with, and onnxruntime's types beside it.

    Attributes:
        beside: onnxruntime's types of activations and weights; None where it has none like that.
    """

    group: str
    model: str
    text: str
    options: dict[str, Any] = field(default_factory=dict)
    beside: tuple[str, str] | None = None

    @property
    def key(self) -> str:
        return f"{self.group} {self.model} {self.text}"


def cases() -> Iterator[Case]:
    """All rows."""
    models = [task.name for task in TASKS]
    for model in (*models, sets.JPEG):
        yield Case("goals", model, "int8", {}, ("QInt8", "QInt8"))
    for model in ("kws", "vww", "ad", "ic", sets.JPEG):
        yield Case("goals", model, "int4", FOUR, ("QInt8", "QInt4"))
    for model in ("kws", "ic", sets.JPEG):
        yield Case("goals", model, "int3", {"weights": "int3"})
        both = FOUR | {"activations": "int4"}
        yield Case("goals", model, "int4, activations int4", both, ("QInt4", "QInt4"))
    for model in ("kws", "ic"):
        yield from (Case("methods", model, text, options) for text, options in _methods())


def _methods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and options of every clipping, rounding and granularity."""
    for method in METHODS:
        yield f"activations {method}, weights int8", {"method": method}
    for method in METHODS:
        four = FOUR | {"activations": "int4", "method": method}
        yield f"activations int4 {method}, weights int4", four
    eight: dict[str, dict[str, Any]] = {
        "weights per tensor": {"granularity": "tensor"},
        "weights per tensor, equalized": {"granularity": "tensor", "equalize": True},
        "symmetric activations": {"activation_grid": "symmetric"},
        "powers of two": {"scales": "pow2"},
        "powers of two, equalized": {"scales": "pow2", "equalize": True},
        "bias correction": {"bias_correction": "on"},
    }
    for text, options in eight.items():
        yield f"int8, {text}", options
    plain = {"bias_correction": "off", "clip": "minmax"}
    for rounding, width in itertools.product(ROUNDING_NAMES, ("int4", "int3")):
        yield f"{width}, {rounding}, minmax", {**plain, "weights": width, "rounding": rounding}
    for clip in CLIPS:
        if clip != "minmax":
            yield f"int4, nearest, {clip}", {**FOUR, **plain, "clip": clip, "rounding": "nearest"}
    for rounding in ("gptq", "adaround"):
        form = {"rounding": rounding, "bias_correction": "auto"}
        yield f"int4, {rounding}, auto, bias correction", {**FOUR, **form}
    yield "int4, per tensor", {**FOUR, "granularity": "tensor"}
    yield "int4, per tensor, equalized", {**FOUR, "granularity": "tensor", "equalize": True}
    yield "int4, nearest, bias correction", {**FOUR, "rounding": "nearest", "bias_correction": "on"}


def measure(case: Case, folder: Path) -> Found:
    """The row of a case; `folder` keeps data between rows."""
    source = sets.source(case.model, folder)
    before = time.monotonic()
    options = CompileOptions(**source.options(), **case.options)
    found = _emitted(source, options) if case.group == "goals" else _reference(source, options)
    found["float"] = float_accuracy(source)
    if case.beside:
        found["onnxruntime"] = sets.onnxruntime_accuracy(source, *case.beside)
    seconds = round(time.monotonic() - before)
    head = {"key": case.key, "group": case.group, "model": case.model, "text": case.text}
    return head | {"metric": source.metric} | found | {"seconds": seconds}


@cache
def float_accuracy(source: sets.Source) -> float:
    """Of the float model, by onnxruntime."""
    return sets.accuracy_of(source, source.model)


def _emitted(source: sets.Source, options: CompileOptions) -> Found:
    """Whole test set by the host build; some samples in the emulator and by the reference too."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "project"
        compiled = compiler.compile_model(source.model, options)
        project.write(folder, compiled.files)
        few = 2 if source.decoded else SAMPLES
        running = RunOptions(
            data=source.data, accuracy="none", max_samples=few, profile=False, checks="none"
        )
        emulated = verify.verify(folder, running)
        graph = compiled.plan.graph
        stored = verify.stored_inputs(graph, sets.samples(source))
        library = folder / "host" / "model.so"
        manifest = project.read_manifest(folder)
        toolchain.build_host(folder, project.sources(manifest, "host_sources"), library)
        outputs = HostModel(library, project.image(manifest)).run(stored)[0]
    chosen = np.unique(np.linspace(0, len(outputs) - 1, COMPARED).astype(np.int64))
    wanted = reference.run(graph, tuple(x[chosen] for x in stored))[0]
    wrong = int(np.count_nonzero(outputs[chosen] != wanted.reshape(len(chosen), -1)))
    return {
        "device": _score(source, graph, outputs),
        "samples": len(outputs),
        "weight_bytes": emulated["flash"]["weights"],
        "mismatched_bytes": emulated["mismatched_bytes"] + wrong,
    }


def _reference(source: sets.Source, options: CompileOptions) -> Found:
    """Whole test set by the reference, whose every byte the emitted C gives."""
    graph = compiler.prepare(source.model, options).quantized
    stored = verify.stored_inputs(graph, sets.samples(source))
    starts = range(0, len(stored[0]), reference.BATCH)
    parts = [
        reference.run(graph, tuple(x[start : start + reference.BATCH] for x in stored))[0]
        for start in starts
    ]
    outputs = np.concatenate(parts)
    return {"device": _score(source, graph, outputs), "samples": len(outputs)}


def _score(source: sets.Source, graph: Graph, outputs: Any) -> float:
    """The metric of stored outputs, (samples, ...) int8."""
    port = graph.outputs[0]
    shape = graph.tensors[port.tensor].shape[1:]
    real = reference.to_real(graph, port, outputs.reshape(-1, *shape))
    found = execute.from_device(port, real)
    return metrics.find(source.metric)(sets.scored(source, found))


def main() -> None:
    """Measures what is missing, keeps it, writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    groups = list(quantization_page.TITLES)
    parser.add_argument("--only", nargs="*", choices=groups, default=groups, help="groups to do")
    parser.add_argument("--anew", nargs="*", choices=groups, default=[], help="measured or not")
    parser.add_argument("--models", nargs="*", help="to do; all unless named")
    parser.add_argument("--minutes", type=float, help="begin no further row after this time")
    chosen = parser.parse_args()
    sets.check()
    started = time.monotonic()
    rows = {f["key"]: f for f in json.loads(PATH.read_text())} if PATH.exists() else {}
    order = [case.key for case in cases()]
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            if chosen.models and case.model not in chosen.models:
                continue
            if chosen.minutes and time.monotonic() - started > 60 * chosen.minutes:
                break
            if case.group in chosen.anew or (case.group in chosen.only and case.key not in rows):
                rows[case.key] = measure(case, Path(folder))
                print(rows[case.key], flush=True)
                kept = [rows[key] for key in order if key in rows]
                PATH.write_text(json.dumps(kept, indent=1) + "\n")
    quantization_page.write([rows[key] for key in order if key in rows])


if __name__ == "__main__":
    main()
