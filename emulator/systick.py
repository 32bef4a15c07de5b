"""SysTick: a 24-bit timer that counts modelled cycles down."""

from __future__ import annotations

from collections.abc import Callable

from emulator.clock import NEVER

_ENABLE, _INTERRUPT, _CORE_CLOCK = 1, 2, 4
_DIVIDER = 8  # of its other clock, as on STM32


class SysTick:
    """CSR, RVR, CVR and CALIB at offsets 0, 4, 8 and 12."""

    def __init__(self, now: Callable[[], int]) -> None:
        """Stopped."""
        self._now = now
        self._control = 0
        self._reload = 0
        self._value = 0  # while stopped
        self._zero_at = NEVER  # when it next counts to zero
        self._counted = False  # COUNTFLAG
        self._due = False

    @property
    def next_event(self) -> int:
        """When its exception becomes pending, or NEVER."""
        return self._zero_at if self._control & _INTERRUPT else NEVER

    def poll(self) -> bool:
        """Whether its exception has become pending since the last call."""
        self._wrap()
        due, self._due = self._due, False
        return due

    def peek(self, offset: int) -> int:
        """Reads a register without clearing COUNTFLAG."""
        self._wrap()
        if offset == 0:
            return self._control | self._counted << 16
        return {4: self._reload, 8: self._current()}.get(offset, 0)

    def read(self, offset: int) -> int:
        """Reads a register."""
        value = self.peek(offset)
        if offset == 0:
            self._counted = False
        return value

    def write(self, offset: int, value: int) -> None:
        """Writes a register. A new RVR counts from the next wrap on."""
        self._wrap()
        if offset == 0:
            self._value = self._current()
            self._control = value & 7
            self._start()
        elif offset == 4:
            self._reload = value & 0xFF_FFFF
            if self._zero_at == NEVER:
                self._start()
        elif offset == 8:  # whatever is written, it becomes zero
            self._value, self._counted = 0, False
            self._start()

    @property
    def _unit(self) -> int:
        return 1 if self._control & _CORE_CLOCK else _DIVIDER

    def _start(self) -> None:
        if not self._control & _ENABLE or not (self._reload or self._value):
            self._zero_at = NEVER
            return
        self._zero_at = self._now() + (self._value or self._reload + 1) * self._unit

    def _current(self) -> int:
        if self._zero_at == NEVER:
            return self._value
        return -(-(self._zero_at - self._now()) // self._unit) % (self._reload + 1)

    def _wrap(self) -> None:
        """Counts the passages through zero up to now as one."""
        now = self._now()
        if now < self._zero_at:
            return
        self._counted = True
        self._due = self._due or bool(self._control & _INTERRUPT)
        if not self._reload:  # it stays at zero
            self._value, self._zero_at = 0, NEVER
            return
        period = (self._reload + 1) * self._unit
        self._zero_at += ((now - self._zero_at) // period + 1) * period
