"""A watched run sees every access and changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import unicorn
from unicorn import UC_ARCH_ARM, UC_HOOK_MEM_READ, UC_MODE_THUMB, Uc, arm_const

from emulator import native
from emulator.cortex_m import CortexM
from emulator.fault import Fault
from emulator.model import EmulatedModel
from emulator.monitor import Events, Monitor
from targets import load
from targets.target import Target
from targets.timing import FlashTiming
from tests.emulator.fake_model import IMAGE, Build

X = bytes(range(10, 18))
# movs r1, #0; cmp r1, #1; ittt ne; ldrbne r3, [r0], #1; addne r1, #1; addne r4, #1; nop
CODE = bytes.fromhex("0021 0129 1ebf 10f8013b 0131 0134 00bf")
IT_BITS = 0x0600_FC00
RAM = 0x2000_0000
FLASH = FlashTiming(
    wait_states=5,
    clock_limits_hz=(),
    sector=8,
    line=32,
    instruction_lines=32,
    data_lines=0,
    random_fetch=1.0,
    sequential_fetch=1.0,
    data_read=1.0,
)


def machine(build: Build, target: Target | None = None, watch: bool = True) -> CortexM:
    board = target or load("generic-m4")
    made = CortexM(board, build("generic-m4"), count=True, watch=watch)
    made.boot()
    return made


def events(made: CortexM, function: str, *arguments: int) -> Events:
    """Of all blocks of a call."""
    found = made.measure(function, *arguments).events.values()
    names = ("fetch_random", "fetch_sequential", "data", "unaligned", "divisions", "divide_cycles")
    return Events(*(sum(getattr(e, name) for e in found) for name in names))


def test_watching_changes_nothing(build: Build) -> None:
    runs = []
    for watch in (False, True):
        made = CortexM(load("generic-m4"), build("generic-m4"), count=True, watch=watch)
        with EmulatedModel(made, IMAGE) as model:
            runs.append(model.infer((X,)))
    assert runs[0] == replace(runs[1], events=runs[0].events)


def status_after(watch: bool | None, tmp_path: Path, build: Build) -> int:
    """CPSR behind an IT block with a load in it: watched, with a plain hook, or neither."""
    uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB)
    uc.ctl_set_cpu_model(arm_const.UC_CPU_ARM_CORTEX_M4)
    uc.mem_map(0x1000, 0x1000)
    uc.mem_write(0x1000, CODE)
    uc.mem_map(RAM, 0x1000)
    uc.reg_write(arm_const.UC_ARM_REG_R0, RAM)
    monitor = Monitor(uc, load("generic-m4")) if watch else None
    if watch is False:
        uc.hook_add(UC_HOOK_MEM_READ, lambda *event: None)
    uc.emu_start(0x1001, 0x1000 + len(CODE))
    assert monitor is None or monitor.violation() is None
    assert uc.reg_read(arm_const.UC_ARM_REG_R4) == 1
    return int(uc.reg_read(arm_const.UC_ARM_REG_CPSR))


def test_a_load_in_an_it_block(tmp_path: Path, build: Build) -> None:
    plain = status_after(None, tmp_path, build)
    assert not plain & IT_BITS
    assert status_after(True, tmp_path, build) == plain


@pytest.mark.skipif(unicorn.__version__ != "2.1.4", reason="seen in Unicorn 2.1.4")
def test_without_help_the_it_block_does_not_end(tmp_path: Path, build: Build) -> None:
    assert status_after(False, tmp_path, build) & IT_BITS


def test_unaligned_words_are_counted(build: Build) -> None:
    made = machine(build)
    arena = made.address("app_arena")
    made.write(arena, bytes(8))
    assert events(made, "probe_read", arena + 1).unaligned == 1
    assert events(made, "probe_read", arena).unaligned == 0


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_a_stale_read_is_a_fault(build: Build, offset: int) -> None:
    made = machine(build)
    made.write(RAM + 0x1000, bytes(4))
    assert made.call("probe_read", RAM + 0x1000) == 0
    made.poison(RAM + 0x1000 + offset, 1)
    with pytest.raises(Fault, match="never written") as caught:
        made.call("probe_read", RAM + 0x1000)
    assert caught.value.report.symbol == "probe_read"
    assert caught.value.report.instruction.startswith("ldr")


def test_what_the_firmware_writes_is_defined(build: Build) -> None:
    made = machine(build)
    made.call("probe_write", RAM + 0x1000)
    assert made.call("probe_read", RAM + 0x1000) == 1


def test_confined_firmware_has_its_stack_and_what_is_named(build: Build) -> None:
    made = machine(build)
    made.confine("app_ctx", "app_arena")
    arena = made.address("app_arena")
    made.write(arena, bytes(IMAGE.arena_size))
    made.call("probe_read", arena + IMAGE.arena_size - 4)
    with pytest.raises(Fault, match="outside the model's arena"):
        made.call("probe_read", made.address("app_status"))


def test_divisions_are_timed_by_their_quotients(build: Build) -> None:
    made = machine(build)
    short = events(made, "probe_divide", 7, 9)
    long = events(made, "probe_divide", 0x7FFF_FFFF, 1)
    assert (short.divisions, short.divide_cycles) == (1, 2)
    assert (long.divisions, long.divide_cycles) == (1, 12)
    with pytest.raises(Fault, match="division by zero"):
        made.call("probe_divide", 7, 0)


def test_flash_is_counted_by_sector(build: Build) -> None:
    board = replace(load("generic-m4"), flash_timing=FLASH)
    made = machine(build, board)
    table = board.flash.base
    assert events(made, "probe_read", table).data == 1  # and no literal: the address is an argument
    first, again = (events(made, "probe_loop", 100) for _ in range(2))
    assert first.fetch_random >= 1
    assert again.fetch_random == again.fetch_sequential == 0  # the loop is in the cache


def test_without_a_c_compiler_there_is_no_watching(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUMBNET_NO_NATIVE", "1")
    assert not native.available()
    with pytest.raises(Exception, match="access monitor cannot be compiled"):
        machine(build)
