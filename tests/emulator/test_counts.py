"""Counts: the C hook, the Python hook and a hook on every instruction agree."""

from __future__ import annotations

import pytest
from unicorn import UC_HOOK_CODE

from emulator import native
from emulator.blocks import BlockCount
from emulator.cortex_m import CortexM
from emulator.timing.price import pricing
from targets import load
from tests.emulator.conftest import Boot
from tests.emulator.fake_model import Build


def counted(boot: Boot, target: str, function: str, argument: int) -> tuple[BlockCount, ...]:
    return boot(target, count=True).measure(function, argument).blocks


@pytest.mark.parametrize("target", ["generic-m0plus", "generic-m4"])
@pytest.mark.parametrize(
    ("function", "argument"), [("probe_loop", 5000), ("probe_stack", 3), ("probe_many", 1)]
)
def test_native_and_python_counts_are_equal(
    boot: Boot, monkeypatch: pytest.MonkeyPatch, target: str, function: str, argument: int
) -> None:
    assert native.counter_library() is not None  # else this test compares Python with itself
    fast = counted(boot, target, function, argument)
    monkeypatch.setenv("THUMBNET_NO_NATIVE", "1")
    assert counted(boot, target, function, argument) == fast


def test_without_a_compiler_python_counts(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    native.counter_library.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    try:
        assert native.counter_library() is None
        assert sum(b.executions for b in counted(boot, "generic-m4", "probe_loop", 9)) == 10
    finally:
        native.counter_library.cache_clear()


@pytest.mark.parametrize("function", ["probe_loop", "probe_stack", "probe_many"])
def test_instructions_equal_those_hooked_one_by_one(build: Build, function: str) -> None:
    machine = CortexM(load("generic-m0plus"), build("generic-m0plus"), count=True)
    machine.boot()
    seen = [0]

    def count_one(*event: object) -> None:
        seen[0] += 1

    machine._uc.hook_add(UC_HOOK_CODE, count_one)
    run = machine.measure(function, 7)
    assert pricing("m4-simple").run(run.blocks, machine.code).instructions == seen[0]


def test_loop_costs_what_the_model_says(boot: Boot) -> None:
    machine = boot(count=True)
    total = pricing("m4-simple").run(machine.measure("probe_loop", 10).blocks, machine.code)
    assert total.instructions == 2 + 2 * 10 + 1
    assert total.cycles == total.instructions + 2 * (9 + 1)  # nine jumps back, one return
