"""Watching loads changes nothing, least of all behind an IT block."""

from __future__ import annotations

from pathlib import Path

import pytest
import unicorn
from unicorn import UC_ARCH_ARM, UC_HOOK_MEM_READ, UC_MODE_THUMB, Uc, arm_const

from emulator.firmware import Firmware
from emulator.reads import watch_reads
from targets import load
from tests.emulator.whole import build, results

# movs r1, #0; cmp r1, #1; ittt ne; ldrbne r3, [r0], #1; addne r1, #1; addne r4, #1; nop
CODE = bytes.fromhex("0021 0129 1ebf 10f8013b 0131 0134 00bf")
IT_BITS = 0x0600_FC00


def status_after(watch: bool | None) -> tuple[int, list[tuple[int, int]]]:
    """CPSR after the code, with a watch, a plain hook or neither; and what the watch saw."""
    uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB)
    uc.ctl_set_cpu_model(arm_const.UC_CPU_ARM_CORTEX_M4)
    uc.mem_map(0x1000, 0x2000)
    uc.mem_write(0x1000, CODE)
    uc.reg_write(arm_const.UC_ARM_REG_R0, 0x2000)
    seen: list[tuple[int, int]] = []
    if watch:
        watch_reads(uc, 0x2000, 0x3000, lambda address, size: seen.append((address, size)))
    elif watch is not None:
        uc.hook_add(UC_HOOK_MEM_READ, lambda *event: None)
    uc.emu_start(0x1001, 0x1000 + len(CODE))
    assert uc.reg_read(arm_const.UC_ARM_REG_R4) == 1
    return uc.reg_read(arm_const.UC_ARM_REG_CPSR), seen


def test_a_load_in_an_it_block() -> None:
    plain, _ = status_after(None)
    assert not plain & IT_BITS
    assert status_after(True) == (plain, [(0x2000, 1)])


@pytest.mark.skipif(unicorn.__version__ != "2.1.4", reason="seen in Unicorn 2.1.4")
def test_without_help_the_it_block_does_not_end() -> None:
    assert status_after(False)[0] & IT_BITS


@pytest.mark.parametrize("board", ["nucleo-l4r5zi", "nucleo-g0b1re"])
def test_a_firmware_runs_the_same(tmp_path: Path, board: str) -> None:
    image = build(board, "exceptions", tmp_path)
    flash = load(board).flash
    reads: list[int] = []
    runs = []
    for watch in (False, True):
        with Firmware(load(board), image) as firmware:
            if watch:
                firmware.watch_reads(flash.base, flash.end, lambda at, size: reads.append(at))
            assert firmware.run() == "idle"
            runs.append((results(firmware, image), firmware.cycles))
    assert runs[0] == runs[1]
    assert reads
    assert all(flash.base <= at < flash.end for at in reads)
