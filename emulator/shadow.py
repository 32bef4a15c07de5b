"""What every byte of the arena holds, held against what each step is meant to access.

Tags lie beside the arena, one per byte: which area, which byte of it. A store tags what it writes; a load
must find the byte of the input that is meant to lie there, or what the step wrote itself. So a byte that
is destroyed before its last use is found at its use, even where its value happens to be right. The work is
done in access_monitor.c; areas come as plain data, because the emulator knows nothing of graphs.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from targets.errors import ThumbnetError

MAX_AREAS = 64  # of a step; AREAS in access_monitor.c


@dataclass(frozen=True, slots=True)
class Area:
    """A part of the arena: a tensor, scratch, or the rings of a fused step.

    Attributes:
        name: for messages.
        offset: in the arena, bytes.
        size: bytes.
    """

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class StepAreas:
    """What a step may access, as indices into `ArenaMap.areas`.

    Attributes:
        reads: its inputs: every byte loaded must be the one that belongs there.
        writes: its output, scratch and rings: may be stored to, and loaded where it has been stored to.
        output: the one of `writes` that must be whole when the step ends.
    """

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    output: int


@dataclass(frozen=True, slots=True)
class ArenaMap:
    """An arena over time.

    Attributes:
        areas: everything that ever lies in it.
        steps: in the order of execution.
        inputs: areas that the host fills.
        outputs: areas that must be whole at the end.
    """

    areas: tuple[Area, ...]
    steps: tuple[StepAreas, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class _Area(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("number", ctypes.c_uint32),
        ("writes", ctypes.c_uint32),
    )


class Shadow:
    """The tags of one arena. Call begin(), then enter() and leave() around every step, then end()."""

    def __init__(self, library: Any, monitor: ctypes.c_void_p, base: int, arena: ArenaMap) -> None:
        """Makes the tags.

        Args:
            library: access_monitor.c.
            monitor: its monitor.
            base: address of the arena.
            arena: what is meant to lie where.
        """
        self._library, self._monitor = library, monitor
        self._base, self._arena = base, arena
        self._size = max((area.offset + area.size for area in arena.areas), default=1)

    def begin(self) -> None:
        """A new inference: only the inputs are there."""
        if not self._library.monitor_set_shadow(self._monitor, self._base, self._size):
            raise ThumbnetError("out of memory: no room for the tags of the arena")
        for index in self._arena.inputs:
            self._library.monitor_paint(self._monitor, ctypes.byref(self._made(index)))

    def enter(self, step: int) -> tuple[str, int] | None:
        """From here on, a step's accesses are checked; what is wrong with its inputs, if anything."""
        chosen = self._arena.steps[step]
        areas = [self._made(i) for i in chosen.reads]
        areas += [self._made(i, writes=True) for i in chosen.writes]
        count = len(areas)
        if not self._library.monitor_set_areas(self._monitor, (_Area * count)(*areas), count):
            raise ThumbnetError(f"step {step} has more than {MAX_AREAS} tensors: use --checks none")
        wrong = [self._wrong(i, "the step's input lost {expected}: {found}") for i in chosen.reads]
        wrong += [self._shared(a, b) for a, b in combinations(chosen.writes, 2)]
        return next((found for found in wrong if found), None)

    def leave(self, step: int) -> tuple[str, int] | None:
        """The step is over: what is wrong with its output and at which address, if anything."""
        self._library.monitor_set_areas(self._monitor, (_Area * 1)(), 0)
        return self._wrong(
            self._arena.steps[step].output, "the step left {expected} unwritten: {found}"
        )

    def end(self) -> tuple[str, int] | None:
        """The inference is over: what is wrong with its outputs and at which address, if anything."""
        found = (self._wrong(i, "the output lost {expected}: {found}") for i in self._arena.outputs)
        return next((wrong for wrong in found if wrong), None)

    def explain(self, writes: bool) -> str:
        """The violation that the monitor has just reported, in words."""
        expected, found = self._tags()
        if writes:
            return f"write outside of the step's output and scratch: {found}"
        if expected is None:
            return f"read of what is none of the step's tensors: {found}"
        return f"read of {expected}: {found}"

    def _wrong(self, index: int, text: str) -> tuple[str, int] | None:
        at = self._library.monitor_first_wrong(self._monitor, ctypes.byref(self._made(index)))
        if at >= self._size:
            return None
        expected, found = self._tags()
        return text.format(expected=expected, found=found), self._base + at

    def _shared(self, a: int, b: int) -> tuple[str, int] | None:
        """Two areas that a step writes must be apart: of a store between them none knows which it meant."""
        one, other = self._arena.areas[a], self._arena.areas[b]
        start = max(one.offset, other.offset)
        if start >= min(one.offset + one.size, other.offset + other.size):
            return None
        return f"the step writes {one.name} and {other.name} to the same bytes", self._base + start

    def _made(self, index: int, writes: bool = False) -> _Area:
        area = self._arena.areas[index]
        return _Area(area.offset, area.size, index + 1, writes)

    def _tags(self) -> tuple[str | None, str]:
        """What the byte was to hold, if anything, and what it holds."""
        tags = (ctypes.c_uint64 * 2)()
        self._library.monitor_tags(self._monitor, tags)
        expected, found = (self._named(tag) for tag in tags)
        return expected, f"it holds {found or 'nothing'}"

    def _named(self, tag: int) -> str | None:
        if not tag:
            return None
        return f"byte {tag & 0xFFFF_FFFF} of {self._arena.areas[(tag >> 32) - 1].name}"
