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
    "boot": ("clock_hz", 'boot = "rp2041"\nclock_hz', "unknown 'boot' 'rp2041'"),
    "names": ('name = "ram"', 'name = "flash"', "two of one name"),
}


@pytest.mark.parametrize("name", names())
def test_every_board_loads(name: str) -> None:
    target = load(name)
    assert target.name == name
    assert target.total_flash >= target.flash.size >= target.ram.size >= 8 * 1024
    assert target.vector_table == target.flash.base + target.vector_offset
    assert target.vector_table % 0x100 == 0  # where VTOR can point
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


DESK = """
[hardware]
link = "https://example.org/board"
probe = "stlink"
board_ids = ["0720"]
uf2_family = 0xE48B_FF56
usb = [{ vid = 0x2E8A, pid = 0x0003, role = "bootloader" }]

[hardware.flashers]
uf2 = "RPI-RP2"
pyocd = "rp2040"

[[sources]]
repository = "owner/name"
commit = "0123"
path = "a/file.svd"
facts = ["regions"]
"""
WRONG_DESK = {
    "probe": ('"stlink"', '"stlnk"', "unknown 'hardware.probe' 'stlnk'"),
    "board ids": ('["0720"]', "[720]", "'hardware.board_ids' must be a list of strings"),
    "uf2": ("0xE48B_FF56", "0x1_0000_0000", "'hardware.uf2_family' must be a word"),
    "usb key": ("vid =", "vendor =", r"unknown key 'usb\[0\].vendor'"),
    "usb id": ("0x2E8A", "0x1_0000", r"'hardware.usb\[0\]' must be pairs"),
    "usb role": ('"bootloader"', '"probe"', r"'usb\[0\].role' must be"),
    "flasher": ("pyocd =", "pyodc =", "unknown key 'hardware.flashers.pyodc'"),
    "flasher type": ('"rp2040"', "2040", "'hardware.flashers.pyocd' must be a string"),
    "flasher option": ('"rp2040"', '"-x"', "names and relative paths only"),
    "flasher path": ('"rp2040"', '"a ../b.cfg"', "names and relative paths only"),
    "flasher root": ('"rp2040"', '"/b.cfg"', "names and relative paths only"),
    "flasher code": ('"rp2040"', '"a;b"', "names and relative paths only"),
    "link": ("/board", "/\\u001b[2J", "'hardware.link' holds characters"),
    "source": ('commit = "0123"', "", r"missing key 'sources\[0\].commit'"),
    "facts": ('["regions"]', "[1]", r"'sources\[0\].facts' must be a list of strings"),
}


def test_hardware(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(GOOD + DESK)
    board = load(path)
    assert list(board.hardware.flashers) == ["uf2", "pyocd"]  # in the order of the file
    assert [str(known) for known in board.hardware.usb_ids][-1] == "2e8a:0003"
    assert "0483:374b" in {str(known) for known in board.hardware.usb_ids}
    assert board.sources[0].facts == ("regions",)


@pytest.mark.parametrize("name", WRONG_DESK)
def test_wrong_hardware(tmp_path: Path, name: str) -> None:
    old, new, message = WRONG_DESK[name]
    path = tmp_path / "board.toml"
    assert old in DESK
    path.write_text(GOOD + DESK.replace(old, new))
    with pytest.raises(UsageError, match=message):
        load(path)


def test_file_name_reaches_c_comments(tmp_path: Path) -> None:
    path = tmp_path / "a *\nb.toml"
    path.write_text(GOOD)
    with pytest.raises(UsageError, match="name the file with"):
        load(path)
