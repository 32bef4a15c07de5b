"""Watches a run: every access, every division, and what flash has to be read for. In C; see access_monitor.c.

A monitored run is some ten times slower than a counted one: one inference is enough to see what all do.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass

from unicorn import UC_HOOK_BLOCK, UC_HOOK_CODE, UC_HOOK_MEM_READ, UC_HOOK_MEM_WRITE, Uc, arm_const

from emulator import native
from emulator.elf import Image
from emulator.memory import RED_ZONE, stack_limit
from emulator.shadow import ArenaMap, Shadow
from emulator.timing.instruction import encodings
from targets.errors import ThumbnetError
from targets.target import Target

_DEFINED, _ALLOWED = 1, 2
_IDS = tuple(getattr(arm_const, f"UC_ARM_REG_{name}") for name in ("SP", "PC", "R0", "EPSR"))
# In the order of enum violation.
_REASONS = (
    "",
    "read of {size} bytes of RAM that were never written",
    "read of RAM outside the model's arena, context and stack",
    "write to RAM outside the model's arena, context and stack",
    "unaligned access, which this core refuses for this instruction",
    "division by zero",
    "stack overflow: the stack pointer is below the end of static data",
    "out of memory while watching accesses",
    "read of another byte than the step's",
    "write outside of the step's output and scratch",
)
_WRONG_BYTE, _STRAY_WRITE = 8, 9
_WITHOUT_ADDRESS = ("division by zero", "out of memory while watching accesses")


@dataclass(frozen=True, slots=True)
class Events:
    """What the executions of a block caused.

    Attributes:
        fetch_random: sectors of flash fetched after a jump that no cache held.
        fetch_sequential: the same, behind the sector before.
        data: sectors of flash read as data that no cache held.
        unaligned: unaligned halfwords and words accessed.
        divisions: divisions executed.
        divide_cycles: cycles of those by their operands.
    """

    fetch_random: int = 0
    fetch_sequential: int = 0
    data: int = 0
    unaligned: int = 0
    divisions: int = 0
    divide_cycles: int = 0


@dataclass(frozen=True, slots=True)
class Violation:
    """What memory or the core does not allow."""

    reason: str
    address: int | None
    pc: int


class _Events(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            *("address", "used", "fetch_random", "fetch_sequential"),
            *("data", "unaligned", "divisions", "divide_cycles"),
        )
    )


class Monitor:
    """Watches an engine from its making on. Make it before the engine runs anything."""

    def __init__(self, uc: Uc, target: Target, image: Image | None = None) -> None:
        """Installs the hooks.

        Args:
            uc: the engine.
            target: for the extent of RAM, and for what flash stands behind.
            image: for its static data and its divisions; None: only look, and allow everything.

        Raises:
            ThumbnetError: the C helper cannot be compiled or loaded here.
        """
        wanted = os.environ.get("THUMBNET_NO_NATIVE") != "1"
        library, add_hook = native.monitor_library() if wanted else None, native.hook_adder(uc)
        calls = [
            native.engine_function(f"uc_{name}")
            for name in ("reg_read", "reg_write", "mem_read", "emu_stop")
        ]
        if library is None or add_hook is None or None in calls:
            raise ThumbnetError(
                "the access monitor cannot be compiled here",
                hint="install a C compiler or the ziglang package, or use --checks none",
            )
        self._library = library
        handle = native.engine_handle(uc)
        ids = (ctypes.c_int * len(_IDS))(*_IDS)
        strict = not target.core.unaligned
        self._monitor = ctypes.c_void_p(library.monitor_new(handle, *calls, ids, strict))
        self._require(bool(self._monitor))
        self._shadow: Shadow | None = None
        self._watch_flash(target)
        for kind, function in (
            (UC_HOOK_BLOCK, library.monitor_block),
            (UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, library.monitor_access),
        ):
            add_hook(kind, function, self._monitor)
        if image:
            self._check(target, image)
            for address in _divisions(image) if target.core.hardware_divide else ():
                add_hook(UC_HOOK_CODE, library.monitor_divide, self._monitor, at=address)

    def define(self, address: int, size: int) -> None:
        """The host wrote RAM."""
        self._library.monitor_mark(self._monitor, address, size, _DEFINED, 0)

    def forget(self, address: int, size: int) -> None:
        """The contents of RAM mean nothing from here on."""
        self._library.monitor_mark(self._monitor, address, size, 0, _DEFINED)

    def allow(self, address: int, size: int) -> None:
        """RAM may be accessed; all of it may, until forbidden."""
        self._library.monitor_mark(self._monitor, address, size, _ALLOWED, 0)

    def forbid(self, address: int, size: int) -> None:
        """RAM may not be accessed."""
        self._library.monitor_mark(self._monitor, address, size, 0, _ALLOWED)

    def shadow(self, base: int, arena: ArenaMap) -> Shadow:
        """Tags on every byte of an arena, from here on."""
        self._shadow = Shadow(self._library, self._monitor, base, arena)
        return self._shadow

    def take(self) -> Mapping[int, Events]:
        """Events by address of their block since the last call."""
        found = (_Events * self._library.monitor_used(self._monitor))()
        self._library.monitor_take(self._monitor, found)
        return {
            e.address: Events(
                *(e.fetch_random, e.fetch_sequential, e.data),
                *(e.unaligned, e.divisions, e.divide_cycles),
            )
            for e in found
        }

    def violation(self) -> Violation | None:
        """The first violation since the last call; it has stopped the engine."""
        where = (ctypes.c_uint64 * 3)()
        number = self._library.monitor_violation(self._monitor, where)
        if not number:
            return None
        address, size, pc = where
        reason = _REASONS[number]
        if self._shadow and number in (_WRONG_BYTE, _STRAY_WRITE):
            return Violation(self._shadow.explain(number == _STRAY_WRITE), address, pc & ~1)
        shown = None if reason in _WITHOUT_ADDRESS else address
        return Violation(reason.format(size=size), shown, pc & ~1)

    def _check(self, target: Target, image: Image) -> None:
        for region in target.regions:
            if region.kind == "ram":
                added = self._library.monitor_add_ram(self._monitor, region.base, region.size)
                self._require(added)
        floor = stack_limit(target.ram, image) + RED_ZONE
        self._library.monitor_set_stack(self._monitor, floor)

    def _watch_flash(self, target: Target) -> None:
        timing = target.flash_timing
        if timing is not None:
            flash = target.flash
            lines = (timing.instruction_lines, timing.data_lines)
            geometry = (flash.base, flash.size, timing.sector, timing.line, *lines)
            self._require(self._library.monitor_set_flash(self._monitor, *geometry))

    def _require(self, done: bool) -> None:
        if not done:
            raise ThumbnetError("out of memory, or too many banks of RAM to watch")

    def __del__(self) -> None:
        """Frees the tables; the machine that held this monitor is gone."""
        if getattr(self, "_monitor", None):
            self._library.monitor_free(self._monitor)


def _divisions(image: Image) -> list[int]:
    """Addresses of SDIV and UDIV; data between code may look like one, which does no harm."""
    found = []
    for function in image.functions:
        code, at = image.code(function.address, function.size), function.address
        for encoding in encodings(code):
            divides = len(encoding) == 4 and encoding[1] == 0xFB and encoding[0] >> 4 in (0x9, 0xB)
            if divides and encoding[3] >> 4 == 0xF and encoding[2] >> 4 == 0xF:
                found.append(at)
            at += len(encoding)
    return found
