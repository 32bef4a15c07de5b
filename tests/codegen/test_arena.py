"""Placement against an independent check of every pair, and the plan checker's mutants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen import check_plan, plan, problem
from codegen.arena import Buffer, Overlap, Problem, place
from codegen.arena_bound import step_bound
from codegen.check_plan import PlanError
from codegen.ops import OPS
from targets.target import load
from tests.codegen import networks


@st.composite
def problems(draw: st.DrawFn, count: int = 25, size: int = 5000) -> Problem:
    """Chains with skips, like networks: buffer i is written at step i."""
    count = draw(st.integers(1, count))
    buffers = []
    for i in range(count):
        last = min(count - 1, i + draw(st.sampled_from([1, 1, 1, 2, 4])))
        buffers.append(Buffer(f"t{i}", draw(st.integers(1, size)), i, last))
    overlaps = []
    for i in range(1, count):
        if buffers[i - 1].last == i and draw(st.booleans()):
            distance = draw(st.integers(-buffers[i].size, size // 8))
            overlaps.append(Overlap(f"t{i - 1}", f"t{i}", ascending=distance))
    return Problem(tuple(buffers), tuple(overlaps))


def legal(problem: Problem, bases: dict[str, int]) -> bool:
    related = {(o.dying, o.born): o.ascending for o in problem.overlaps}
    for a in problem.buffers:
        for b in problem.buffers:
            if a is b or a.last < b.first or b.last < a.first:
                continue
            low, high = bases[a.name], bases[b.name]
            if low + a.size <= high or high + b.size <= low:
                continue
            distance = related.get((a.name, b.name))
            reverse = related.get((b.name, a.name))
            if distance is not None and low - high >= distance:
                continue
            if reverse is not None and high - low >= reverse:
                continue
            return False
    return True


@settings(max_examples=150, deadline=None)
@given(problem=problems())
def test_placements_are_legal_and_never_below_the_bound(problem: Problem) -> None:
    found = place(problem)
    assert legal(problem, dict(found.bases))
    assert all(base % 4 == 0 and base >= 0 for base in found.bases.values())
    assert found.size == max(found.bases[b.name] + b.size for b in problem.buffers)
    assert found.size >= found.bound >= step_bound(problem)


def test_a_chain_is_placed_at_its_bound() -> None:
    sizes = [640, 128, 128, 128, 8, 128, 640]
    buffers = tuple(Buffer(f"t{i}", n, i, min(i + 1, 6)) for i, n in enumerate(sizes))
    assert place(Problem(buffers)).size == 768


def test_an_ascending_overlap_is_used() -> None:
    buffers = (Buffer("x", 1000, 0, 1), Buffer("y", 400, 1, 1))
    overlap = Overlap("x", "y", ascending=100)
    found = place(Problem(buffers, (overlap,)))
    assert found.size == found.bound == 1100
    assert found.bases["x"] - found.bases["y"] >= 100


def test_shifts_that_add_up_are_proved() -> None:
    """Each layer must lie 448 B below the one before: the sum of the shifts is the bound."""
    buffers = tuple(Buffer(f"t{i}", 8000, i, i + 1) for i in range(5))
    overlaps = tuple(Overlap(f"t{i}", f"t{i + 1}", ascending=448) for i in range(4))
    found = place(Problem(buffers, overlaps))
    assert found.size == found.bound == 8000 + 4 * 448


@settings(max_examples=60, deadline=None)
@given(problem=problems(count=5, size=40))
def test_the_bound_is_never_above_the_best_of_all_placements(problem: Problem) -> None:
    found = place(problem)
    for size in range(0, found.bound, 4):
        assert not _exists(problem, size, {})


def _exists(problem: Problem, capacity: int, bases: dict[str, int]) -> bool:
    """Exhaustive search over every aligned base."""
    rest = [b for b in problem.buffers if b.name not in bases]
    if not rest:
        return True
    for base in range(0, capacity - rest[0].size + 1, 4):
        trial = bases | {rest[0].name: base}
        placed = replace(problem, buffers=tuple(b for b in problem.buffers if b.name in trial))
        if legal(placed, trial) and _exists(problem, capacity, trial):
            return True
    return False


def test_a_long_graph_is_placed_quickly() -> None:
    buffers = tuple(Buffer(f"t{i}", 10 + i % 7, i, i + 1) for i in range(3000))
    assert place(Problem(buffers)).size <= 40


def test_a_growing_layer_may_run_backwards_over_its_input() -> None:
    """12x12x8 -> 12x12x16 with the output one input pixel above: last pixel first, or not at all."""
    graph = networks.weighted(
        OPS["conv2d"](), (1, 12, 12, 8), (16, 1, 1, 8), np.random.default_rng(0)
    )
    chosen = {"node": "conv2d.pointwise"}
    made = plan.make(graph, load("generic-m0plus").core, overrides=chosen)
    (step,) = made.steps
    x, y = replace(step.inputs[0], offset=0), replace(step.output, offset=8)
    backwards = replace(step, inputs=(x,), output=y, order="descending")
    made = replace(made, slots={"x0": x, "y": y}, steps=(backwards,))
    check_plan.check(made)
    with pytest.raises(PlanError):
        check_plan.check(replace(made, steps=(replace(backwards, order="ascending"),)))
    closer = replace(y, offset=4)
    wrong = replace(backwards, output=closer)
    with pytest.raises(PlanError):
        check_plan.check(replace(made, slots={"x0": x, "y": closer}, steps=(wrong,)))


def _overlapping_plan() -> plan.Plan:
    op = OPS["conv2d"](stride=(2, 2), pads=(0, 0, 1, 1))
    graph = networks.weighted(op, (1, 12, 12, 3), (8, 3, 3, 3), np.random.default_rng(0))
    made = plan.make(graph, load("generic-m4").core)
    x, y = made.steps[0].inputs[0], made.steps[0].output
    assert x.offset < y.end, "the test needs a plan that overlaps"
    assert y.offset < x.end, "the test needs a plan that overlaps"
    return made


def test_the_checker_accepts_the_plan_and_catches_every_closer_one() -> None:
    made = check_plan.check(_overlapping_plan())
    step = made.steps[0]
    for closer in range(4, step.inputs[0].offset + 1, 4):
        moved = replace(step.inputs[0], offset=step.inputs[0].offset - closer)
        with pytest.raises(PlanError):
            check_plan.check(_with_input(made, step, moved))


@pytest.mark.parametrize("stride", [1, 2])
def test_the_checker_catches_strips_of_rows_that_lie_closer(stride: int) -> None:
    op = OPS["conv2d"](stride=(stride, stride), pads=(1, 1, 1, 1), groups=8)
    graph = networks.weighted(op, (1, 9, 6, 8), (8, 3, 3, 1), np.random.default_rng(0))
    made = check_plan.check(plan.make(graph, load("generic-m0plus").core))
    (step,) = made.steps
    assert (step.kernel.name, step.order) == ("conv2d.depthwise_pairs", "descending")
    made = replace(made, size=made.size + 100)
    for closer in range(4, 100, 4):
        moved = replace(step.inputs[0], offset=step.inputs[0].offset + closer)
        with pytest.raises(PlanError):
            check_plan.check(_with_input(made, step, moved))


def _with_input(made: plan.Plan, step: plan.Step, moved: problem.Slot) -> plan.Plan:
    slots = {n: moved if s is step.inputs[0] else s for n, s in made.slots.items()}
    return replace(made, slots=slots, steps=(replace(step, inputs=(moved,)),))


def test_the_checker_refuses_what_leaves_the_arena() -> None:
    made = _overlapping_plan()
    with pytest.raises(PlanError, match="range"):
        check_plan.check(replace(made, size=made.size - 40))


def test_the_checker_refuses_scratch_on_its_own_tensors() -> None:
    made = _overlapping_plan()
    step = made.steps[0]
    assert step.scratch is not None
    clash = replace(step, scratch=replace(step.scratch, offset=step.output.offset))
    with pytest.raises(PlanError, match="scratch"):
        check_plan.check(replace(made, steps=(clash,)))
