"""Mixed precision beside uniform widths: `python -m benchmarks.tuning [--only NAME ...] [--measure kl]`.

For each model: `thumbnet tune` as a user runs it, timed; every uniform width (all layers alike), built with
the least flash; and what the search finds for the same predicted flash. All are scored on the whole test set
by the host build. Writes benchmarks/results/tuning.json and tuning.md. Needs the reference data:
$THUMBNET_DATA, else ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.models import RESULTS, TASKS, Task, data_folder
from codegen.quant.lower import Format
from codegen.tune import front
from codegen.tune.front import Point
from codegen.tune.problem import Limits, Problem
from codegen.tune.sensitivity import MEASURES, Measure
from targets.target import load as load_target
from thumbnet import compiler, tables, tuning, tuning_choice
from thumbnet.options import CompileOptions, RunOptions, TuneOptions
from thumbnet.tables import Table as Rows
from thumbnet.tables import Value
from thumbnet.tuning_table import Table, format_name, measured_table
from thumbnet.tuning_verify import Trial, measure

POINTS = 25  # of the fronts that are looked at
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


def figures(found: Mapping[str, Any]) -> Found:
    """What is kept of a measurement."""
    return {
        "accuracy": found["accuracy"]["device"],
        "float": found["accuracy"]["float"],
        "samples": found["accuracy"]["samples"],
        "weights": found["flash"]["weights"],
        "flash": found["flash"]["total"],
        "cycles": found["cycles"],
        "sram": found["sram"],
        "mismatched_bytes": found["mismatched_bytes"],
    }


@dataclass(frozen=True)
class Study:
    """A model with its table of losses and costs."""

    task: Task
    table: Table

    def uniform(self, width: str) -> Point:
        """All layers in one width, in the kernels that need the least flash."""
        wanted = Format(width)
        problem = self.table.problem
        rows = tuple(tuple(o for o in row if o.format in (None, wanted)) for row in problem.options)
        found = front.least_flash(Problem(problem.names, rows), Limits())
        assert found is not None
        own = zip(rows, found[0], problem.options, strict=True)
        return tuple(row.index(few[index]) for few, index, row in own), found[1]

    def best(self, limits: Limits) -> Point:
        """What `tune` recommends for a budget alone, whatever the cycles."""
        walked = front.walk(self.table.problem, limits, POINTS).points
        points = tuning_choice.with_uniform(self.table, walked, limits)
        outcomes = [self.table.combined(point) for point in points]
        return points[tuning_choice.least_loss(self.table, points, outcomes, range(len(points)))]

    def measured(self, what: str, point: Point) -> Found:
        """A point built, run and scored."""
        model, compiling, running = options_of(self.task)
        found = measure(Trial(self.table.recipe(point), model, compiling, running))
        together = self.table.combined(point)
        return {
            "what": what,
            **figures(found),
            "predicted_flash": point[1].flash,
            "predicted_cycles": round(point[1].cycles),
            "loss": point[1].loss,
            "combined_loss": together.loss,
            "changed": together.changed,
            "layers": {n: format_name(f) for n, f in self.table.formats_of(point).items()},
        }


def study(task: Task, formats: str, measured_by: Measure) -> Found:
    """One model: uniform widths, the best mixture in the flash of each, and the command as it comes."""
    model, compiling, running = options_of(task)
    wishes = TuneOptions(formats=tuple(formats.split(",")), measure=measured_by)
    known = compiler.calibrated(model, compiling)
    target = load_target(compiling.target)
    mine = Study(task, measured_table(known, target, compiling, wishes))
    plain = {width: mine.uniform(width) for width in WIDTHS}
    rows = [mine.measured(f"uniform {width}", point) for width, point in plain.items()]
    for width in WIDTHS[1:]:
        best = mine.best(Limits(flash=plain[width][1].flash))
        rows.append(mine.measured(f"mixed, flash of {width}", best))
    saved = rows[0]["weights"] * (1 - 1 / LEAST_SAVING)
    small = mine.best(Limits(flash=plain["int8"][1].flash - saved))
    rows.append(mine.measured(f"mixed, weights / {LEAST_SAVING}", small))
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        options = replace(wishes, jobs=2)
        found = tuning.tune(model, compiling, running, options, Path(folder) / "front")
    whole = time.monotonic() - started
    point = found["front"][found["recommended"]]
    last = {"what": "tune, recommended", **figures(point["verified"])}
    keys = ("predicted_flash", "loss", "combined_loss", "changed")
    last |= {key: point[key.removeprefix("predicted_")] for key in keys}
    last["layers"] = {name: layer.get("weights") for name, layer in point["layers"].items()}
    return {
        "model": task.name,
        "formats": formats,
        "measure": measured_by,
        "rows": [*rows, last],
        "calibration_samples": found["calibration_samples"],
        "points": len(found["front"]),
        "solved": found["solved"],
        "seconds": found["seconds"] | {"whole": round(whole, 1)},
        "additivity": found["additivity"],
    }


def page(studies: list[Found]) -> str:
    """All studies as Markdown."""
    rows: list[tuple[Value, ...]] = []
    for one in studies:
        first = one["rows"][0]
        for found in one["rows"]:
            rows.append(
                (
                    one["model"],
                    one["measure"],
                    found["what"],
                    " ".join((w or "").removeprefix("int") for w in found["layers"].values() if w),
                    f"{found['accuracy']:.4f}",
                    f"{100 * (found['accuracy'] - found['float']):+.2f}",
                    found["weights"],
                    f"{first['weights'] / found['weights']:.2f}",
                    found["predicted_flash"],
                    found["flash"],
                    found["cycles"],
                    found["combined_loss"],
                    found["mismatched_bytes"],
                )
            )
    headings: tuple[str, ...] = (
        "model",
        "measure",
        "what",
        "bits",
        "accuracy",
        "beside float",
        "weights B",
        "less",
        "flash B",
    )
    headings += ("built", "cycles", "loss", "mismatched")
    text = tables.markdown(Rows(headings, rows))
    times = [
        (
            one["model"],
            one["measure"],
            one["calibration_samples"],
            one["points"],
            one["solved"],
            one["seconds"]["solve"],
            one["seconds"]["table"],
            one["seconds"]["search"],
            one["seconds"]["whole"],
            one["additivity"]["rank_correlation"],
            one["additivity"]["median_ratio"],
        )
        for one in studies
    ]
    names: tuple[str, ...] = ("model", "measure", "samples", "points", "searches", "s each")
    names += ("table s", "search s", "whole s")
    return text + "\n" + tables.markdown(Rows((*names, "rank", "ratio"), times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="models to measure anew; other rows stay")
    parser.add_argument("--measure", choices=MEASURES, default="mse")
    parser.add_argument("--formats", default="int8,int4,int3,int2")
    chosen = parser.parse_args()
    if not (data_folder() / "models").is_dir():
        raise SystemExit("reference data not found; set THUMBNET_DATA")
    known = json.loads(PATH.read_text()) if PATH.exists() else []
    studies = {(found["model"], found["measure"]): found for found in known}
    for task in TASKS:
        if task.name in (chosen.only or MODELS):
            key = task.name, chosen.measure
            studies[key] = study(task, chosen.formats, chosen.measure)
            kept = [studies[name] for name in sorted(studies)]
            PATH.write_text(json.dumps(kept, indent=1) + "\n")
            PATH.with_suffix(".md").write_text(page(kept))
    print(page([studies[name] for name in sorted(studies)]))


if __name__ == "__main__":
    main()
