"""Exceptions happen in the order and on the stacks that the architecture says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from emulator.fault import Fault
from emulator.firmware import Firmware
from emulator.interrupts import Interrupts, Masks
from targets import load
from tests.emulator.whole import build, results

BOARDS = ("nucleo-g0b1re", "mps2-an385", "nucleo-l4r5zi", "disco-f746ng", "nucleo-u575zi-q")
NESTED = [0x10, 0x11, 0x33, 0x12, 0x30, 0x13]  # interrupt 3 is exception 0x13


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("board", BOARDS)
def test_order_and_stacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, board: str, native: bool
) -> None:
    monkeypatch.setenv("THUMBNET_NO_NATIVE", "0" if native else "1")
    image = build(board, "exceptions", tmp_path)
    with Firmware(load(board), image) as firmware:
        assert firmware.run(max_cycles=100_000) == "idle"
        found = results(firmware, image)
    v8 = board == "nucleo-u575zi-q"
    main, process = (0xFFFF_FFB8, 0xFFFF_FFBC) if v8 else (0xFFFF_FFF9, 0xFFFF_FFFD)
    assert found[:9] == [main, 0, 25, main, 0x100, 36, process, 0, 47]
    assert found[9:15] == NESTED
    assert found[15:] == [0x40, 0x33, 0x41, 0x42, 0x33, 0x43]


@pytest.mark.parametrize("board", ["mps2-an385", "mps2-an386", "mps2-an500", "mps2-an505"])
def test_same_as_in_qemu(tmp_path: Path, board: str) -> None:
    """The same image in QEMU, whose machines are secure where there is a choice."""
    if not shutil.which("qemu-system-arm"):
        pytest.skip("qemu-system-arm is not installed")
    image = build(board, "exceptions", tmp_path, REPORT=1)
    with Firmware(load(board), image) as firmware:
        assert firmware.run() == "exit"
        ours = [int(line, 16) for line in firmware.text.split()]
    semihosting = ("-semihosting-config", "enable=on,target=native")
    done = subprocess.run(
        ("qemu-system-arm", "-M", board, "-nographic", *semihosting, "-kernel", image),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    theirs = [int(line, 16) for line in (done.stdout + done.stderr).split()]
    secure = 0x41 if board == "mps2-an505" else 0
    assert [x | secure if x >> 24 == 0xFF else x for x in ours] == theirs


@pytest.mark.parametrize("board", ["nucleo-l4r5zi", "disco-f746ng", "nucleo-u575zi-q"])
def test_floating_point_registers_are_stacked(tmp_path: Path, board: str) -> None:
    image = build(board, "floats", tmp_path, ENABLE_FLOATS=1)
    with Firmware(load(board), image) as firmware:
        assert firmware.run(max_cycles=100_000) == "idle"
        exc_return, kept = results(firmware, image)
    assert exc_return & 0x1F == 0b01000 | (0 if board == "nucleo-u575zi-q" else 1)
    assert kept == 0x3F80_0000


def test_floats_before_cpacr_are_a_fault(tmp_path: Path) -> None:
    image = build("nucleo-l4r5zi", "floats", tmp_path, ENABLE_FLOATS=0)
    with (
        Firmware(load("nucleo-l4r5zi"), image) as firmware,
        pytest.raises(Fault, match="floating-point instruction before CPACR allows it"),
    ):
        firmware.run(max_cycles=100_000)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (0, "write to unmapped memory at 0x3fff0000, in image_main"),
        (1, "breakpoint, in image_main"),
        (2, "undefined instruction, in image_main"),
        (3, "memory"),
        (4, "supervisor call where its priority does not allow it, in IRQ2_Handler"),
        (5, "undefined instruction, in image_main"),  # right behind a wait, which is none
    ],
)
@pytest.mark.parametrize("board", ["nucleo-g0b1re", "nucleo-l4r5zi"])
def test_what_hardware_answers_with_a_fault_is_one(
    tmp_path: Path, board: str, mistake: int, message: str
) -> None:
    image = build(board, "wrong", tmp_path, MISTAKE=mistake)
    with Firmware(load(board), image) as firmware:
        if mistake == 5:
            assert firmware.run(max_cycles=100_000) == "idle"  # waits; then it goes on
        with pytest.raises(Fault, match=message):
            firmware.run(max_cycles=100_000)


def test_urgency_decides_then_the_number() -> None:
    interrupts = Interrupts(priority_bits=4)
    interrupts.enabled |= {16, 17, 18}
    interrupts.pending |= {17, 18}
    assert interrupts.next(Masks()) == 17
    interrupts.set_priority(17, 0x4F)
    assert interrupts.priority(17) == 0x40  # four bits exist
    assert interrupts.next(Masks()) == 18
    interrupts.active.append(18)
    interrupts.pending.discard(18)
    assert interrupts.next(Masks()) is None  # 18 is more urgent
    interrupts.pending.add(16)
    assert interrupts.next(Masks()) is None  # equal does not preempt


def test_masks_hold_back_but_wake() -> None:
    interrupts = Interrupts(priority_bits=4)
    interrupts.enabled.add(16)
    interrupts.pending.add(16)
    interrupts.set_priority(16, 0x80)
    assert interrupts.next(Masks(primask=1)) is None
    assert interrupts.held_back(Masks(primask=1))
    assert interrupts.wakes(Masks(primask=1))
    assert interrupts.next(Masks(basepri=0x90)) == 16
    assert interrupts.next(Masks(basepri=0x80)) is None
    assert not interrupts.wakes(Masks(basepri=0x80))
    assert interrupts.next(Masks(faultmask=1)) is None


def test_priority_groups() -> None:
    interrupts = Interrupts(priority_bits=4)
    interrupts.enabled |= {16, 17}
    interrupts.set_priority(16, 0x50)
    interrupts.set_priority(17, 0x40)
    interrupts.active.append(16)
    interrupts.pending.add(17)
    assert interrupts.next(Masks()) == 17
    interrupts.group_bits = 5  # bits 7 and 6 decide about preemption: equal
    assert interrupts.next(Masks()) is None


def test_a_disabled_interrupt_stays_pending() -> None:
    interrupts = Interrupts(priority_bits=2)
    up = [True]
    interrupts.connect(3, lambda: up[0])
    interrupts.sample()
    up[0] = False
    assert interrupts.next(Masks()) is None
    interrupts.enabled.add(19)
    assert interrupts.next(Masks()) == 19
