"""Plans with a tensor in the wrong place: every byte destroyed before its use is found, by two judges.

The judges share nothing: check_plan replays events derived from operators; the emulator tags every byte
of the arena and watches the real loads and stores. What neither may miss is a byte of a step's output that
differs from the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.models import TASKS, Task
from benchmarks.planning import quantized
from codegen import check_plan, emit, plan, reference
from codegen.arrange import Slot
from codegen.check_plan import PlanError
from codegen.ir import Graph
from emulator.cortex_m import CortexM
from emulator.fault import Fault
from emulator.model import EmulatedModel
from emulator.shadow import ArenaMap
from targets import toolchain
from targets.machine import ModelImage
from targets.target import load
from tests.codegen import random_graphs
from thumbnet import description, memory_map, project


@dataclass(frozen=True)
class Verdict:
    """What was found wrong with a plan: by the replay, by the tags, in the outputs of steps."""

    replay: bool
    tags: str
    bytes: bool


def moved(made: plan.Plan, name: str, distance: int) -> plan.Plan | None:
    """The plan with a tensor or scratch elsewhere; None when that is outside of the arena."""
    places = {*made.slots.values(), *(s.scratch for s in made.steps if s.scratch)}
    old = next(slot for slot in places if slot.name == name)
    new = replace(old, offset=old.offset + distance)
    if new.offset < 0:
        return None

    def swap(slot: Slot) -> Slot:
        return new if slot == old else slot

    steps = tuple(
        replace(
            step,
            inputs=tuple(swap(slot) for slot in step.inputs),
            output=swap(step.output),
            scratch=swap(step.scratch) if step.scratch else None,
        )
        for step in made.steps
    )
    slots = {key: swap(slot) for key, slot in made.slots.items()}
    size = max(made.size, -(-new.end // 4) * 4)
    return replace(made, slots=slots, steps=steps, size=size)


def mutants(made: plan.Plan) -> Iterator[plan.Plan]:
    """Every tensor a step of the alignment, and half its size, lower and higher."""
    for slot in dict.fromkeys(made.slots.values()):
        half = max(8, slot.size // 8 * 4)
        for distance in (-half, -4, 4, half):
            found = moved(made, slot.name, distance)
            if found is not None:
                yield found


def firmware(made: plan.Plan, target: str, folder: Path) -> tuple[Path, ModelImage, ArenaMap]:
    board = load(target)
    written = emit.emit(made, board, "0" * 64)
    folder.mkdir()
    for name, text in written.files.items():
        (folder / name).write_text(text)
    sources = ("startup.c", "main.c", *written.sources)
    elf = folder / "image.elf"
    toolchain.build_firmware(toolchain.find(), board, folder, sources, "link.ld", elf)
    manifest = description.describe(made, made.graph, board, "0" * 64, {})
    return elf, project.image(manifest), memory_map.arena_map(manifest)


def judge(
    made: plan.Plan, target: str, folder: Path, x: np.ndarray[tuple[int, ...], np.dtype[np.int8]]
) -> Verdict:
    try:
        check_plan.check(made)
        replay = False
    except PlanError:
        replay = True
    elf, image, arena = firmware(made, target, folder)
    sample = (x.tobytes(),)
    try:
        with EmulatedModel(CortexM(load(target), elf, watch=True), image, arena=arena) as model:
            model.infer(sample)
        tags = ""
    except Fault as fault:
        tags = fault.message
    values: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int8]]] = {}
    reference.run(made.graph, (x,), values.__setitem__)
    with EmulatedModel(CortexM(load(target), elf), image) as model:
        arenas = list(model.trace(sample))
    wrong = any(
        arena_after[s.output.offset : s.output.end] != values[s.layer.output.name].tobytes()
        for s, arena_after in zip(made.steps, arenas, strict=True)
    )
    return Verdict(replay, tags, wrong)


def verdicts(graph: Graph, target: str, folder: Path, every: int) -> list[Verdict]:
    made = check_plan.check(plan.make(graph, load(target).core))
    generator = np.random.default_rng(0)
    x = generator.integers(-128, 128, graph.tensors[graph.inputs[0].tensor].shape).astype(np.int8)
    sound = judge(made, target, folder / "sound", x)
    assert sound == Verdict(False, "", False)
    chosen = list(mutants(made))[::every]
    return [judge(m, target, folder / f"m{i}", x) for i, m in enumerate(chosen)]


def assert_all_caught(found: list[Verdict]) -> None:
    for verdict in found:
        assert not verdict.bytes or (verdict.replay and verdict.tags), verdict
        assert bool(verdict.tags) <= verdict.replay, verdict


@pytest.mark.parametrize("target", ["generic-m4", "generic-m0plus"])
def test_every_destroyed_byte_is_found(target: str, tmp_path: Path) -> None:
    found = verdicts(random_graphs.graph(3), target, tmp_path, every=5)
    assert_all_caught(found)
    assert sum(v.bytes for v in found) >= 2
    assert any("holds" in v.tags for v in found)


@pytest.mark.sweep
@pytest.mark.parametrize("target", ["generic-m4", "generic-m0plus"])
@pytest.mark.parametrize("seed", range(6))
def test_every_destroyed_byte_of_random_networks_is_found(
    seed: int, target: str, tmp_path: Path
) -> None:
    found = verdicts(random_graphs.graph(seed), target, tmp_path, every=1)
    assert_all_caught(found)
    assert any(v.bytes for v in found)


@pytest.mark.sweep
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_destroyed_byte_of_the_reference_models_is_found(
    task: Task, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUMBNET_DATA", str(data_dir))
    found = verdicts(quantized(task), "generic-m4", tmp_path, every=7)
    assert_all_caught(found)
    assert any(v.bytes for v in found)
