"""Placement of random networks: legal, proved optimal, quick, the same every time, as OR-tools says."""

from __future__ import annotations

import statistics
from itertools import combinations
from random import Random

import pytest

from benchmarks.planning import timed
from benchmarks.random_networks import LEAST, MOST, network
from codegen.arena import Buffer, Placement, Problem, place
from codegen.arena_bound import step_bound
from codegen.arena_search import Bench, Search
from codegen.memory import lay_out

SEEDS = range(0, 200, 5)
OVERLAPS = pytest.mark.parametrize("overlaps", [False, True], ids=["disjoint", "overlaps"])


def assert_legal(problem: Problem, placed: Placement) -> None:
    bases = placed.bases
    assert all(base >= 0 and base % problem.alignment == 0 for base in bases.values())
    assert placed.size == max(bases[b.name] + b.size for b in problem.buffers)
    for a, b in combinations(problem.buffers, 2):
        together = a.first <= b.last and b.first <= a.last
        low, high = bases[a.name], bases[b.name]
        if together and low < high + b.size and high < low + a.size:
            assert _allowed(problem, bases, a.name, b.name), (a, b)


def _allowed(problem: Problem, bases: object, a: str, b: str) -> bool:
    assert isinstance(bases, dict)
    for overlap in problem.overlaps:
        if {overlap.dying, overlap.born} == {a, b}:
            shift = bases[overlap.dying] - bases[overlap.born]
            up, down = overlap.ascending, overlap.descending
            return (up is not None and shift >= up) or (down is not None and -shift >= down)
    return False


@OVERLAPS
def test_random_networks_are_proved_optimal(overlaps: bool) -> None:
    times = []
    for seed in SEEDS:
        problem = network(seed, overlaps)
        assert LEAST <= len(problem.buffers) <= MOST
        placed, seconds = timed(problem)
        assert_legal(problem, placed)
        assert placed.size == placed.bound, seed
        times.append(seconds)
    assert statistics.median(times) < 0.2  # 3 ms on an idle machine
    assert max(times) < 2


@OVERLAPS
def test_the_same_problem_is_placed_the_same_way(overlaps: bool) -> None:
    for seed in (7, 174):
        assert place(network(seed, overlaps)) == place(network(seed, overlaps))


@OVERLAPS
def test_or_tools_finds_no_smaller_arena(overlaps: bool) -> None:
    pytest.importorskip("ortools")
    from benchmarks.cp_sat import solve

    for seed in (1, 108, 139, 174, 198):
        problem = network(seed, overlaps)
        assert place(problem).size == solve(problem).size


def test_dense_rectangles_are_placed_within_the_limit_of_work() -> None:
    random = Random(5)
    buffers = []
    for i in range(150):
        first = random.randrange(150)
        last = min(149, first + random.randrange(1, 40))
        buffers.append(Buffer(f"b{i}", random.randrange(1, 1000) * 4, first, last))
    problem = Problem(tuple(buffers))
    placed, seconds = timed(problem)
    assert_legal(problem, placed)
    assert placed.bound <= placed.size <= 1.2 * placed.bound
    assert seconds < 20


def test_an_exhausted_search_is_a_proof() -> None:
    """Where exhaustive placement exists only from 12 bytes up, 8 is exhausted and 12 is found."""
    problem = Problem((Buffer("a", 8, 0, 1), Buffer("b", 4, 1, 2), Buffer("c", 8, 2, 3)))
    bench = Bench(problem)
    assert Search(bench, 8, range(3), 1000).run() == "exhausted"
    assert Search(bench, 12, range(3), 1000).run() == "found"
    assert Search(bench, 12, range(3), 1).run() == "limit"
    assert step_bound(problem) == place(problem).size == 12


def test_scratch_is_placed_with_the_tensors() -> None:
    """Tensors alone need 12; scratch fits beside them only if the middle one does not lie at 0."""
    problem = Problem((Buffer("a", 8, 0, 1), Buffer("b", 4, 1, 2), Buffer("c", 8, 2, 3)))
    memory = lay_out(problem, {0: 4, 1: 4, 3: 4})
    assert (memory.arena, memory.bound) == (12, 12)
    assert memory.size == memory.size_bound == 16
    assert memory.scratch.keys() == {0, 1, 3}


def test_scratch_may_be_called_like_a_tensor() -> None:
    memory = lay_out(Problem((Buffer("scratch0", 8, 0, 0),)), {0: 4})
    assert memory.size == 12
    assert memory.bases.keys() == {"scratch0"}
