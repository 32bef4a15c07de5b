"""How deep a call went: free stack is painted before it and read after it."""

from __future__ import annotations

from unicorn import Uc

from emulator.memory import POISON

CHUNK = 4096


class StackGauge:
    """Measures the stack between its limit and where it stands when no call is running."""

    def __init__(self, uc: Uc, limit: int, top: int) -> None:
        """Takes the lowest address that the stack may grow to, and the stack pointer."""
        self._uc = uc
        self._limit = limit
        self._blank = bytes((POISON,)) * (top - limit)

    @property
    def size(self) -> int:
        """Bytes that a call may use."""
        return len(self._blank)

    def paint(self) -> None:
        """Forgets all earlier calls."""
        self._uc.mem_write(self._limit, self._blank)

    def used(self) -> int:
        """Bytes down to the deepest one written since paint()."""
        memory = bytes(self._uc.mem_read(self._limit, self.size))
        blank = self._blank[:CHUNK]
        for start in range(0, self.size, CHUNK):  # whole chunks compare at the speed of memory
            chunk = memory[start : start + CHUNK]
            if chunk != blank[: len(chunk)]:
                return self.size - start - (len(chunk) - len(chunk.lstrip(blank[:1])))
        return 0
