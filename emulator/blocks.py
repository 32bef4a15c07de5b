"""Counts executed basic blocks: in C where that can be compiled and loaded, else in Python, alike.

The exit of a block is "taken" when the next block is not the one behind it in memory: Unicorn also
cuts blocks at pages and at a length limit, so that the mere end of a block says nothing.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Any, Protocol

from unicorn import UC_HOOK_BLOCK, Uc

from emulator import native
from targets.errors import ThumbnetError


@dataclass(frozen=True, slots=True, order=True)
class BlockCount:
    """How often a block ran, and how often it ended in a jump, call or return."""

    address: int
    size: int
    executions: int
    taken: int


class BlockCounter(Protocol):
    """Counts from its making on."""

    def limit(self, size: int) -> None:
        """Stops the engine when it is about to have executed more than these bytes of code from now on."""

    @property
    def exhausted(self) -> bool:
        """Whether the limit has stopped the engine."""

    def finish(self, address: int) -> None:
        """Ends a run that arrived at an address."""

    def take(self) -> tuple[BlockCount, ...]:
        """All counts since the last call, sorted by address."""


def block_counter(uc: Uc) -> BlockCounter:
    """The fastest counter there is; $THUMBNET_NO_NATIVE=1 asks for the one in Python."""
    if os.environ.get("THUMBNET_NO_NATIVE") == "1":
        return PythonCounter(uc)
    library, add_hook = native.counter_library(), native.hook_adder(uc)
    if library is None or add_hook is None:
        return PythonCounter(uc)
    return NativeCounter(library, add_hook)


class PythonCounter:
    """The counter that needs no C compiler; some 30 times slower."""

    def __init__(self, uc: Uc) -> None:
        """Installs the hook."""
        self._counts: dict[tuple[int, int], list[int]] = {}
        self._last: list[int] | None = None
        self._end = 0
        self._left: int | None = None
        self._exhausted = False
        uc.hook_add(UC_HOOK_BLOCK, self._on_block)

    def limit(self, size: int) -> None:
        """Arms the watchdog."""
        self._left, self._exhausted = size, False

    @property
    def exhausted(self) -> bool:
        """Whether it has bitten."""
        return self._exhausted

    def _on_block(self, uc: Uc, address: int, size: int, user: object) -> None:
        self.finish(address)
        if self._left is not None:
            if self._left < size:
                self._exhausted = True
                uc.emu_stop()  # the block is not executed
                return
            self._left -= size
        counts = self._counts.setdefault((address, size), [0, 0])
        counts[0] += 1
        self._last, self._end = counts, address + size

    def finish(self, address: int) -> None:
        """Ends a run that arrived at an address."""
        if self._last is not None and address != self._end:
            self._last[1] += 1
        self._last = None

    def take(self) -> tuple[BlockCount, ...]:
        """All counts since the last call, sorted by address."""
        counts = (BlockCount(*key, *counted) for key, counted in self._counts.items())
        taken = tuple(sorted(counts))
        self._counts.clear()
        self._last = None
        return taken


class _Block(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("address", "size", "executions", "taken"))


class NativeCounter:
    """The counter in C."""

    def __init__(self, library: Any, add_hook: native.AddHook) -> None:
        """Installs the hook."""
        self._library = library
        self._counter = ctypes.c_void_p(library.counter_new())
        if not self._counter:
            raise ThumbnetError("out of memory for counting blocks")
        self._stop = native.engine_function("uc_emu_stop")
        add_hook(UC_HOOK_BLOCK, library.counter_block, self._counter)

    def limit(self, size: int) -> None:
        """Arms the watchdog."""
        self._library.counter_limit(self._counter, size, self._stop)

    @property
    def exhausted(self) -> bool:
        """Whether it has bitten."""
        return bool(self._library.counter_exhausted(self._counter))

    def finish(self, address: int) -> None:
        """Ends a run that arrived at an address."""
        self._library.counter_finish(self._counter, address)

    def take(self) -> tuple[BlockCount, ...]:
        """All counts since the last call, sorted by address."""
        blocks = (_Block * self._library.counter_used(self._counter))()
        if not self._library.counter_take(self._counter, blocks):
            raise ThumbnetError("out of memory while counting blocks")
        return tuple(sorted(BlockCount(b.address, b.size, b.executions, b.taken) for b in blocks))

    def __del__(self) -> None:
        """Frees the table; the machine that held this counter is gone."""
        self._library.counter_free(self._counter)
