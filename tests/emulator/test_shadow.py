"""Tags on the arena of the hand-written model: x at 0, sums at 32, y at 16."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emulator.cortex_m import CortexM
from emulator.fault import Fault
from emulator.model import EmulatedInference, EmulatedModel
from emulator.shadow import MAX_AREAS, Area, ArenaMap, StepAreas
from targets import load
from targets.errors import ThumbnetError
from tests.emulator.fake_model import IMAGE, Build, expected

X = bytes(range(10, 18))
AREAS = (Area("x", 0, 8), Area("sums", 32, 16), Area("y", 16, 4), Area("ring", 40, 8))
STEPS = (StepAreas((0,), (1,), 1), StepAreas((1,), (2,), 2))
MAP = ArenaMap(AREAS, STEPS, inputs=(0,), outputs=(2,))


def run(build: Build, arena: ArenaMap, count: bool = True) -> EmulatedInference:
    machine = CortexM(load("generic-m4"), build("generic-m4"), count=count, watch=True)
    with EmulatedModel(machine, IMAGE, arena=arena) as model:
        model.infer((X,))
        return model.infer((X,))


def fault(build: Build, arena: ArenaMap) -> Fault:
    with pytest.raises(Fault) as caught:
        run(build, arena)
    return caught.value


@pytest.mark.parametrize("count", [True, False])
def test_a_map_that_is_true_changes_nothing(build: Build, count: bool) -> None:
    found = run(build, MAP, count)
    assert found.outputs == (expected(X),)
    assert len(found.steps) == (2 if count else 0)


def test_a_read_beside_the_tensor_is_named(build: Build) -> None:
    """The step is said to read half of x: the other half is none of its tensors."""
    half = replace(MAP, areas=(Area("x", 0, 4), *AREAS[1:]))
    found = fault(build, half)
    assert "read of what is none of the step's tensors: it holds nothing" in found.message
    assert found.report.step == 0
    assert found.report.symbol and found.report.address is not None
    assert "app_arena + 4" in found.message


def test_a_byte_of_another_tensor_is_named(build: Build) -> None:
    """The input is said to be another tensor, which never came to lie there."""
    other = replace(MAP, areas=(*AREAS, Area("z", 32, 16)))
    steps = (STEPS[0], StepAreas((4,), (2,), 2))
    found = fault(build, replace(other, steps=steps))
    assert "the step's input lost byte 0 of z: it holds byte 0 of sums" in found.message
    assert found.report.step == 1


def test_a_write_beside_the_output_is_named(build: Build) -> None:
    """The output is said to lie on the input: what the step writes lies elsewhere."""
    wrong = replace(MAP, areas=(AREAS[0], Area("sums", 48, 16), *AREAS[2:]))
    found = fault(build, wrong)
    assert "write outside of the step's output and scratch: it holds nothing" in found.message
    assert found.report.step == 0


def test_an_output_that_is_not_whole_is_named(build: Build) -> None:
    long = replace(MAP, areas=(*AREAS[:2], Area("y", 16, 5), AREAS[3]))
    found = fault(build, long)
    assert "the step left byte 4 of y unwritten: it holds nothing" in found.message


def test_an_output_that_is_lost_is_named(build: Build) -> None:
    """What the host puts where the output comes to lie is said to be an output too."""
    areas = (*AREAS, Area("first", 16, 4))
    kept = ArenaMap(areas, STEPS, inputs=(0, 4), outputs=(2, 4))
    found = fault(build, kept)
    assert "the output lost byte 0 of first: it holds byte 0 of y" in found.message


def test_scratch_on_the_output_is_named(build: Build) -> None:
    areas = (*AREAS, Area("scratch", 44, 8))
    clash = replace(MAP, areas=areas, steps=(StepAreas((0,), (1, 4), 1), STEPS[1]))
    found = fault(build, clash)
    assert "the step writes sums and scratch to the same bytes" in found.message
    assert "app_arena + 44" in found.message


def test_rings_may_be_read_where_they_were_written(build: Build) -> None:
    """Both steps as one, as fused layers run: sums is a ring, written and read within a step."""
    ring = (StepAreas((0,), (1,), 1), StepAreas((), (2, 1), 2))
    assert run(build, replace(MAP, steps=ring)).outputs == (expected(X),)
    other = replace(MAP, areas=(*AREAS, Area("ring", 32, 16)))
    stale = (STEPS[0], StepAreas((), (2, 4), 2))
    found = fault(build, replace(other, steps=stale))
    assert "read of byte 0 of ring: it holds byte 0 of sums" in found.message


def test_too_many_tensors_of_a_step_are_refused(build: Build) -> None:
    many = StepAreas((0,) * (MAX_AREAS + 1), (1,), 1)
    with pytest.raises(ThumbnetError, match="more than 64"):
        run(build, replace(MAP, steps=(many, STEPS[1])))
