"""Boards and cores as data; what is wrong in a file is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from targets import load, names
from targets.errors import UsageError

GOOD = """
description = "mine"
core = "cortex-m4"
clock_hz = 1_000_000

[[regions]]
name = "flash"
kind = "flash"
base = 0x0
size = 0x1000

[[regions]]
name = "ram"
kind = "ram"
base = 0x2000_0000
size = 0x1000
"""
WRONG = {
    "syntax": ("=", "", "board.toml: "),
    "unknown key": ("clock_hz", "clock", "unknown key 'clock'"),
    "missing key": ('core = "cortex-m4"', "", "missing key 'core'"),
    "type": ("1_000_000", '"fast"', "'clock_hz' must be an integer"),
    "bool is no integer": ("1_000_000", "true", "'clock_hz' must be an integer"),
    "clock": ("1_000_000", "0", "'clock_hz' must be positive"),
    "core": ("cortex-m4", "cortex-m5", "unknown core 'cortex-m5'"),
    "region key": ("base = 0x0", "start = 0x0", r"unknown key 'regions\[0\].start'"),
    "region type": ("base = 0x0", 'base = "0"', r"'regions\[0\].base' must be an integer"),
    "region name": ('name = "flash"', 'name = "a b"', r"'regions\[0\].name' must be"),
    "region kind": ('kind = "ram"', 'kind = "disk"', r"'regions\[1\].kind' must be"),
    "no RAM": ('kind = "ram"', 'kind = "flash"', 'has none of kind "ram"'),
    "alignment": ("base = 0x0", "base = 0x10", "multiple of 1024"),
    "size": ("size = 0x1000", "size = 0", "multiple of 1024"),
    "overlap": ("base = 0x2000_0000", "base = 0x800", "'flash' and 'ram' overlap"),
    "family alone": ("clock_hz", 'family = "mps2"\nclock_hz', "'family' and 'console' go together"),
    "family": (
        "clock_hz",
        'family = "mps3"\nconsole = "uart0"\nclock_hz',
        "unknown family 'mps3'",
    ),
    "family type": ("clock_hz", "family = 1\nclock_hz", "'family' must be a string"),
    "console": (
        "clock_hz",
        'family = "mps2"\nconsole = "uart9"\nclock_hz',
        "family 'mps2' has no UART 'uart9'",
    ),
    "names": ('name = "ram"', 'name = "flash"', "two of one name"),
}


@pytest.mark.parametrize("name", names())
def test_every_board_loads(name: str) -> None:
    target = load(name)
    assert target.name == name
    assert target.total_flash >= target.flash.size >= target.ram.size >= 8 * 1024
    assert target.vector_table == target.flash.base
    assert 8_000_000 <= target.clock_hz <= 1_000_000_000


def test_known_figures() -> None:
    board = load("netduinoplus2")
    assert (board.core.name, board.ram.size, board.total_ram) == ("cortex-m4", 128 << 10, 192 << 10)
    assert board.core.dsp
    assert board.core.fpu
    small = load("microbit").core
    assert not (small.thumb2 or small.long_multiply or small.hardware_divide or small.unaligned)
    assert load("generic-m3").core.long_multiply
    assert not load("generic-m3").core.dsp


def test_users_file(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(GOOD)
    assert load(path) == load(str(path))
    assert load(path).name == "board"


def test_unknown_name_suggests() -> None:
    with pytest.raises(UsageError, match="unknown target 'generic_m4'") as caught:
        load("generic_m4")
    assert caught.value.hint == "did you mean 'generic-m4'?"
    with pytest.raises(UsageError) as caught:
        load("zzz")
    assert "microbit" in caught.value.hint


def test_missing_file() -> None:
    with pytest.raises(UsageError, match=r"cannot read nowhere.toml"):
        load("nowhere.toml")


@pytest.mark.parametrize("name", WRONG)
def test_wrong_file(tmp_path: Path, name: str) -> None:
    old, new, message = WRONG[name]
    path = tmp_path / "board.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(UsageError, match=message) as caught:
        load(path)
    assert "board.toml" in caught.value.message


def test_file_name_reaches_c_comments(tmp_path: Path) -> None:
    path = tmp_path / "a *\nb.toml"
    path.write_text(GOOD)
    with pytest.raises(UsageError, match="name the file with"):
        load(path)
