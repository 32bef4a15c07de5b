"""How deep a call went: free stack is painted before it and read after it."""

from __future__ import annotations

from typing import Protocol

from emulator.memory import POISON

CHUNK = 4096


class Memory(Protocol):
    """What holds the stack."""

    def read(self, address: int, size: int) -> bytes:
        """Reads memory."""

    def poison(self, address: int, size: int) -> None:
        """Fills memory with POISON."""


class StackGauge:
    """Measures the stack between its limit and where it stands when no call is running.

    The stack must hold POISON where nothing was written since the start.
    """

    def __init__(self, memory: Memory, limit: int, top: int) -> None:
        """Takes the lowest address that the stack may grow to, and the stack pointer."""
        self._memory = memory
        self._limit = limit
        self._blank = bytes((POISON,)) * (top - limit)

    @property
    def size(self) -> int:
        """Bytes that a call may use."""
        return len(self._blank)

    def paint(self) -> None:
        """Forgets all earlier calls."""
        used = self.used()
        self._memory.poison(self._limit + self.size - used, used)

    def used(self) -> int:
        """Bytes down to the deepest one written since paint()."""
        memory = self._memory.read(self._limit, self.size)
        blank = self._blank[:CHUNK]
        for start in range(0, self.size, CHUNK):  # whole chunks compare at the speed of memory
            chunk = memory[start : start + CHUNK]
            if chunk != blank[: len(chunk)]:
                return self.size - start - (len(chunk) - len(chunk.lstrip(blank[:1])))
        return 0
