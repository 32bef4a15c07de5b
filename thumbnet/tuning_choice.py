"""Which point of a front is recommended: on calibration data alone."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.tune.front import Point
from codegen.tune.milp import Weights, solve
from codegen.tune.problem import Limits, Problem, totals
from codegen.tune.sensitivity import Outcome
from targets.errors import UsageError
from thumbnet.options import CompileOptions, TuneOptions
from thumbnet.tuning_table import Table

USUAL_DROP = 1.0  # percent, where the user sets no goal
USUAL_LOSS = 0.01  # of outputs that are no classes
USUAL_CYCLES = 1.5  # times the fewest, where the user sets no limit


def with_uniform(table: Table, points: Sequence[Point], limits: Limits) -> list[Point]:
    """The points, and those with all layers alike that keep the limits: sums of losses may do them wrong."""
    known = {point[0] for point in points}
    found = list(points)
    for chosen in table.formats:
        left = [
            [i for i, option in enumerate(row) if option.format in (None, chosen)]
            for row in table.problem.options
        ]
        rows = zip(left, table.problem.options, strict=True)
        alike = Problem(table.problem.names, tuple(tuple(r[i] for i in few) for few, r in rows))
        fastest = solve(alike, Weights(cycles=1), limits)
        if fastest is None:
            continue
        whole = tuple(few[index] for few, index in zip(left, fastest, strict=True))
        if whole not in known:
            found.append((whole, totals(table.problem, whole)))
    return sorted(found, key=lambda point: (point[1].flash, point[1].cycles))


def recommended(
    table: Table,
    points: Sequence[Point],
    combined: Sequence[Outcome],
    options: CompileOptions,
    wishes: TuneOptions,
    classes: bool,
) -> int:
    """The least flash that is good enough; with a budget but no goal the least loss.

    Args:
        table: that the points choose from.
        points: within the budgets.
        combined: what each does to the outputs, on calibration data.
        options: the budgets.
        wishes: the goal.
        classes: whether the outputs are those of classes.
    """
    budget, drop = options.budget, wishes.accuracy_drop
    if drop is not None and not classes:
        raise UsageError(
            "--accuracy-drop needs a model whose outputs are classes",
            hint="set --flash, --sram or --cycles instead",
        )
    able = list(range(len(points)))
    if budget.cycles is None:
        most = USUAL_CYCLES * min(point[1].cycles for point in points)
        able = [i for i in able if points[i][1].cycles <= most]
    limited = any(limit is not None for limit in (budget.sram, budget.flash, budget.cycles))
    share = (USUAL_DROP if drop is None else drop) / 100
    good = []
    if drop is not None or not limited:
        good = [
            i
            for i in able
            if (combined[i].changed <= share if classes else combined[i].loss <= USUAL_LOSS)
        ]
    if good:
        return min(good, key=lambda i: points[i][1].flash)
    return least_loss(table, points, combined, able)


def least_loss(
    table: Table, points: Sequence[Point], combined: Sequence[Outcome], able: Sequence[int]
) -> int:
    """The point of least loss; one with all layers alike, unless that is clearly worse.

    The calibration data are a sample: a difference within its error is no reason for a mixture. Nor is one
    that is gone once layers make up for the errors of those before them.
    """
    best = min(able, key=lambda i: combined[i].loss)
    alike = [i for i in able if len(set(table.formats_of(points[i]).values())) == 1]
    near = [i for i in alike if not combined[best].clearly_better(combined[i])]
    if near or not alike:
        return min(near, key=lambda i: combined[i].loss, default=best)
    plain = min(alike, key=lambda i: combined[i].loss)
    mixed, uniform = (table.joint(points[i]) for i in (best, plain))
    return best if mixed.clearly_better(uniform) else plain
