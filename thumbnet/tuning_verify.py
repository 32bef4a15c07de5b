"""What choices of `tune` really take: each is generated, built, run and scored on its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codegen import data
from codegen.ir import Graph
from targets.errors import DoesNotFit, UsageError
from thumbnet import parallel, workflow
from thumbnet.compiler import Progress, silent
from thumbnet.options import CompileOptions, RunOptions, TuneOptions

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trial:
    """A choice to be measured, and how; `options.recipe` is set where it runs."""

    recipe: str
    model: Path
    options: CompileOptions
    running: RunOptions


def verifier(
    model: Path,
    options: CompileOptions,
    running: RunOptions,
    wishes: TuneOptions,
    progress: Progress = silent,
) -> Callable[[Sequence[str]], list[Figures]]:
    """A function that measures recipes, in several processes where that is wished."""

    def verify(recipes: Sequence[str]) -> list[Figures]:
        jobs = [Trial(recipe, model.resolve(), options, running) for recipe in recipes]
        advance = progress("verifying", len(jobs))
        return parallel.run(measure, jobs, wishes.jobs, wishes.dask, advance)

    return verify


def metric(graph: Graph, running: RunOptions) -> str | None:
    """What the user's data is scored with."""
    if running.metric is not None or running.data is None:
        return running.metric
    return data.load(running.data, graph.inputs).metric


def measure(trial: Trial) -> Figures:
    """Accuracy, sizes and cycles of a choice, and the recipe of its build; or `failed`, why there is none.

    Where a kernel does not serve the layer's own weights, or its tensors cannot be placed within a
    budget, all kernels are left to the planner.
    """
    try:
        return _measured(trial, trial.recipe)
    except DoesNotFit:
        pass
    except UsageError as error:
        if "cannot run kernel" not in error.message:
            raise
    lines = (line for line in trial.recipe.splitlines() if not line.startswith("kernel = "))
    try:
        return _measured(trial, "\n".join(lines) + "\n")
    except DoesNotFit as error:
        return {"failed": error.message}


def _measured(trial: Trial, recipe: str) -> Figures:
    with tempfile.TemporaryDirectory(prefix="thumbnet-") as temporary:
        path, output = Path(temporary) / "recipe.toml", Path(temporary) / "project"
        path.write_text(recipe)
        options = replace(trial.options, recipe=path)
        warnings, found = workflow.run(trial.model, options, trial.running, output)
        written = (output / "recipe.toml").read_text()
    host = found["host"] or {"mismatched_bytes": 0}
    return {
        "accuracy": found["accuracy"],
        "flash": found["flash"],
        "sram": found["sram"]["total"],
        "cycles": found["cycles"],
        "mismatched_bytes": found["mismatched_bytes"] + host["mismatched_bytes"],
        "warnings": list(warnings),
        "recipe": written,
    }
