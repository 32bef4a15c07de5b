"""Mixed precision: which weights each layer is to have, chosen on calibration data alone.

Sensitivities and costs (codegen.tune) give one table; an exact search over it gives the Pareto front; the
best few points are built, run and measured. Test data is looked at for those figures alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from codegen.quant.lower import Format
from codegen.tune import actor_critic, front
from codegen.tune.front import Point
from codegen.tune.problem import Limits, Problem, nondominated, totals
from codegen.tune.sensitivity import Outcome
from targets.errors import DoesNotFit
from targets.target import Target
from targets.target import load as load_target
from thumbnet import compiler, project, tuning_choice, tuning_files, tuning_verify
from thumbnet.compiler import Calibrated, Progress, silent
from thumbnet.options import CompileOptions, RunOptions, TuneOptions
from thumbnet.tuning_table import Table, format_name, measured_table

RL_POINTS = 6  # of a front that is learnt


def tune(
    model: Path,
    options: CompileOptions,
    running: RunOptions,
    wishes: TuneOptions,
    output: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Searches, measures, and writes the folder `output`; the JSON object of `tune`.

    Args:
        model: a float ONNX model.
        options: target, calibration and budgets; formats and kernels are what is searched.
        running: data and metric of the figures that are measured.
        wishes: how to search.
        output: folder for recipe.toml, the front and its picture.
        progress: progress bars.

    Raises:
        UsageError: the model brings integer weights, or no layer has any.
        DoesNotFit: no choice keeps the budgets.
        ToolMissing: an extra is not installed.
    """
    started = time.monotonic()
    project.check_place(output, tuning_files.MARKER)
    target = load_target(options.target)
    limits = _limits(target, options)
    known = compiler.calibrated(model, options, None, progress)
    table = measured_table(known, target, options, wishes, progress)
    searched = time.monotonic()
    points, solved = _front(table, limits, wishes, options.seed, progress)
    found_at = time.monotonic()
    combined = [table.combined(point) for point in points]
    classes = table.losses.has_classes or tuning_verify.metric(known.graph, running) == "top1"
    chosen = tuning_choice.recommended(table, points, combined, options, wishes, classes)
    verify = tuning_verify.verifier(model, options, running, wishes, progress)
    verified = _verified(table, points, chosen, verify, wishes.verify)
    clock = _seconds(started, searched, found_at, solved)
    found = _summary(known, table, points, combined, verified, wishes)
    found |= {"target": target.name, "recommended": chosen, "seconds": clock, "solved": solved}
    recipes = {i: trial["recipe"] for i, trial in verified.items() if "recipe" in trial}
    project.write(output, tuning_files.files(found, recipes), marker=tuning_files.MARKER)
    return found


def _summary(
    known: Calibrated,
    table: Table,
    points: Sequence[Point],
    combined: Sequence[Outcome],
    verified: Mapping[int, Mapping[str, Any]],
    wishes: TuneOptions,
) -> dict[str, Any]:
    """The table and the front as JSON."""
    return {
        "schema_version": project.SCHEMA_VERSION,
        "model": known.graph.name,
        "measure": wishes.measure,
        "search": wishes.search,
        "calibration_samples": len(known.samples[0]),
        "formats": [format_name(f) for f in table.formats],
        "layers": _layers(table),
        "uniform": [_uniform(table, f) for f in table.formats],
        "front": [
            _row(table, point, losses, verified.get(index))
            for index, (point, losses) in enumerate(zip(points, combined, strict=True))
        ],
        "additivity": _additivity(points, combined),
        "warnings": [*known.warnings, *_warnings(known, wishes)],
    }


def _seconds(started: float, searched: float, found_at: float, solved: int) -> dict[str, float]:
    """Where the time went."""
    return {
        "table": round(searched - started, 2),
        "search": round(found_at - searched, 2),
        "solve": round((found_at - searched) / max(solved, 1), 4),
        "total": round(time.monotonic() - started, 2),
    }


def _limits(target: Target, options: CompileOptions) -> Limits:
    budget = compiler.limits_of(target, options.budget)
    return Limits(
        cycles=inf if budget.cycles is None else budget.cycles,
        flash=inf if budget.flash is None else budget.flash,
        sram=inf if budget.sram is None else budget.sram,
    )


def _front(
    table: Table, limits: Limits, wishes: TuneOptions, seed: int, progress: Progress
) -> tuple[list[Point], int]:
    """The front within the limits, and how many programs were solved."""
    if wishes.search == "rl":
        points, solved = _learnt(table.problem, limits, seed, progress)
    else:
        most = len(front.CYCLES_SHARES) * (wishes.points + 1)
        walked = front.walk(table.problem, limits, wishes.points, progress("searching", most))
        points, solved = list(walked.points), walked.solved
        points = tuning_choice.with_uniform(table, points, limits)
    if not points:
        raise DoesNotFit(
            "no choice of formats and kernels keeps the budgets",
            hint="raise one of --sram, --flash, --cycles, or offer fewer bits with --formats",
        )
    return points, solved


