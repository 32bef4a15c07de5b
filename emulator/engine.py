"""What runs firmware: Unicorn in this process, or QEMU in its own. EmulatedModel needs no more."""

from __future__ import annotations

from typing import Protocol

from emulator.cortex_m import Measured
from emulator.fault import Fault
from emulator.shadow import ArenaMap, Shadow


class Engine(Protocol):
    """A core and its memory, loaded with an image. boot() first; after a Fault, only close()."""

    @property
    def counts(self) -> bool:
        """Whether calls count blocks."""

    def boot(self) -> None:
        """Runs from the reset vector until the application is idle."""

    def close(self) -> None:
        """Gives everything back."""

    def call(self, function: str, *arguments: int) -> int:
        """Calls a C function of at most four words, and returns its first result word."""

    def measure(self, function: str, *arguments: int) -> Measured:
        """Calls a function, and reports its stack and, when the machine counts, its blocks."""

    def address(self, symbol: str) -> int:
        """Address of a global symbol, without the Thumb bit."""

    def function_at(self, address: int) -> str:
        """Name of the function around an address, or an empty string."""

    def read(self, address: int, size: int) -> bytes:
        """Reads memory."""

    def read_word(self, address: int) -> int:
        """Reads a word."""

    def write(self, address: int, data: bytes) -> None:
        """Writes memory."""

    def code(self, address: int, size: int) -> bytes:
        """What the image holds at an address: code that a run has executed."""

    def poison(self, address: int, size: int) -> None:
        """Overwrites memory with what no program may rely on."""

    def confine(self, *variables: str) -> None:
        """From here on, RAM is the stack and these variables; engines that can, refuse all other."""

    def shadow(self, base: int, arena: ArenaMap) -> Shadow | None:
        """Tags on every byte of an arena; None where accesses are not watched."""

    def fault(self, reason: str, address: int | None = None, symbol: str = "") -> Fault:
        """A Fault with this reason, where the machine stands."""
