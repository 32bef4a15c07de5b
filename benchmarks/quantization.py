"""Every choice of post-training quantization, end to end: `python -m benchmarks.quantization`.

Accuracy of the device's integers on the reference models, by the host build on a fixed part of each test set
(samples evenly spaced, so that all classes and clips are in it). Rows are kept in
benchmarks/results/quantization.json and are not measured again unless `--only` names their group; after each
row docs/quantization-results.md is written from them. `--minutes` ends in time. Needs the reference data.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime import quantization as ort

from benchmarks.models import RESULTS, ROOT, TASKS, Task, data_folder
from codegen import data, importer
from codegen.quant.vocabulary import CLIPS, METHODS, ROUNDING_NAMES
from thumbnet import workflow
from thumbnet.options import CompileOptions, RunOptions

PATH = RESULTS / "quantization.json"
PAGE = ROOT / "docs" / "quantization-results.md"
MOST = {"kws": 1000, "ic": 200, "vww": 300, "sww": 500, "ad": 248}
AD_WINDOWS = "ad01_windows.npz"  # eight windows of each clip
FOUR: dict[str, Any] = {"weights": "int4"}


@dataclass(frozen=True)
class Case:
    """One row: a model and the options it is quantized with."""

    group: str
    model: str
    text: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.group} {self.model} {self.text}"


def cases() -> Iterator[Case]:
    """All rows, the quick ones that matter most first."""
    models = [task.name for task in TASKS]
    four = [model for model in models if model != "sww"]
    yield from (Case("default", model, "int8") for model in models)
    yield from (Case("onnxruntime", model, "min-max QDQ, int8") for model in four)
    for model in ("kws", "ic"):
        yield from (Case("methods", model, text, options) for text, options in _methods())
    yield from (Case("default", model, "int4", FOUR) for model in four)


def _methods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and options of every clipping, rounding and granularity."""
    for method in METHODS:
        yield f"activations {method}, weights int8", {"method": method}
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


def part_of(task: Task, folder: Path) -> tuple[str, int]:
    """A fixed part of a test set with its calibration data, as a file; how many samples (of ad: clips)."""
    sets = data_folder() / "datasets"
    if task.name == "ad":
        return str(sets / AD_WINDOWS), MOST["ad"]
    with np.load(sets / task.data) as arrays:
        kept = {key: arrays[key] for key in arrays.files if arrays[key].ndim == 0}
        x, y = arrays["x"], arrays["y"]
        count = min(MOST[task.name], len(x))
        chosen = np.unique(np.linspace(0, len(x) - 1, count).astype(np.int64))
        kept |= {"x": x[chosen], "y": y[chosen]}
        if "calib_x" in arrays:
            kept["calib_x"] = arrays["calib_x"]
        path = folder / "part.npz"
        np.savez(path, **kept)
    return str(path), len(chosen)


def measure(case: Case) -> dict[str, Any]:
    """The row of a case."""
    task = next(task for task in TASKS if task.name == case.model)
    with tempfile.TemporaryDirectory() as temporary:
        path, count = part_of(task, Path(temporary))
        model = data_folder() / "models" / f"{task.name}.onnx"
        running = RunOptions(data=path, metric=task.metric, max_samples=1, profile=False)
        before = time.monotonic()
        if case.group == "onnxruntime":
            model = by_onnxruntime(model, path, Path(temporary))
        compiling = CompileOptions(data=path, **case.options)
        _, found = workflow.run(model, compiling, running)
    return {
        "key": case.key,
        "group": case.group,
        "model": case.model,
        "text": case.text,
        "metric": found["accuracy"]["metric"],
        "float": found["accuracy"]["float"],
        "device": found["accuracy"]["device"],
        "samples": count,
        "weight_bytes": found["flash"]["weights"],
        "mismatched_bytes": found["mismatched_bytes"] + found["host"]["mismatched_bytes"],
        "seconds": round(time.monotonic() - before),
    }


def by_onnxruntime(model: Path, part: str, folder: Path) -> Path:
    """The QDQ file that onnxruntime's static quantization makes of a model: min-max, per channel, int8."""
    port = importer.load(model).inputs[0]
    (samples,) = data.load(part, [port], "calib_x").spread(256).real()

    class Reader(ort.CalibrationDataReader):  # type: ignore[misc]
        """Hands out samples one by one."""

        def __init__(self) -> None:
            self.rows = iter(samples)

        def get_next(self) -> dict[str, Any] | None:
            row = next(self.rows, None)
            return None if row is None else {port.name: row[None]}

    path = folder / model.name
    ort.quantize_static(
        str(model),
        str(path),
        Reader(),
        quant_format=ort.QuantFormat.QDQ,
        per_channel=True,
        activation_type=ort.QuantType.QInt8,
        weight_type=ort.QuantType.QInt8,
    )
    return path


TITLES = {
    "default": "## Defaults",
    "onnxruntime": "## onnxruntime's own static quantization, run by our kernels",
    "methods": "## Every method",
}
INTRODUCTION = """# Quantization, measured

Written by `python -m benchmarks.quantization`; figures are kept in benchmarks/results/quantization.json.
Accuracy is that of the C on the host, which gives the device's bytes, on n samples spread evenly over the
test set (ad: clips, of each eight windows). One standard error is about 1 point for kws,
2.5 for ic, 2 for vww: smaller differences mean nothing. Calibration: up to 256 samples that the data file
sets apart. No method saw a label.
"""
HEAD = (
    "| model | | n | metric | float | device | difference | weights B | mismatched bytes |\n"
    + "|---" * 9
    + "|\n"
)


def page(rows: list[dict[str, Any]]) -> str:
    """The document."""
    text = io.StringIO()
    text.write(INTRODUCTION)
    for group, title in TITLES.items():
        mine = [found for found in rows if found["group"] == group]
        if mine:
            text.write(f"\n{title}\n\n{HEAD}")
            text.writelines(map(row, mine))
    return text.getvalue()


def row(found: dict[str, Any]) -> str:
    """A line of a table."""
    drop = found["device"] - found["float"] if found["group"] != "onnxruntime" else None
    cells = (
        *(found[key] for key in ("model", "text", "samples", "metric")),
        f"{found['float']:.4f}" if drop is not None else "",
        f"{found['device']:.4f}",
        f"{drop:+.4f}" if drop is not None else "",
        f"{found['weight_bytes']:,}",
        found["mismatched_bytes"],
    )
    return "| " + " | ".join(map(str, cells)) + " |\n"


def main() -> None:
    """Measures what is missing, keeps it, writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=list(TITLES), help="groups to measure anew")
    parser.add_argument("--minutes", type=float, help="begin no further row after this time")
    chosen = parser.parse_args()
    if not (data_folder() / "models").is_dir():
        raise SystemExit("reference data not found; set THUMBNET_DATA")
    os.nice(10)
    started = time.monotonic()
    rows = {f["key"]: f for f in json.loads(PATH.read_text())} if PATH.exists() else {}
    order = [case.key for case in cases()]
    for case in cases():
        if chosen.minutes and time.monotonic() - started > 60 * chosen.minutes:
            break
        if case.key not in rows or case.group in (chosen.only or ()):
            rows[case.key] = measure(case)
            print(row(rows[case.key]), end="", flush=True)
            kept = [rows[key] for key in order if key in rows]
            PATH.write_text(json.dumps(kept, indent=1) + "\n")
            PAGE.write_text(page(kept))
    PAGE.write_text(page([rows[key] for key in order if key in rows]))


if __name__ == "__main__":
    main()
