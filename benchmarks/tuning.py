"""Mixed precision beside uniform widths: `python -m benchmarks.tuning [--only NAME ...]`.

For each model: `thumbnet tune` as a user runs it, timed; every uniform width (all layers alike), built with the
least flash; and what tune finds for the same predicted flash. All are scored on the whole test set by the
host build. Writes benchmarks/results/tuning.json and tuning.md. Needs the reference data: $THUMBNET_DATA, else
../shared/data.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.models import RESULTS, TASKS, Task, data_folder
from codegen import recipe
from codegen.quant.lower import Format
from codegen.select import Budget
from thumbnet import compiler, tuning
from thumbnet.options import CompileOptions, RunOptions, TuneOptions
from thumbnet.tuning_verify import Trial, measure

PATH = RESULTS / "tuning.json"
WIDTHS = ("int8", "int4", "int3")
MODELS = ("kws", "ic")
LEAST_SAVING = 1.6  # of weight flash, beside int8
Found = dict[str, Any]


def options_of(task: Task) -> tuple[Path, CompileOptions, RunOptions]:
    folder = data_folder()
    data = str(folder / "datasets" / task.data)
    calib = str(folder / "datasets" / task.calib) if task.calib else None
    compiling = CompileOptions(data=data, calib=calib, optimize="flash")
    running = RunOptions(data=data, metric=task.metric, max_samples=1)
    return folder / "models" / f"{task.name}.onnx", compiling, running


def uniform(task: Task, layers: list[str], width: str) -> Found:
    """All layers in one width, kernels of the least flash."""
    model, compiling, running = options_of(task)
    text = recipe.of_layers(
        dict.fromkeys(layers, Format(width)), dict.fromkeys(layers, ""), width == "int2"
    )
    free = "\n".join(line for line in text.splitlines() if not line.startswith("kernel"))
    return figures(measure(Trial(free + "\n", model, compiling, running)))


def figures(found: Mapping[str, Any]) -> Found:
    """What is kept of a measurement."""
    return {
        "accuracy": found["accuracy"]["device"],
        "float": found["accuracy"]["float"],
        "samples": found["accuracy"]["samples"],
        "weights": found["flash"]["weights"],
        "constants": found["flash"]["weights"] + found["flash"]["constants"],
        "flash": found["flash"]["total"],
        "cycles": found["cycles"],
        "sram": found["sram"],
        "mismatched_bytes": found["mismatched_bytes"],
    }


def tuned(task: Task, budget: Budget, wishes: TuneOptions, formats: str) -> Found:
    """The recommended point of `tune`, and how long it took."""
    model, compiling, running = options_of(task)
    wishes = replace(wishes, formats=tuple(formats.split(",")))
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = tuning.tune(
            model, replace(compiling, budget=budget), running, wishes, Path(folder) / "front"
        )
    point = found["front"][found["recommended"]]
    return {
        **figures(point["verified"]),
        "predicted_flash": point["flash"],
        "predicted_cycles": point["cycles"],
        "loss": point["loss"],
        "combined_loss": point["combined_loss"],
        "changed": point["changed"],
        "layers": {name: layer.get("weights") for name, layer in point["layers"].items()},
        "points": len(found["front"]),
        "solved": found["solved"],
        "seconds": found["seconds"] | {"whole": round(time.monotonic() - started, 1)},
        "additivity": found["additivity"],
    }


def study(task: Task, formats: str) -> Found:
    """One model: uniform widths, tune at the flash of each, and tune as it comes."""
    model, compiling, _ = options_of(task)
    known = compiler.calibrated(model, compiling)
    from thumbnet.tuning_table import measured_table

    target = compiler.load_target(compiling.target)
    one = replace(TuneOptions(), formats=("int8",))
    names = list(measured_table(known, target, compiling, one).found.outputs)
    rows: list[Found] = []
    for width in WIDTHS:
        rows.append({"what": f"uniform {width}"} | uniform(task, names, width))
        print(row(task.name, rows[-1], rows[0]), flush=True)
    quick = TuneOptions(points=1, verify=1)
    for width, plain in zip(WIDTHS[1:], rows[1:], strict=False):
        budget = Budget(flash=plain["flash"], cycles=10**12)
        found = tuned(task, budget, quick, formats)
        rows.append({"what": f"tune, flash of {width}"} | found)
        print(row(task.name, rows[-1], rows[0]), flush=True)
    budget = Budget(cycles=10**12)
    found = tuned(task, budget, TuneOptions(accuracy_drop=1.0, verify=3, jobs=2), formats)
    rows.append({"what": "tune, 1 % of classes"} | found)
    print(row(task.name, rows[-1], rows[0]), flush=True)
    return {"model": task.name, "formats": formats, "rows": rows}
