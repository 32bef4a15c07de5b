"""Modelled time: SysTick, the cycle counter, sleep, and the clock itself."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from emulator.clock import NEVER
from emulator.exceptions import PENDSV, SYSTICK
from emulator.firmware import Firmware
from emulator.interrupts import Interrupts
from emulator.systick import SysTick
from targets import load
from targets.errors import UsageError
from tests.emulator.whole import build, results


def run_timing(board: str, image: Path, part: int | None = None) -> tuple[list[int], int]:
    """Results and cycles, run in one go or in parts."""
    with Firmware(load(board), image) as firmware:
        while firmware.run(max_cycles=part) == "cycles":
            assert firmware.cycles < 500_000_000
        return results(firmware, image), firmware.cycles


# Cycles of a subtraction and a jump back, by the models of M4, M7 and M33.
@pytest.mark.parametrize(
    ("board", "turn"), [("nucleo-l4r5zi", 4), ("disco-f746ng", 4), ("nucleo-u575zi-q", 2)]
)
def test_time(tmp_path: Path, board: str, turn: int) -> None:
    found, cycles = run_timing(board, build(board, "timing", tmp_path))
    loop, current, *ticks, last = found
    assert 1000 * turn - 2 <= loop <= 1000 * turn + 20
    assert 900 < current < 1000  # a few instructions after the reload of 999
    periods = [b - a for a, b in pairwise(ticks)]
    assert len(periods) == 4
    assert all(abs(period - 1000) <= 15 for period in periods)  # a block is not interrupted
    assert abs(sum(periods) - 4000) <= 15  # and nothing adds up
    assert last == 105
    assert 100_000_000 <= cycles < 100_100_000  # slept through, not run through


def test_time_is_the_same_each_time_and_with_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = build("nucleo-l4r5zi", "timing", tmp_path)
    whole = run_timing("nucleo-l4r5zi", image)
    assert run_timing("nucleo-l4r5zi", image) == whole
    assert run_timing("nucleo-l4r5zi", image, part=777) == whole
    monkeypatch.setenv("THUMBNET_NO_NATIVE", "1")
    assert run_timing("nucleo-l4r5zi", image) == whole


def test_armv6_has_no_cycle_counter(tmp_path: Path) -> None:
    board = "nucleo-g0b1re"
    image = build(board, "timing", tmp_path)
    found, _ = run_timing(board, image)
    assert found[0] == 0
    assert found[-1] == 105


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def test_systick_counts_down_and_wraps() -> None:
    time = Time()
    systick = SysTick(time)
    systick.write(4, 9)
    systick.write(8, 1234)
    assert systick.next_event == NEVER
    systick.write(0, 7)
    assert systick.next_event == 10
    seen = []
    for time.now in range(1, 21):
        seen.append(systick.read(8))
    assert seen == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0] * 2
    assert systick.poll()
    assert not systick.poll()
    assert systick.read(0) == 7 | 1 << 16
    assert systick.read(0) == 7  # reading clears COUNTFLAG
    time.now = 55
    assert systick.poll()
    assert systick.next_event == 60


def test_systick_without_interrupt_or_reload() -> None:
    time = Time()
    systick = SysTick(time)
    systick.write(4, 9)
    systick.write(0, 5)
    time.now = 10
    assert not systick.poll()
    assert systick.next_event == NEVER
    assert systick.peek(0) >> 16 == 1
    systick.write(4, 0)  # counts once more, then stops
    time.now = 25
    assert systick.read(8) == 0
    time.now = 26
    assert systick.read(8) == 0


def test_systick_on_its_slow_clock() -> None:
    time = Time()
    systick = SysTick(time)
    systick.write(4, 9)
    systick.write(0, 3)
    assert systick.next_event == 80
    time.now = 79
    assert systick.read(8) == 1
    time.now = 80
    assert systick.read(8) == 0


def test_registers_of_the_system(tmp_path: Path) -> None:
    board = "nucleo-l4r5zi"
    with Firmware(load(board), build(board, "timing", tmp_path)) as firmware:
        assert firmware.register(0xE000ED00) == 0x410FC241
        assert firmware.register(0xE000ED08) == 0x08000000
        assert firmware.register(0xE000ED90) == 0  # no MPU
        system = firmware._board.system
        interrupts: Interrupts = firmware._board.interrupts
        system.write(0xD04, 1 << 28 | 1 << 26)
        assert interrupts.pending == {PENDSV, SYSTICK}
        assert system.read(0xD04) >> 12 & 0x1FF == PENDSV
        system.write(0xD04, 1 << 27 | 1 << 25)
        assert interrupts.pending == set()
        system.write(0x104, 1 << 5)  # interrupt 37
        system.write(0x204, 1 << 5)
        assert interrupts.enabled == {16 + 37} == interrupts.pending
        assert system.read(0x184) == 1 << 5
        system.write(0x184, 1 << 5)
        system.write(0x284, 1 << 5)
        assert not interrupts.enabled | interrupts.pending
        system.write(0xD0C, 0x0000_0004)  # without the key
        assert not system.reset_requested
        system.write(0x424, 0xFF00)  # priority of interrupt 37
        assert system.read(0x424) == 0xF000


def test_a_board_needs_a_family(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no peripherals are known of 'generic-m4'"):
        Firmware(load("generic-m4"), tmp_path / "image.bin")


def test_images_that_are_none(tmp_path: Path) -> None:
    short = tmp_path / "short.bin"
    short.write_bytes(b"1234567")
    with pytest.raises(UsageError, match="too short"):
        Firmware(load("nucleo-l4r5zi"), short)
    with pytest.raises(UsageError, match="cannot read"):
        Firmware(load("nucleo-l4r5zi"), tmp_path / "absent.bin")
