"""Which exception comes next: pending and enabled ones, their priorities, and what masks them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emulator.exceptions import HARD_FAULT, IRQ0, NMI, PENDSV, SVCALL, SYSTICK

IDLE = 256  # the priority of thread mode: below all others
_FIXED = {NMI: -2, HARD_FAULT: -1}
_ALWAYS_ENABLED = frozenset((NMI, SVCALL, PENDSV, SYSTICK))


@dataclass(frozen=True, slots=True)
class Masks:
    """The registers that hold exceptions back; zero: none."""

    primask: int = 0
    basepri: int = 0
    faultmask: int = 0


class Interrupts:
    """The interrupt controller's state. Exceptions go by number; interrupt n is 16 + n."""

    def __init__(self, priority_bits: int) -> None:
        """All disabled, none pending.

        Args:
            priority_bits: how many of a priority's eight bits exist, from the top.
        """
        self._implemented = 0xFF << (8 - priority_bits) & 0xFF
        self._priorities: dict[int, int] = {}
        self._lines: list[tuple[int, Callable[[], bool]]] = []
        self.enabled: set[int] = set()
        self.pending: set[int] = set()
        self.active: list[int] = []  # the innermost last
        self.group_bits = 0  # AIRCR.PRIGROUP

    def connect(self, irq: int, line: Callable[[], bool]) -> None:
        """Wires a device's interrupt line, which is true while the device wants attention."""
        self._lines.append((IRQ0 + irq, line))

    def sample(self) -> None:
        """Makes those interrupts pending whose lines are up and whose handlers are not running."""
        for number, line in self._lines:
            if number not in self.active and line():
                self.pending.add(number)

    def priority(self, number: int) -> int:
        """Priority of an exception; lower is more urgent."""
        return _FIXED.get(number, self._priorities.get(number, 0))

    def set_priority(self, number: int, value: int) -> None:
        """Sets a priority, as far as its bits exist."""
        self._priorities[number] = value & self._implemented

    def next(self, masks: Masks) -> int | None:
        """The exception to enter now, if any."""
        number = self._first()
        if number is None or self._group(self.priority(number)) >= self._current(masks):
            return None
        return number

    def held_back(self, masks: Masks) -> bool:
        """Whether an exception would be entered now but for the masks."""
        return self.next(masks) is None and self.next(Masks()) is not None

    def wakes(self, masks: Masks) -> bool:
        """Whether a sleeping core goes on: PRIMASK holds the handler back, not the waking."""
        return self.next(Masks(0, masks.basepri, masks.faultmask)) is not None

    def _first(self) -> int | None:
        ready = [n for n in self.pending if n in self.enabled or n in _ALWAYS_ENABLED]
        return min(ready, key=lambda n: (self.priority(n), n), default=None)

    def _current(self, masks: Masks) -> int:
        """The priority that an exception must beat."""
        levels = [self._group(self.priority(number)) for number in self.active]
        if masks.faultmask & 1:
            levels.append(-1)
        if masks.primask & 1:
            levels.append(0)
        if masks.basepri & 0xFF:
            levels.append(self._group(masks.basepri & 0xFF))
        return min(levels, default=IDLE)

    def _group(self, priority: int) -> int:
        """The part of a priority that decides about preemption."""
        return priority if priority < 0 else priority & ~((2 << self.group_bits) - 1)
