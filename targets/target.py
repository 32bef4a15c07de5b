"""Boards and cores, read from TOML. Adding a board means adding one file to boards/."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal, cast

from targets.errors import UsageError

FOLDER = Path(__file__).parent
PAGE = 1024  # what the emulator can map and every part's memory is a multiple of

Kind = Literal["flash", "ram"]
Table = Mapping[str, object]

_CORE_KEYS: Mapping[str, type] = {
    "gcc_flags": list,
    "zig_cpu": str,
    "unicorn_cpu": str,
    "thumb2": bool,
    "long_multiply": bool,
    "hardware_divide": bool,
    "dsp": bool,
    "fpu": bool,
    "unaligned": bool,
}
_BOARD_KEYS: Mapping[str, type] = {
    "description": str,
    "core": str,
    "clock_hz": int,
    "regions": list,
}
_OPTIONAL_BOARD_KEYS: Mapping[str, type] = {"qemu": str}
_REGION_KEYS: Mapping[str, type] = {"name": str, "kind": str, "base": int, "size": int}
_TYPE_NAMES = {str: "a string", int: "an integer", bool: "true or false", list: "a list"}


@dataclass(frozen=True, slots=True)
class Core:
    """A processor core: what it can do and what each tool calls it."""

    name: str
    gcc_flags: tuple[str, ...]
    zig_cpu: str
    unicorn_cpu: str  # UC_CPU_ARM_<this>; empty: Unicorn has no such core
    thumb2: bool  # 32-bit encodings: everything above Armv6-M
    long_multiply: bool  # SMULL and its kin
    hardware_divide: bool
    dsp: bool  # SMLAD and its kin
    fpu: bool
    unaligned: bool  # single loads and stores at any address


@dataclass(frozen=True, slots=True)
class Region:
    """A bank of memory."""

    name: str
    base: int
    size: int
    kind: Kind

    @property
    def end(self) -> int:
        """The first address past the bank."""
        return self.base + self.size


@dataclass(frozen=True, slots=True)
class Target:
    """A board, or a part: a core with its memory and its clock."""

    name: str
    description: str
    core: Core
    clock_hz: int
    regions: tuple[Region, ...]
    qemu: str = ""  # machine of qemu-system-arm with this core and memory; empty: none is known

    @property
    def flash(self) -> Region:
        """The bank that code runs from: the first flash."""
        return next(r for r in self.regions if r.kind == "flash")

    @property
    def ram(self) -> Region:
        """The bank that data and stack live in: the first RAM."""
        return next(r for r in self.regions if r.kind == "ram")

    @property
    def vector_table(self) -> int:
        """Where the core finds its initial stack pointer and reset vector."""
        return self.flash.base

    @property
    def total_flash(self) -> int:
        """Bytes in all flash banks."""
        return sum(r.size for r in self.regions if r.kind == "flash")

    @property
    def total_ram(self) -> int:
        """Bytes in all RAM banks."""
        return sum(r.size for r in self.regions if r.kind == "ram")


def names() -> tuple[str, ...]:
    """The boards that come with thumbnet, sorted."""
    return tuple(sorted(path.stem for path in (FOLDER / "boards").glob("*.toml")))


def load(name_or_path: str | Path) -> Target:
    """A board by name, or from a .toml file of the user's."""
    text = str(name_or_path)
    if text.endswith(".toml"):
        return _target(Path(text))
    if text not in names():
        raise UsageError(f"unknown target '{text}'", hint=_known(text, names()))
    return _target(FOLDER / "boards" / f"{text}.toml")


@cache
def cores() -> Mapping[str, Core]:
    """All cores by name."""
    path = FOLDER / "cores.toml"
    return {name: _core(path, name, table) for name, table in _read(path).items()}


def _known(wrong: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(wrong, known, n=1)
    return f"did you mean '{close[0]}'?" if close else "known: " + ", ".join(known)


def _read(path: Path) -> Table:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise UsageError(f"{path}: {error}") from error


def _check(
    path: Path,
    where: str,
    table: object,
    keys: Mapping[str, type],
    optional: Mapping[str, type] | None = None,
) -> Table:
    """The table itself, when it has all these keys and at most the optional ones, with these types."""
    if not isinstance(table, dict):
        raise UsageError(f"{path}: {where or 'file'} must be a table")
    known = {**keys, **(optional or {})}
    for key in table:
        if key not in known:
            raise UsageError(f"{path}: unknown key '{where}{key}'", hint=_known(key, tuple(known)))
    for key, kind in known.items():
        if key not in table and key in keys:
            raise UsageError(f"{path}: missing key '{where}{key}'")
        if key in table and type(table[key]) is not kind:  # a bool is no integer here
            raise UsageError(f"{path}: '{where}{key}' must be {_TYPE_NAMES[kind]}")
    return table


def _core(path: Path, name: str, table: object) -> Core:
    fields = dict(_check(path, f"{name}.", table, _CORE_KEYS))
    flags = tuple(str(flag) for flag in cast(list[object], fields.pop("gcc_flags")))
    return Core(name=name, gcc_flags=flags, **fields)  # type: ignore[arg-type]  # checked above


def _target(path: Path) -> Target:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", path.stem):  # it becomes part of comments in C
        raise UsageError(f"{path}: name the file with letters, digits, '.', '_' and '-' only")
    table = _check(path, "", _read(path), _BOARD_KEYS, _OPTIONAL_BOARD_KEYS)
    core = str(table["core"])
    if core not in cores():
        raise UsageError(f"{path}: unknown core '{core}'", hint=_known(core, tuple(cores())))
    clock_hz = cast(int, table["clock_hz"])
    if clock_hz <= 0:
        raise UsageError(f"{path}: 'clock_hz' must be positive")
    listed = enumerate(cast(list[object], table["regions"]))
    regions = tuple(_region(path, f"regions[{i}].", region) for i, region in listed)
    _check_memory(path, regions)
    qemu = str(table.get("qemu", ""))
    return Target(path.stem, str(table["description"]), cores()[core], clock_hz, regions, qemu)


def _region(path: Path, where: str, table: object) -> Region:
    fields = _check(path, where, table, _REGION_KEYS)
    name, kind = str(fields["name"]), str(fields["kind"])
    base, size = cast(int, fields["base"]), cast(int, fields["size"])
    if not (name.isascii() and name.isidentifier()):  # it becomes a name in the linker script
        raise UsageError(f"{path}: '{where}name' must be an identifier")
    if kind not in ("flash", "ram"):
        raise UsageError(f'{path}: \'{where}kind\' must be "flash" or "ram"')
    if base < 0 or base % PAGE:
        raise UsageError(f"{path}: '{where}base' must be a multiple of {PAGE}")
    if size <= 0 or size % PAGE or base + size > 1 << 32:
        raise UsageError(f"{path}: '{where}size' must be a multiple of {PAGE} within 4 GiB")
    return Region(name, base, size, cast(Kind, kind))


def _check_memory(path: Path, regions: tuple[Region, ...]) -> None:
    for kind in ("flash", "ram"):
        if not any(r.kind == kind for r in regions):
            raise UsageError(f"{path}: 'regions' has none of kind \"{kind}\"")
    if len({r.name for r in regions}) != len(regions):
        raise UsageError(f"{path}: 'regions' has two of one name")
    for low, high in pairwise(sorted(regions, key=lambda r: r.base)):
        if low.end > high.base:
            raise UsageError(f"{path}: regions '{low.name}' and '{high.name}' overlap")
