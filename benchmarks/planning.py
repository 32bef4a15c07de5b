"""Placement of 200 random networks, with and without overlaps, and of the reference models.

`python -m benchmarks.planning [--count N] [--cp-sat]` prints how many are proved optimal, the gaps and the
times. With --cp-sat, OR-tools checks every optimum (install the extra `planner`).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

from benchmarks.models import TASKS, Task, data_folder
from benchmarks.random_networks import network
from codegen import plan
from codegen.arena import Placement, Problem, place
from codegen.ir import Graph
from targets.target import load
from thumbnet import compiler
from thumbnet.options import CompileOptions

COUNT = 200
HEAD = "| problems | proved | largest gap | median ms | max ms |\n|---|---:|---:|---:|---:|"
Solver = Callable[[Problem], Placement]


def timed(problem: Problem, solver: Solver = place) -> tuple[Placement, float]:
    """A placement and the seconds that it took."""
    start = time.perf_counter()
    found = solver(problem)
    return found, time.perf_counter() - start


def row(name: str, runs: list[tuple[Placement, float]]) -> str:
    """A line of the table: gaps are relative to the bound."""
    proved = sum(p.size == p.bound for p, _ in runs)
    gap = max(p.size / p.bound - 1 for p, _ in runs)
    times = [1000 * seconds for _, seconds in runs]
    figures = f"{gap:.2%} | {statistics.median(times):.1f} | {max(times):.0f}"
    return f"| {name} | {proved} of {len(runs)} | {figures} |"


def quantized(task: Task) -> Graph:
    """A reference model, ready to be planned."""
    sets = data_folder() / "datasets"
    calib = str(sets / task.calib) if task.calib else None
    options = CompileOptions(data=str(sets / task.data), calib=calib)
    return compiler.prepare(data_folder() / "models" / f"{task.name}.onnx", options).quantized


def models() -> Iterator[str]:
    """A line per reference model: the whole of planning, kernels included."""
    core = load("generic-m4").core
    for task in TASKS:
        graph = quantized(task)
        start = time.perf_counter()
        made = plan.make(graph, core)
        seconds = time.perf_counter() - start
        for what, size, bound in (
            ("arena", made.arena, made.bound),
            ("with scratch", made.size, made.size_bound),
        ):
            gap = f"{what} = {size:,}, bound = {bound:,}, gap = {size - bound:,}"
            yield f"{task.name:4} {gap} ({1000 * seconds:.0f} ms)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--cp-sat", action="store_true")
    chosen = parser.parse_args()
    print(HEAD)
    for name, overlaps in (("disjoint", False), ("with overlaps", True)):
        problems = [network(seed, overlaps) for seed in range(chosen.count)]
        runs = [timed(problem) for problem in problems]
        print(row(name, runs), flush=True)
        if chosen.cp_sat:
            from benchmarks.cp_sat import solve  # noqa: PLC0415  (optional package)

            checked = [timed(problem, solve) for problem in problems]
            print(row(f"{name}, CP-SAT", checked), flush=True)
            differ = sum(a.size != b.size for (a, _), (b, _) in zip(runs, checked, strict=True))
            print(f"sizes that differ: {differ}")
    if (data_folder() / "models").is_dir():
        print("\n".join(models()))


if __name__ == "__main__":
    main()
