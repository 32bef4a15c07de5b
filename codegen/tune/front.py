"""The Pareto front: the least loss for every amount of flash, under several limits of cycles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import inf

from codegen.tune.milp import Weights, solve
from codegen.tune.problem import Chosen, Limits, Problem, Totals, nondominated, totals

CYCLES_SHARES = (1.0, 1.15, 1.5, 3.0, inf)
"""Limits of cycles whose fronts are walked, as multiples of the fewest."""

Point = tuple[Chosen, Totals]


@dataclass(frozen=True, slots=True)
class Front:
    """What was found.

    Attributes:
        points: by rising flash; none beats another in loss, cycles and flash.
        solved: how many programs were solved for it.
    """

    points: tuple[Point, ...]
    solved: int


def walk(
    problem: Problem,
    limits: Limits,
    most: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Front:
    """The front within limits.

    Along each limit of cycles the flash allowed falls from that of the least loss to the least that is
    possible, in `most` steps at most; where there are fewer points than that, none is left out.
    """
    fastest = solve(problem, Weights(cycles=1), limits)
    if fastest is None:
        return Front((), 1)
    fewest = totals(problem, fastest).cycles
    points: list[Point] = []
    solved = 1
    for share in CYCLES_SHARES:
        allowed = replace(limits, cycles=min(limits.cycles, share * fewest))
        for point in _along(problem, allowed, most):
            points.append(point)
            solved += 2
            progress(1)
    return Front(tuple(nondominated(points)), solved)


def _along(problem: Problem, limits: Limits, most: int) -> Iterator[Point]:
    smallest = solve(problem, Weights(flash=1), limits)
    best = least_loss(problem, limits)
    if smallest is None or best is None:
        return
    yield best
    low, high = totals(problem, smallest).flash, best[1].flash
    step = max((high - low) // most, 1)
    flash = high - 1
    while flash >= low:
        found = least_loss(problem, replace(limits, flash=flash))
        if found is None:
            return
        yield found
        # The next one: smaller than what was found, and on the next line of the grid.
        flash = min(found[1].flash - 1, flash - step)


def least_loss(problem: Problem, limits: Limits) -> Point | None:
    """The least loss within limits; of the choices with that loss the cheapest in flash and cycles."""
    return _cheapest_of(problem, limits, Weights(loss=1))


def least_flash(problem: Problem, limits: Limits) -> Point | None:
    """The least flash within limits, then the least loss."""
    found = solve(problem, Weights(flash=1), limits)
    if found is None:
        return None
    return least_loss(problem, replace(limits, flash=totals(problem, found).flash))


def _cheapest_of(problem: Problem, limits: Limits, weights: Weights) -> Point | None:
    found = solve(problem, weights, limits)
    if found is None:
        return None
    reached = totals(problem, found)
    # A cycle counts as much as a byte, relative to what was found.
    second = Weights(cycles=1 / max(reached.cycles, 1), flash=1 / max(reached.flash, 1))
    cheaper = solve(problem, second, replace(limits, loss=reached.loss))
    chosen = found if cheaper is None else cheaper
    return chosen, totals(problem, chosen)
