"""Families: every file loads, what is wrong in one is named, and its rules do what they say."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from emulator.peripherals import RuledWord, Timer
from targets import family, load, names
from targets.errors import UsageError
from targets.family import Constant, Copy

GOOD = """
description = "mine"
priority_bits = 4

[[ranges]]
base = 0x4000_0000
size = 0x1000

[[aliases]]
base = 0x0
of = 0x0800_0000

[[ready]]
register = 0x4000_0000
bits = [[0, 1]]

[[copies]]
register = 0x4000_0004
from = 0
to = 2
width = 2

[[constants]]
registers = [0x4000_0008]
ones = 1

[[uarts]]
name = "uart0"
kind = "cmsdk"
base = 0x4000_0400
irq = 1

[[timers]]
name = "tim2"
base = 0x4000_0800
bits = 32
"""
WRONG = {
    "unknown key": ("[[timers]]", "[[timer]]", "unknown key 'timer'"),
    "priority": ("priority_bits = 4", "priority_bits = 9", "'priority_bits' must be 2 to 8"),
    "range": ("size = 0x1000", "size = 0x10", r"'ranges\[0\]' must be whole units"),
    "alias": ("base = 0x0\n", "base = 0x1\n", r"'aliases\[0\]' must be whole units"),
    "no pair": ("[[0, 1]]", "[[0]]", r"'ready\[0\].bits' must be pairs"),
    "no bit": ("[[0, 1]]", "[[0, 32]]", r"'ready\[0\].bits' must be pairs"),
    "no word": ("register = 0x4000_0000", "register = 2", r"'ready\[0\].register' must be"),
    "too wide": ("width = 2", "width = 31", r"'copies\[0\]' must lie within a word"),
    "constant": ("ones = 1", "ones = -1", r"'constants\[0\].ones' and"),
    "registers": ("[0x4000_0008]", '["a"]', "must be a list of integers"),
    "kind": ('"cmsdk"', '"cmsd"', r"unknown 'uarts\[0\].kind' 'cmsd'"),
    "interrupt": ("irq = 1", "irq = 480", r"'uarts\[0\]' must have interrupts"),
    "missing": ("irq = 1\n", "", r"missing key 'uarts\[0\].irq'"),
    "bits": ("bits = 32", "bits = 24", r"'timers\[0\].bits' must be 16 or 32"),
}


@pytest.mark.parametrize("name", family.names())
def test_every_family_loads(name: str) -> None:
    found = family.load(name)
    assert found.name == name
    inside = [(r.base, r.base + r.size) for r in found.ranges]
    addresses = [copy.register for copy in found.copies]
    addresses += [constant.register for constant in found.constants]
    addresses += [uart.base for uart in found.uarts]
    addresses += [timer.base for timer in found.timers]
    for address in addresses:
        assert any(base <= address < end for base, end in inside), hex(address)
    assert len({uart.name for uart in found.uarts}) == len(found.uarts)


@pytest.mark.parametrize("name", [name for name in names() if load(name).family])
def test_peripherals_and_memory_do_not_overlap(name: str) -> None:
    board = load(name)
    areas = [(r.base, r.end) for r in board.regions]
    areas += [(r.base, r.base + r.size) for r in family.load(board.family).ranges]
    aliases = family.load(board.family).aliases
    areas += [(a.base, a.base + board.flash.size) for a in aliases]
    areas.sort()
    assert all(a[1] <= b[0] for a, b in pairwise(areas))


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(tmp_path: Path, name: str) -> None:
    before, after, message = WRONG[name]
    assert before in GOOD
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(before, after, 1))
    with pytest.raises(UsageError, match=message):
        family.read(path)


def test_a_good_file_loads(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    found = family.read(path)
    assert found.copies == (Copy(0x4000_0000, 0, 1, 1), Copy(0x4000_0004, 0, 2, 2))
    assert found.uart("uart0").transmit_irq == 1
    with pytest.raises(UsageError, match="has no UART 'uart1'"):
        found.uart("uart1")


def test_unknown_family() -> None:
    with pytest.raises(UsageError, match="unknown family 'stm32l5'"):
        family.load("stm32l5")


def test_ready_follows_on_and_status_follows_switch() -> None:
    copies = (Copy(0, 0, 1, 1), Copy(0, 4, 8, 2))
    word = RuledWord(copies, (Constant(0, 1 << 31, 1 << 16),))
    assert word.read(0) == 1 << 31
    word.write(0, 0b10_0001 | 1 << 16)
    assert word.read(0) == 1 << 31 | 0b10 << 8 | 0b10_0011
    word.write(0, 0b10 | 0b11 << 8)  # writing the status changes nothing
    assert word.read(0) == 1 << 31


def test_timer() -> None:
    now = [0]
    timer = Timer(0x4000_0000, 16, lambda: now[0])
    reads: list[int] = []
    timer.on_read = reads.append
    timer.write(0x28, 9)  # one count in ten cycles
    timer.write(0x2C, 99)
    now[0] = 50
    assert timer.read(0x24) == 0  # not enabled
    timer.write(0x00, 1)
    now[0] = 50 + 10 * 42 + 9
    assert timer.read(0x24) == 42
    assert timer.read(0x10) == 0
    now[0] = 50 + 10 * 142
    assert timer.read(0x24) == 42
    assert timer.read(0x10) == 1
    timer.write(0x10, 0)
    assert timer.read(0x10) == 0
    timer.write(0x00, 0)
    now[0] += 1000
    assert timer.read(0x24) == 42
    timer.write(0x14, 1)  # UG
    assert timer.read(0x24) == 0
    timer.write(0x24, 7)
    assert timer.read(0x24) == 7
    assert reads == [0x4000_0024] * 6
