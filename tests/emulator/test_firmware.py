"""The fake model infers on every board with either toolchain."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from emulator.cortex_m import CortexM
from emulator.fault import Fault
from emulator.model import EmulatedModel
from targets import load, names
from targets.errors import DoesNotFit, UsageError
from targets.machine import Machine
from targets.sizes import sizes
from targets.toolchain import build_firmware, find
from tests.emulator.fake_model import IMAGE, SOURCES, Build, expected, render

# zig builds a runtime library at its first link for a core, in seconds: one board per core.
ZIG_BOARDS = ("generic-m0plus", "generic-m3", "generic-m33", "generic-m4", "generic-m7", "microbit")
UNICORN_BOARDS = [name for name in names() if load(name).core.unicorn_cpu]
CASES = [(name, "gcc") for name in UNICORN_BOARDS] + [(name, "zig") for name in ZIG_BOARDS]
X = bytes(range(10, 18))


@pytest.mark.parametrize(("target", "toolchain"), CASES)
def test_infers(build: Build, target: str, toolchain: str) -> None:
    machine: Machine = EmulatedModel(CortexM(load(target), build(target, toolchain)), IMAGE)
    with machine:
        first = machine.infer((X,))
        second = machine.infer((X[::-1],))
    assert first.outputs == (expected(X),)
    assert second.outputs == (expected(X[::-1]),)
    assert first.steps == ()  # not counting
    assert first.arena_high_water == 48  # the sums lie at 32..47
    assert 0 < first.stack < 200


def test_measures_each_step_alike_in_each_inference(build: Build) -> None:
    with EmulatedModel(CortexM(load("generic-m4"), build(), count=True), IMAGE) as model:
        first, second = model.infer((X,)), model.infer((X,))
    assert first == second
    assert len(first.steps) == 2
    assert all(s.cycles > s.instructions > 10 for s in first.steps)


def test_startup_copies_data_and_clears_bss(build: Build) -> None:
    with EmulatedModel(machine := CortexM(load("generic-m4"), build()), IMAGE) as model:
        assert machine.read_word(machine.address("kws_divisor")) == 3
        assert machine.read_word(machine.address("kws_runs")) == 0
        model.infer((X,))
        assert machine.read_word(machine.address("kws_runs")) == 1


def test_wrong_input_size_is_refused(build: Build) -> None:
    with (
        EmulatedModel(CortexM(load("generic-m4"), build()), IMAGE) as model,
        pytest.raises(UsageError, match=r"\(8,\) bytes, not \(7,\)"),
    ):
        model.infer((X[:7],))


def test_a_failing_step_is_named(build: Build) -> None:
    image = type(IMAGE)("kws", 3, IMAGE.inputs, IMAGE.outputs, IMAGE.arena_size)
    machine = CortexM(load("generic-m4"), build(), count=True)
    with (
        EmulatedModel(machine, image) as model,
        pytest.raises(Fault, match="step 2: kws_run_step returned -4") as caught,
    ):
        model.infer((X,))
    assert caught.value.report.step == 2


def test_sizes_leave_out_the_board(build: Build) -> None:
    elf = build("generic-m4", "gcc")
    measured = sizes(elf)
    assert measured.constants == 4  # static const offsets
    assert measured.data == 4
    assert measured.bss == 8  # not the arena, which main.c holds
    listing = subprocess.run(
        ("arm-none-eabi-nm", "-S", elf), capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in listing.splitlines()]
    model = {r[3]: int(r[1], 16) for r in rows if len(r) == 4 and r[2] in "tT"}
    board = {"Reset_Handler", "Fault_Handler", "main", "app_idle"}
    exact = sum(size for name, size in model.items() if name not in board)
    assert exact <= measured.code < exact + 64  # alignment only


@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
def test_same_sources_same_bytes(build: Build, tmp_path: Path, toolchain: str) -> None:
    reference = build("generic-m4", toolchain)
    project = render("generic-m4", tmp_path / "elsewhere" / "deep")
    again = tmp_path / "again.elf"
    build_firmware(find(toolchain), load("generic-m4"), project, SOURCES, "link.ld", again)
    assert again.read_bytes() == reference.read_bytes()
    assert str(tmp_path).encode() not in again.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.elf", "elsewhere"]


@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
@pytest.mark.parametrize("arena", [15900, 20000])  # no room for the stack; none for itself
def test_what_does_not_fit_does_not_link(tmp_path: Path, toolchain: str, arena: int) -> None:
    if toolchain == "gcc" and not shutil.which("arm-none-eabi-gcc"):
        pytest.skip("arm-none-eabi-gcc is not installed")
    project = render("microbit", tmp_path / "project")
    header = project / "kws.h"
    header.write_text(header.read_text().replace("ARENA_SIZE 64u", f"ARENA_SIZE {arena}u"))
    output = tmp_path / "x.elf"
    with pytest.raises(DoesNotFit, match=r"RAM is too small|overflowed by"):
        build_firmware(find(toolchain), load("microbit"), project, SOURCES, "link.ld", output)
    assert not output.exists()


def test_make_builds_the_project(tmp_path: Path) -> None:
    if not shutil.which("arm-none-eabi-gcc") or not shutil.which("make"):
        pytest.skip("make or arm-none-eabi-gcc is not installed")
    project = render("netduinoplus2", tmp_path / "project")
    subprocess.run(("make", "-C", project), check=True, capture_output=True)
    with EmulatedModel(CortexM(load("netduinoplus2"), project / "kws.elf"), IMAGE) as model:
        assert model.infer((X,)).outputs == (expected(X),)