def _learnt(
    problem: Problem, limits: Limits, seed: int, progress: Progress
) -> tuple[list[Point], int]:
    """Points that the actor-critic finds between the largest and the smallest flash."""
    sizes = [[o.flash + o.part_flash for o in row] for row in problem.options]
    most, least = sum(map(max, sizes)), sum(map(min, sizes))
    budgets = np.linspace(min(most, limits.flash), least, RL_POINTS)
    advance = progress("learning", RL_POINTS * actor_critic.Training().updates)
    points = []
    for budget in budgets:
        allowed = replace(limits, flash=float(budget))
        chosen = actor_critic.search(problem, allowed, seed, progress=advance)
        if chosen is not None:
            points.append((chosen, totals(problem, chosen)))
    return nondominated(points), len(budgets)


def _verified(
    table: Table,
    points: Sequence[Point],
    chosen: int,
    verify: Callable[[Sequence[str]], list[dict[str, Any]]],
    most: int,
) -> dict[int, dict[str, Any]]:
    """What the recommended point and some others, evenly spread in flash, really take."""
    low, high = points[0][1].flash, points[-1][1].flash
    wanted = np.linspace(low, high, max(most - 1, 0))
    spread = [min(range(len(points)), key=lambda i: abs(points[i][1].flash - w)) for w in wanted]
    indices = list(dict.fromkeys([chosen, *spread]))[:most]
    found = dict(zip(indices, verify([table.recipe(points[i]) for i in indices]), strict=True))
    if "failed" in found[chosen]:
        raise DoesNotFit(
            f"the recommended choice, once it is built: {found[chosen]['failed']}",
            hint="lower the same budget a little for the search, or raise it",
        )
    return found


def _row(
    table: Table,
    point: Point,
    combined: Outcome,
    verified: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """A point of the front as JSON."""
    chosen, sums = point
    picked = zip(table.problem.names, table.problem.picked(chosen), strict=True)
    return {
        "loss": sums.loss,
        "combined_loss": combined.loss,
        "changed": combined.changed,
        "flash": sums.flash,
        "cycles": round(sums.cycles),
        "step_sram": sums.sram,
        "layers": {
            name: {"kernel": option.kernel}
            | ({"weights": format_name(option.format)} if option.format else {})
            for name, option in picked
        },
        "verified": None
        if verified is None
        else {k: v for k, v in verified.items() if k != "recipe"},
    }


def _layers(table: Table) -> list[dict[str, Any]]:
    """What each layer alone loses in each format, and the least flash and cycles that it takes in it."""
    rows = []
    for name, output in table.found.outputs.items():
        by_format = {}
        for chosen in table.formats:
            candidates = table.found.rows[name, chosen]
            by_format[format_name(chosen)] = {
                "loss": table.losses.table[output, chosen].loss,
                "cycles": round(min(one.total for one in candidates)),
                "constants": min(one.constants for one in candidates),
            }
        rows.append({"name": name, "formats": by_format})
    return rows


def _uniform(table: Table, chosen: Format) -> dict[str, Any]:
    """All layers in one format: the loss, and the least flash of kernels for it."""
    rows = [
        tuple(option for option in row if option.format in (None, chosen))
        for row in table.problem.options
    ]
    alone = Problem(table.problem.names, tuple(rows))
    cheapest = tuple(
        min(range(len(row)), key=lambda i: row[i].flash + row[i].part_flash) for row in rows
    )
    together = table.losses.combined(dict.fromkeys(table.found.outputs.values(), chosen))
    sums = totals(alone, cheapest)
    return {
        "format": format_name(chosen),
        "loss": sums.loss,
        "combined_loss": together.loss,
        "changed": together.changed,
        "flash": sums.flash,
        "cycles": round(sums.cycles),
    }


def _additivity(points: Sequence[Point], combined: Sequence[Outcome]) -> dict[str, float | int]:
    """How well sums of single losses foretell the loss of all together: rank correlation, median ratio."""
    sums = np.array([point[1].loss for point in points])
    real = np.array([one.loss for one in combined])
    apart = sums.argsort().argsort() - real.argsort().argsort()
    count = len(points)
    # Spearman's, of ranks without ties.
    correlation = 1 - 6 * float((apart**2).sum()) / max(count * (count**2 - 1), 1)
    ratio = float(np.median(real / np.maximum(sums, 1e-12)))
    return {
        "points": count,
        "rank_correlation": round(correlation, 4),
        "median_ratio": round(ratio, 4),
    }


def _warnings(known: Calibrated, wishes: TuneOptions) -> list[str]:
    count, drop = len(known.samples[0]), wishes.accuracy_drop
    if drop is not None and 100 / count > drop:
        return [
            f"{count} calibration samples cannot tell {drop:g} % apart: no sample may change its class"
        ]
    return []
