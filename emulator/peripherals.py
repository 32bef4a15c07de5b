"""A family's peripherals: words that keep what is written, and the family's rules about reading them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from emulator.bus import Bus
from targets.family import Constant, Copy, Family

_ENABLED, _UPDATE = 1, 1
_CR1, _SR, _EGR, _CNT, _PSC, _ARR = 0x00, 0x10, 0x14, 0x24, 0x28, 0x2C


class RuledWord:
    """A register whose value, when read, follows from the value written."""

    def __init__(self, copies: tuple[Copy, ...], constants: tuple[Constant, ...]) -> None:
        """Zero."""
        self._copies = copies
        self._ones = self._zeros = 0
        for constant in constants:
            self._ones |= constant.ones
            self._zeros |= constant.zeros
        self._written = 0

    def peek(self, offset: int) -> int:
        """What a read gives."""
        value = self._written
        for copy in self._copies:
            mask = (1 << copy.width) - 1
            field = self._written >> copy.from_bit & mask
            value = value & ~(mask << copy.to_bit) | field << copy.to_bit
        return value & ~self._zeros | self._ones

    def read(self, offset: int) -> int:
        """The same: reading changes nothing."""
        return self.peek(offset)

    def write(self, offset: int, value: int) -> None:
        """Keeps the value."""
        self._written = value


class Timer:
    """A general-purpose timer of STM32 that counts up; it is clocked like the core.

    Prescaler, auto-reload and the update flag work; compare, capture and interrupts do not.
    """

    def __init__(self, base: int, bits: int, now: Callable[[], int]) -> None:
        """Stopped at zero."""
        self._base = base
        self._now = now
        self._words = {_ARR: (1 << bits) - 1}
        self._started = 0  # when the count was self._from
        self._from = 0
        self._cleared = 0  # wraps that the update flag has been cleared for
        self.on_read: Callable[[int], None] = lambda address: None

    def peek(self, offset: int) -> int:
        """Reads a register without telling of it."""
        if offset == _CNT:
            return self._total() % self._period
        if offset == _SR:
            return int(self._total() // self._period > self._cleared)
        return self._words.get(offset, 0)

    def read(self, offset: int) -> int:
        """Reads a register; a read of the count is told of."""
        if offset == _CNT:
            self.on_read(self._base + _CNT)
        return self.peek(offset)

    def write(self, offset: int, value: int) -> None:
        """Writes a register."""
        total = self._total()
        if offset == _SR:
            self._cleared = self._cleared if value & _UPDATE else total // self._period
            return
        if offset == _CNT or (offset == _EGR and value & _UPDATE):
            total, self._cleared = (value if offset == _CNT else 0), 0
        self._from, self._started = total, self._now()
        if offset not in (_CNT, _EGR):
            self._words[offset] = value

    @property
    def _period(self) -> int:
        return self._words[_ARR] + 1

    def _total(self) -> int:
        """Counts, wraps included."""
        if not self._words.get(_CR1, 0) & _ENABLED:
            return self._from
        return self._from + (self._now() - self._started) // (self._words.get(_PSC, 0) + 1)


class NrfTimer:
    """TIMER0 of nRF51, as a counter of cycles: started, cleared and captured, 32 bits, no prescaler."""

    SIZE = 0x550
    _START, _STOP, _CLEAR, _CAPTURE, _COMPARE = 0x000, 0x004, 0x00C, 0x040, 0x540

    def __init__(self, now: Callable[[], int]) -> None:
        """Stopped at zero."""
        self._now = now
        self._words: dict[int, int] = {}
        self._started: int | None = None
        self._from = 0

    def peek(self, offset: int) -> int:
        """Reads a register."""
        return self._words.get(offset, 0)

    def read(self, offset: int) -> int:
        """The same: reading changes nothing."""
        return self.peek(offset)

    def write(self, offset: int, value: int) -> None:
        """Writes a register; a one triggers a task."""
        slot = offset - self._CAPTURE
        if offset not in (self._START, self._STOP, self._CLEAR) and not 0 <= slot < 16:
            self._words[offset] = value
        elif value & 1:
            self._task(offset, slot)

    def _task(self, offset: int, slot: int) -> None:
        count = self._count()
        if offset == self._START and self._started is None:
            self._started = self._now()
        elif offset == self._STOP:
            self._from, self._started = count, None
        elif offset == self._CLEAR:
            self._from = 0
            self._started = None if self._started is None else self._now()
        elif slot >= 0:
            self._words[self._COMPARE + slot] = count & 0xFFFF_FFFF

    def _count(self) -> int:
        return self._from + (0 if self._started is None else self._now() - self._started)


def attach(family: Family, bus: Bus, now: Callable[[], int]) -> tuple[Timer, ...]:
    """Maps a family's addresses and puts its rules and timers behind them; returns the timers."""
    for area in family.ranges:
        bus.map(area.base, area.size)
    copies: dict[int, list[Copy]] = defaultdict(list)
    constants: dict[int, list[Constant]] = defaultdict(list)
    for copy in family.copies:
        copies[copy.register].append(copy)
    for constant in family.constants:
        constants[constant.register].append(constant)
    for register in sorted({*copies, *constants}):
        word = RuledWord(tuple(copies[register]), tuple(constants[register]))
        bus.attach(register, 4, word)
    if family.cycle_timer:
        bus.attach(family.cycle_timer, NrfTimer.SIZE, NrfTimer(now))
    timers = []
    for timer in family.timers:
        device = Timer(timer.base, timer.bits, now)
        bus.attach(timer.base, 0x30, device)
        timers.append(device)
    return tuple(timers)
