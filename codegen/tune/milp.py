"""The best choice, exactly: a mixed-integer linear program for HiGHS (scipy.optimize.milp).

Variables: x[l, i] = 1 where layer l takes its option i; z[p] in 0..1, at least x[l, i] for every option
whose function is p, so that shared functions are paid once. Loss, cycles and flash are sums; the SRAM of
every step is one row. The width of an activation would be a variable more per tensor and width, and a row
more that ties it to every option that needs it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isinf
from typing import Any

import numpy as np
import numpy.typing as npt

from codegen.code_size import CALLS
from codegen.tune.problem import Chosen, Limits, Option, Problem, totals, without_beaten
from targets.errors import ToolMissing

Row = npt.NDArray[np.float64]
SCALE = 1e4  # of the objective: HiGHS stops at absolute gaps of 1e-6
MOST_S = 60.0


@dataclass(frozen=True, slots=True)
class Weights:
    """What a unit of each total counts in the objective."""

    loss: float = 0.0
    cycles: float = 0.0
    flash: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Variables:
    """Columns: the options of all layers, then the functions."""

    options: list[Option]
    starts: list[int]
    parts: dict[Hashable, int]
    part_flash: list[int]

    @property
    def count(self) -> int:
        return len(self.options) + len(self.parts)

    def row(
        self, value: Callable[[Option], float], part: Callable[[int], float] | None = None
    ) -> Row:
        """Coefficients of a sum over options, and over functions."""
        parts = [part(flash) if part else 0.0 for flash in self.part_flash]
        return np.array([*map(value, self.options), *parts], np.float64)


def solve(problem: Problem, weights: Weights, limits: Limits) -> Chosen | None:
    """The choice with the least weighted sum within the limits; None where there is none.

    Raises:
        ToolMissing: SciPy is not installed.
    """
    optimize = _scipy()
    small, left = without_beaten(problem)
    variables = _variables(small)
    objective = _objective(variables, weights)
    with _quiet():
        found = optimize.milp(
            objective,
            constraints=_constraints(optimize, small, variables, limits),
            integrality=np.array([1] * len(variables.options) + [0] * len(variables.parts)),
            bounds=optimize.Bounds(0, 1),
            options={"mip_rel_gap": 0.0, "time_limit": MOST_S},
        )
    if found.x is None:
        return None
    ends = [*variables.starts[1:], len(variables.options)]
    picked = [
        int(np.argmax(found.x[start:end]))
        for start, end in zip(variables.starts, ends, strict=True)
    ]
    chosen = tuple(kept[i] for kept, i in zip(left, picked, strict=True))
    return chosen if totals(problem, chosen).within(limits) else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Lets no library write to standard output: HiGHS prints lines for its own developers."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C has buffered
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _scipy() -> Any:
    try:
        from scipy import optimize  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ToolMissing(
            "the exact search needs SciPy", hint="pip install thumbnet[tune], or --search rl"
        ) from error
    return optimize


def _variables(problem: Problem) -> _Variables:
    options: list[Option] = []
    starts, parts, part_flash = [], dict[Hashable, int](), list[int]()
    for row in problem.options:
        starts.append(len(options))
        options += row
        for option in row:
            if option.part not in parts:
                parts[option.part] = len(parts)
                part_flash.append(option.part_flash)
    return _Variables(options, starts, parts, part_flash)


def _objective(variables: _Variables, weights: Weights) -> Row:
    found = variables.row(
        lambda o: weights.loss * o.loss + weights.cycles * o.cycles + weights.flash * o.flash,
        lambda flash: weights.flash * flash,
    )
    return found * (SCALE / max(float(np.abs(found).max(initial=0)), 1e-30))


def _constraints(
    optimize: Any, problem: Problem, variables: _Variables, limits: Limits
) -> list[Any]:
    rows, lower, upper = [], [], []

    def add(row: Row, low: float, high: float) -> None:
        rows.append(row)
        lower.append(low)
        upper.append(high)

    def at_most(row: Row, limit: float) -> None:
        """A row over its limit: numbers about 1, whatever the unit."""
        if not isinf(limit):
            scale = limit if limit > 0 else max(float(row.max()), 1e-30)
            add(row / scale, -np.inf, limit / scale)

    at_most(variables.row(lambda o: o.loss), limits.loss)
    at_most(variables.row(lambda o: o.cycles), limits.cycles)
    at_most(variables.row(lambda o: o.flash, float), limits.flash - CALLS)
    for start, options in zip(variables.starts, problem.options, strict=True):
        one = np.zeros(variables.count)
        one[start : start + len(options)] = 1
        add(one, 1, 1)
        if not isinf(limits.sram):
            step = np.zeros(variables.count)
            step[start : start + len(options)] = [option.sram for option in options]
            at_most(step, limits.sram)
    for index, option in enumerate(variables.options):
        paid = np.zeros(variables.count)
        paid[index], paid[len(variables.options) + variables.parts[option.part]] = 1, -1
        add(paid, -np.inf, 0)
    return [optimize.LinearConstraint(np.array(rows), lower, upper)]
