"""Cycles against SRAM, per model: `python -m benchmarks.pareto [--target NAME]`.

Plans every reference model for every objective, with and without --stream-input, and for SRAM budgets in
steps: under a budget, the advice of the plan's peak (kernels, chains) is followed, the cheapest that reaches
it, until the arena fits. Cycles are the planner's prediction. Writes benchmarks/results/pareto-TARGET.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.models import RESULTS, TASKS, data_folder
from benchmarks.planning import quantized
from codegen import advice, check_plan, plan
from codegen.ir import Graph
from codegen.select import Objective
from targets.errors import UsageError
from targets.target import Core, load

OBJECTIVES: tuple[Objective, ...] = ("speed", "balanced", "flash", "sram")
STEPS = 4  # budgets between the largest and the smallest arena
HEAD = (
    "| model | choice | SRAM B | bound B | predicted cycles | constants B | Pareto |\n"
    "|---|---|---:|---:|---:|---:|---|"
)


@dataclass(frozen=True)
class Point:
    """A plan, as a point of the table: what chose it, bytes, predicted cycles."""

    choice: str
    sram: int
    bound: int
    cycles: int
    flash: int


def point(choice: str, made: plan.Plan) -> Point:
    cycles = round(sum(s.kernel.cycles(s.layer) for s in made.steps))
    flash = sum(s.weight_bytes + s.constant_bytes for s in made.steps)
    return Point(choice, made.size, made.size_bound, cycles, flash)


def within(graph: Graph, core: Core, budget: int) -> plan.Plan | None:
    """The fast plan with slower kernels at its peaks until it fits; None when that leads nowhere."""
    chosen: dict[str, str] = {}
    chains: tuple[tuple[str, ...], ...] | None = None
    made = plan.make(graph, core, "speed")
    while made.size > budget:
        peak = advice.peak(made)
        able = [a for a in (peak.advice if peak else ()) if a.kernels or a.chains]
        if not able:
            return None
        best = (advice.enough(able, budget) or able)[0]
        if best.chains:
            chosen, chains = {}, best.chains  # as it was planned
        chosen |= dict(best.kernels)
        next_made = plan.make(graph, core, "speed", chosen, chains)
        if next_made.size >= made.size:
            return None
        made = next_made
    return check_plan.check(made)


def points(graph: Graph, core: Core) -> Iterator[Point]:
    found = [point(f"--optimize {o}", plan.make(graph, core, o)) for o in OBJECTIVES]
    yield from found
    yield from streamed(graph, core)
    most, least = max(p.sram for p in found), min(p.sram for p in found)
    for i in range(1, STEPS):
        budget = most - (most - least) * i // STEPS
        made = within(graph, core, budget)
        if made is not None:
            yield point(f"SRAM at most {budget:,}", made)


def streamed(graph: Graph, core: Core) -> Iterator[Point]:
    """Plans whose input arrives row by row; none where it cannot."""
    objectives: tuple[Objective, ...] = ("speed", "sram")
    for objective in objectives:
        try:
            made = check_plan.check(plan.make(graph, core, objective, stream=True))
        except UsageError:
            return
        yield point(f"--optimize {objective} --stream-input", made)


def rows(name: str, found: list[Point]) -> Iterator[str]:
    """Lines of the table; choices that came to the same plan share one."""
    same: dict[tuple[int, ...], list[Point]] = {}
    for p in sorted(found, key=lambda p: (p.sram, p.cycles)):
        same.setdefault((p.sram, p.bound, p.cycles, p.flash), []).append(p)
    for key, group in same.items():
        sram, cycles = key[0], key[2]
        beaten = any(
            (q.sram, q.cycles) != (sram, cycles) and q.sram <= sram and q.cycles <= cycles
            for q in found
        )
        choices = ", ".join(p.choice for p in group)
        cells = " | ".join(f"{figure:,}" for figure in key)
        yield f"| {name} | {choices} | {cells} | {'' if beaten else 'yes'} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="generic-m4")
    target = parser.parse_args().target
    if not (data_folder() / "models").is_dir():
        raise SystemExit("reference data not found; set THUMBNET_DATA")
    lines = [HEAD]
    for task in TASKS:
        lines += rows(task.name, list(points(quantized(task), load(target).core)))
    print("\n".join(lines))
    title = f"# Cycles against SRAM, {target}\n\nWritten by `python -m benchmarks.pareto`.\n"
    (RESULTS / f"pareto-{target}.md").write_text("\n".join((title, *lines, "")))


if __name__ == "__main__":
    main()
