"""A board as an object on a desk: how a host recognises it, writes its flash and wires its console."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, cast

from targets import tables
from targets.errors import UsageError
from targets.tables import Table

PROBES = Path(__file__).parent / "probes.toml"
# Every way to write flash; targets/flashers/ has one entry for each.
METHODS = (
    *("uf2", "daplink", "pyocd", "openocd", "st-flash", "stm32programmer", "jlink", "bossac"),
    *("teensy", "picotool"),
)
Role = Literal["serial", "bootloader"]

# It becomes an argument of a program: no option, no way out of a folder.
_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.=-]*(/[A-Za-z0-9_][A-Za-z0-9_.=-]*)*"
_KEYS: Mapping[str, type] = {"flashers": dict, "link": str}
_OPTIONAL: Mapping[str, type] = {
    "probe": str,
    "board_ids": list,
    "usb": list,
    "uf2_family": int,
    "bootloader": str,
    "wiring": str,
}
_SOURCE_KEYS: Mapping[str, type] = {
    "repository": str,
    "commit": str,
    "path": str,
    "facts": list,
}


@dataclass(frozen=True, slots=True)
class UsbId:
    """A USB device as it shows itself to a host."""

    vid: int
    pid: int
    role: Role | Literal["probe"] = "probe"

    def __str__(self) -> str:
        """As in "0483:374b"."""
        return f"{self.vid:04x}:{self.pid:04x}"


@dataclass(frozen=True, slots=True)
class Probe:
    """A debug probe that sits on boards."""

    name: str
    description: str
    usb: tuple[UsbId, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where facts of a board come from: a file of a public repository at one commit."""

    repository: str
    commit: str
    path: str
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hardware:
    """A board on a desk; the empty one belongs to targets that nobody can buy.

    Attributes:
        flashers: methods in order of preference, each with what its tool calls the part.
        link: the board's page.
        probe: its debug probe, by name; empty: none on board.
        board_ids: first characters of the serial number of its probe (Mbed's registry).
        usb: devices that the board itself shows, beside its probe.
        uf2_family: in UF2 files that its boot loader takes; None: it takes none.
        bootloader: what a person does to reach the boot loader.
        wiring: how to reach the console; empty: it comes over the USB cable.
    """

    flashers: Mapping[str, str] = field(default_factory=dict)
    link: str = ""
    probe: str = ""
    board_ids: tuple[str, ...] = ()
    usb: tuple[UsbId, ...] = ()
    uf2_family: int | None = None
    bootloader: str = ""
    wiring: str = ""

    @property
    def usb_ids(self) -> tuple[UsbId, ...]:
        """All devices that may mean this board: its probe's and its own."""
        return (*(probes()[self.probe].usb if self.probe else ()), *self.usb)


@cache
def probes() -> Mapping[str, Probe]:
    """All debug probes by name."""
    found = {}
    for name, table in tables.read(PROBES).items():
        row = tables.check(PROBES, f"{name}.", table, {"description": str, "usb": list})
        ids = tuple(UsbId(vid, pid) for vid, pid in _pairs(PROBES, f"{name}.usb", row["usb"]))
        found[name] = Probe(name, str(row["description"]), ids)
    return found


def hardware(path: Path, table: object) -> Hardware:
    """The [hardware] table of a board."""
    row = tables.check(path, "hardware.", table, _KEYS, _OPTIONAL)
    probe = str(row.get("probe", ""))
    if probe and probe not in probes():
        hint = tables.closest(probe, tuple(probes()))
        raise UsageError(f"{path}: unknown 'hardware.probe' '{probe}'", hint=hint)
    for key in ("link", "bootloader", "wiring"):
        if not str(row.get(key, "")).isprintable():  # they reach terminals
            raise UsageError(f"{path}: 'hardware.{key}' holds characters that do not print")
    uf2_family = cast("int | None", row.get("uf2_family"))
    if uf2_family is not None and not 0 <= uf2_family < 1 << 32:
        raise UsageError(f"{path}: 'hardware.uf2_family' must be a word")
    return Hardware(
        flashers=_flashers(path, cast(Table, row["flashers"])),
        link=str(row["link"]),
        probe=probe,
        board_ids=_texts(path, "hardware.board_ids", row.get("board_ids", [])),
        usb=tuple(_usb(path, row)),
        uf2_family=uf2_family,
        bootloader=str(row.get("bootloader", "")),
        wiring=str(row.get("wiring", "")),
    )


def sources(path: Path, table: Table) -> tuple[Source, ...]:
    """The [[sources]] of a board."""
    return tuple(
        Source(
            str(row["repository"]),
            str(row["commit"]),
            str(row["path"]),
            _texts(path, f"sources[{i}].facts", row["facts"]),
        )
        for i, row in enumerate(tables.rows(path, "sources", table, _SOURCE_KEYS))
    )


def _flashers(path: Path, table: Table) -> Mapping[str, str]:
    for method, name in table.items():
        if method not in METHODS:
            hint = tables.closest(method, METHODS)
            raise UsageError(f"{path}: unknown key 'hardware.flashers.{method}'", hint=hint)
        if not isinstance(name, str):
            raise UsageError(f"{path}: 'hardware.flashers.{method}' must be a string")
        if not all(re.fullmatch(_WORD, word) for word in name.split(" ") if name):
            raise UsageError(
                f"{path}: 'hardware.flashers.{method}' may hold names and relative paths only"
            )
    return cast("Mapping[str, str]", table)


def _usb(path: Path, row: Table) -> Iterator[UsbId]:
    keys = {"vid": int, "pid": int, "role": str}
    for i, each in enumerate(tables.rows(path, "usb", row, keys)):
        role = str(each["role"])
        if role not in ("serial", "bootloader"):
            raise UsageError(f'{path}: \'usb[{i}].role\' must be "serial" or "bootloader"')
        pair = [each["vid"], each["pid"]]
        ((vid, pid),) = _pairs(path, f"hardware.usb[{i}]", [pair])
        yield UsbId(vid, pid, cast(Role, role))


def _pairs(path: Path, where: str, value: object) -> Iterator[tuple[int, int]]:
    for pair in cast(list[object], value):
        words = isinstance(pair, list) and len(pair) == 2 and all(map(_is_half, pair))
        if not words:
            raise UsageError(f"{path}: '{where}' must be pairs like [0x0483, 0x374B]")
        vid, pid = cast(list[int], pair)
        yield vid, pid


def _is_half(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 16


def _texts(path: Path, where: str, value: object) -> tuple[str, ...]:
    texts = cast(list[object], value)
    if not all(isinstance(text, str) and text.isprintable() for text in texts):
        raise UsageError(f"{path}: '{where}' must be a list of strings that print")
    return tuple(cast(list[str], texts))
