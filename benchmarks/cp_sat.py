"""The placement problem for OR-tools' CP-SAT: an independent proof of codegen.arena's optima."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from ortools.sat.python import cp_model

from codegen.arena import Buffer, Placement, Problem

TIME_LIMIT_S = 10.0


def solve(problem: Problem) -> Placement:
    """The best placement that CP-SAT finds, and its bound."""
    unit = problem.alignment
    most = sum(-(-b.size // unit) for b in problem.buffers)
    model = cp_model.CpModel()
    bases = {b.name: model.new_int_var(0, most, b.name) for b in problem.buffers}
    top = model.new_int_var(0, most * unit, "top")
    for buffer in problem.buffers:
        model.add(bases[buffer.name] * unit + buffer.size <= top)
    for a, b in combinations(problem.buffers, 2):
        if a.first <= b.last and b.first <= a.last:
            chosen = []
            for before, after, distance in _alternatives(problem, a, b):
                choice = model.new_bool_var("")
                apart = (bases[after] - bases[before]) * unit >= distance
                model.add(apart).only_enforce_if(choice)
                chosen.append(choice)
            model.add_bool_or(chosen)
    model.minimize(top)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = TIME_LIMIT_S
    solver.parameters.num_workers = 2
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Placement({}, most * unit, 0)
    found = {name: solver.value(base) * unit for name, base in bases.items()}
    return Placement(found, round(solver.objective_value), round(solver.best_objective_bound))


def _alternatives(problem: Problem, a: Buffer, b: Buffer) -> Iterator[tuple[str, str, int]]:
    """(before, after, distance): base(after) >= base(before) + distance; one of them must hold."""
    yield a.name, b.name, a.size
    yield b.name, a.name, b.size
    for overlap in problem.overlaps:
        if {overlap.dying, overlap.born} == {a.name, b.name}:
            if overlap.ascending is not None:
                yield overlap.born, overlap.dying, overlap.ascending
            if overlap.descending is not None:
                yield overlap.dying, overlap.born, overlap.descending
