"""Modelled time: each block that starts advances it by the block's price, and a deadline stops the run.

No host clock takes part: the same image and the same input give the same time on every machine. Each
distinct block is priced once, when it first starts; a block counts as a whole from its start on.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any, Protocol

from unicorn import UC_HOOK_BLOCK, Uc

from emulator import native
from targets.errors import ThumbnetError

NEVER = (1 << 64) - 1
Price = Callable[[int, int], tuple[int, int]]
"""(address, size) of a block -> cycles of one execution, and of leaving it by a jump, call or return."""
Watch = tuple[tuple[int, int], ...]
"""Up to two pairs (Unicorn register, value): stop when one of them holds another value."""


class Clock(Protocol):
    """Counts cycles from its making on."""

    @property
    def cycles(self) -> int:
        """Cycles so far."""

    @property
    def end(self) -> int | None:
        """The address behind the last block, when execution stopped there or in it."""

    @property
    def stopped(self) -> bool:
        """Whether the last run was stopped by the deadline or by the watch."""

    def start(self, deadline: int, watch: Watch = ()) -> None:
        """Arms the clock for a run: no block starts at or after the deadline."""

    def stop_soon(self) -> None:
        """Ends the run before the next block. To be used within callbacks of memory accesses."""

    def arrive(self, address: int, cycles: int = 0) -> None:
        """Execution goes on at an address, for a reason that took some cycles."""

    def skip(self, cycles: int) -> None:
        """Sleeps until a time, if it is yet to come."""

    def check(self) -> None:
        """Raises what pricing has raised."""


def block_clock(uc: Uc, price: Price) -> Clock:
    """The fastest clock there is; $THUMBNET_NO_NATIVE=1 asks for the one in Python."""
    library, add_hook = native.clock_library(), native.hook_adder(uc)
    stop, read = native.engine_function("uc_emu_stop"), native.engine_function("uc_reg_read")
    wanted = os.environ.get("THUMBNET_NO_NATIVE") != "1"
    if wanted and library and add_hook and stop and read:
        return NativeClock(price, library, add_hook, stop, read)
    return PythonClock(uc, price)


class PythonClock:
    """The clock that needs no C compiler."""

    def __init__(self, uc: Uc, price: Price) -> None:
        """Installs the hook."""
        self._price = price
        self._prices: dict[tuple[int, int], tuple[int, int]] = {}
        self._cycles = 0
        self._deadline = NEVER
        self._watch: Watch = ()
        self._leaving = 0
        self._end: int | None = None
        self._stopped = False
        uc.hook_add(UC_HOOK_BLOCK, self._on_block)

    @property
    def cycles(self) -> int:
        """Cycles so far."""
        return self._cycles

    @property
    def end(self) -> int | None:
        """The address behind the last block."""
        return self._end

    @property
    def stopped(self) -> bool:
        """Whether the deadline or the watch ended the last run."""
        return self._stopped

    def start(self, deadline: int, watch: Watch = ()) -> None:
        """Arms the clock for a run."""
        self._deadline, self._watch, self._stopped = deadline, watch, False

    def stop_soon(self) -> None:
        """Ends the run before the next block."""
        self._deadline = 0

    def arrive(self, address: int, cycles: int = 0) -> None:
        """Execution goes on at an address."""
        if self._end is not None and address != self._end:
            self._cycles += self._leaving
        self._end = None
        self._cycles += cycles

    def skip(self, cycles: int) -> None:
        """Sleeps until a time."""
        self._cycles = max(self._cycles, cycles)

    def check(self) -> None:
        """Nothing to do: an exception in a Python hook ends the run by itself."""

    def _on_block(self, uc: Uc, address: int, size: int, user: object) -> None:
        changed = any(uc.reg_read(register) != value for register, value in self._watch)
        if self._cycles >= self._deadline or changed:
            self._stopped = True
            uc.emu_stop()  # the block is not executed, and its hook is called again on resumption
            return
        self.arrive(address)
        key = (address, size)
        if key not in self._prices:
            self._prices[key] = self._price(address, size)
        cost, self._leaving = self._prices[key]
        self._cycles += cost
        self._end = address + size


class _Clock(ctypes.Structure):
    """The first part of the structure in block_clock.c."""

    _fields_ = (
        ("cycles", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("leaving", ctypes.c_uint32),
        ("stopped", ctypes.c_uint32),
        ("masks", ctypes.c_int32 * 2),
        ("watched", ctypes.c_uint32 * 2),
    )


class NativeClock:
    """The clock in C."""

    def __init__(
        self,
        price: Price,
        library: Any,
        add_hook: Callable[[int, Any, Any], None],
        stop: int,
        read: int,
    ) -> None:
        """Installs the hook."""
        self._library = library
        self._error: BaseException | None = None
        kind = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint32)
        self._callback = kind(self._packed(price))  # kept alive here
        self._pointer = ctypes.c_void_p(library.clock_new(self._callback, stop, read))
        if not self._pointer:
            raise ThumbnetError("out of memory for the emulator's clock")
        self._clock = ctypes.cast(self._pointer, ctypes.POINTER(_Clock)).contents
        add_hook(UC_HOOK_BLOCK, library.clock_block, self._pointer)

    @property
    def cycles(self) -> int:
        """Cycles so far."""
        return int(self._clock.cycles)

    @property
    def end(self) -> int | None:
        """The address behind the last block."""
        end = int(self._clock.end)
        return None if end == 1 else end

    @property
    def stopped(self) -> bool:
        """Whether the deadline or the watch ended the last run."""
        return bool(self._clock.stopped)

    def start(self, deadline: int, watch: Watch = ()) -> None:
        """Arms the clock for a run."""
        self._clock.deadline, self._clock.stopped = deadline, 0
        for i in range(2):
            register, value = watch[i] if i < len(watch) else (0, 0)
            self._clock.masks[i], self._clock.watched[i] = register, value

    def stop_soon(self) -> None:
        """Ends the run before the next block."""
        self._clock.deadline = 0

    def arrive(self, address: int, cycles: int = 0) -> None:
        """Execution goes on at an address."""
        self._library.clock_arrive(self._pointer, address)
        self._clock.cycles += cycles

    def skip(self, cycles: int) -> None:
        """Sleeps until a time."""
        self._clock.cycles = max(self._clock.cycles, cycles)

    def check(self) -> None:
        """Raises what pricing has raised: an exception cannot pass through C."""
        if self._error:
            error, self._error = self._error, None
            raise error

    def __del__(self) -> None:
        """Frees the table; the machine that held this clock is gone."""
        self._library.clock_free(self._pointer)

    def _packed(self, price: Price) -> Callable[[int, int], int]:
        def packed(address: int, size: int) -> int:
            try:
                cost, leaving = price(address, size)
            except BaseException as error:
                self._error = error
                self.stop_soon()
                return 0
            return cost | leaving << 32

        return packed
