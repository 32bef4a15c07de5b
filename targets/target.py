"""Boards and cores, read from TOML. Adding a board means adding one file to boards/."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal, cast

from targets import boot, family, hardware, tables, timing, wiring
from targets.errors import UsageError
from targets.hardware import Hardware, Source
from targets.timing import FlashTiming, Validation
from targets.wiring import Wiring

FOLDER = Path(__file__).parent
PAGE = 1024  # what the emulator can map and every part's memory is a multiple of

Kind = Literal["flash", "ram"]

_CORE_KEYS: Mapping[str, type] = {
    "gcc_flags": list,
    "fpu_flags": list,
    "zig_cpu": str,
    "unicorn_cpu": str,
    "cycle_model": str,
    "thumb2": bool,
    "long_multiply": bool,
    "hardware_divide": bool,
    "dsp": bool,
    "fpu": bool,
    "unaligned": bool,
    "stack_limit": bool,
}
_BOARD_KEYS: Mapping[str, type] = {
    "description": str,
    "core": str,
    "clock_hz": int,
    "regions": list,
}
_BOARD_OPTIONAL: Mapping[str, type] = {
    "family": str,
    "console": str,
    "qemu": str,
    "boot": str,
    "pins": dict,
    "baud": int,
    "setup": list,
    "flash_timing": dict,
    "validated": dict,
    "hardware": dict,
    "sources": list,
}
_REGION_KEYS: Mapping[str, type] = {"name": str, "kind": str, "base": int, "size": int}


@dataclass(frozen=True, slots=True)
class Core:
    """A processor core: what it can do and what each tool calls it."""

    name: str
    gcc_flags: tuple[str, ...]
    fpu_flags: tuple[str, ...]  # more for sources that compute in float32
    zig_cpu: str
    unicorn_cpu: str  # UC_CPU_ARM_<this>; empty: Unicorn has no such core
    cycle_model: str  # of the emulator
    thumb2: bool  # 32-bit encodings: everything above Armv6-M
    long_multiply: bool  # SMULL and its kin
    hardware_divide: bool
    dsp: bool  # SMLAD and its kin
    fpu: bool
    unaligned: bool  # single loads and stores at any address
    stack_limit: bool  # MSPLIM, of Armv8-M with the main extension


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
    family: str = ""  # of peripherals (targets/family.py); empty: none are known
    console: str = ""  # the UART that the board's host port is wired to; empty without a family
    wiring: Wiring = field(default_factory=Wiring)  # how firmware sets the console up
    qemu: str = ""  # machine of qemu-system-arm with this core and memory; empty: none is known
    flash_timing: FlashTiming | None = None  # None: no wait states are known
    validated: Validation | None = None  # None: predicted latencies were never checked on this part
    boot: str = ""  # what a boot ROM wants in flash (targets/boot.py); empty: vectors come first
    hardware: Hardware = field(default_factory=Hardware)
    sources: tuple[Source, ...] = ()

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
        return self.flash.base + self.vector_offset

    @property
    def vector_offset(self) -> int:
        """Bytes of flash before the vector table, which belong to a boot ROM."""
        return boot.AREAS[self.boot].vectors if self.boot else 0

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
        raise UsageError(f"unknown target '{text}'", hint=tables.closest(text, names()))
    return _target(FOLDER / "boards" / f"{text}.toml")


@cache
def cores() -> Mapping[str, Core]:
    """All cores by name."""
    path = FOLDER / "cores.toml"
    return {name: _core(path, name, table) for name, table in tables.read(path).items()}


def _core(path: Path, name: str, table: object) -> Core:
    fields = dict(tables.check(path, f"{name}.", table, _CORE_KEYS))
    flags = {
        key: tuple(str(flag) for flag in cast(list[object], fields.pop(key)))
        for key in ("gcc_flags", "fpu_flags")
    }
    return Core(name=name, **flags, **fields)  # type: ignore[arg-type]  # checked above


def _target(path: Path) -> Target:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", path.stem):  # it becomes part of comments in C
        raise UsageError(f"{path}: name the file with letters, digits, '.', '_' and '-' only")
    table = tables.check(path, "", tables.read(path), _BOARD_KEYS, _BOARD_OPTIONAL)
    core = str(table["core"])
    if core not in cores():
        raise UsageError(
            f"{path}: unknown core '{core}'", hint=tables.closest(core, tuple(cores()))
        )
    clock_hz = cast(int, table["clock_hz"])
    if clock_hz <= 0:
        raise UsageError(f"{path}: 'clock_hz' must be positive")
    listed = enumerate(cast(list[object], table["regions"]))
    regions = tuple(_region(path, f"regions[{i}].", region) for i, region in listed)
    _check_memory(path, regions)
    known_family, console = _peripherals(path, table)
    flash, checked, desk = (table.get(key) for key in ("flash_timing", "validated", "hardware"))
    return Target(
        name=path.stem,
        description=str(table["description"]),
        core=cores()[core],
        clock_hz=clock_hz,
        regions=regions,
        family=known_family,
        console=console,
        qemu=str(table.get("qemu", "")),
        wiring=wiring.wiring(path, table),
        flash_timing=None if flash is None else timing.flash_timing(path, flash),
        validated=None if checked is None else timing.validation(path, checked),
        boot=_boot(path, table),
        hardware=Hardware() if desk is None else hardware.hardware(path, desk),
        sources=hardware.sources(path, table),
    )


def _peripherals(path: Path, table: tables.Table) -> tuple[str, str]:
    """The family and the console of a board: both or neither."""
    if ("family" in table) != ("console" in table):
        raise UsageError(f"{path}: 'family' and 'console' go together")
    if "family" not in table:
        return "", ""
    name, console = str(table["family"]), str(table["console"])
    if name not in family.names():
        hint = tables.closest(name, family.names())
        raise UsageError(f"{path}: unknown family '{name}'", hint=hint)
    uarts = tuple(uart.name for uart in family.load(name).uarts)
    if console not in uarts:
        hint = tables.closest(console, uarts)
        raise UsageError(f"{path}: family '{name}' has no UART '{console}'", hint=hint)
    return name, console


def _boot(path: Path, table: tables.Table) -> str:
    name = str(table.get("boot", ""))
    if name and name not in boot.AREAS:
        raise UsageError(f"{path}: unknown 'boot' '{name}'", hint="known: " + ", ".join(boot.AREAS))
    return name


def _region(path: Path, where: str, table: object) -> Region:
    fields = tables.check(path, where, table, _REGION_KEYS)
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
