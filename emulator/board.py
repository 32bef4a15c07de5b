"""What surrounds a core: interrupt controller, timers, serial ports and the registers of its family."""

from __future__ import annotations

from collections.abc import Callable

from unicorn import Uc

from emulator import peripherals, uart
from emulator.bus import Bus
from emulator.clock import Clock
from emulator.exceptions import SYSTICK
from emulator.interrupts import Interrupts, Masks
from emulator.system import BASE, SIZE, CycleCounter, SystemControl
from emulator.systick import SysTick
from targets.family import Family
from targets.target import Target


class Board:
    """The peripherals of a target, as after reset, connected to its interrupt controller."""

    def __init__(self, uc: Uc, target: Target, family: Family, clock: Clock) -> None:
        """Maps all peripherals into an engine.

        Args:
            uc: the core.
            target: its board.
            family: the board's peripherals.
            clock: modelled time.
        """

        def now() -> int:
            return clock.cycles

        def on_read(address: int) -> None:
            self.on_time_read(address)

        self.on_time_read: Callable[[int], None] = lambda address: None
        self._clock = clock
        self.bus = Bus(uc)
        self.bus.map(BASE, SIZE)
        self.interrupts = Interrupts(family.priority_bits)
        self.systick = SysTick(now)
        self.system = SystemControl(target.core, self.interrupts, self.systick, self.bus)
        self.system.vector_table = target.vector_table
        self.system.on_change = clock.stop_soon  # masks, priorities or deadlines may have changed
        CycleCounter(target.core, now, self.bus).on_read = on_read
        for timer in peripherals.attach(family, self.bus, now):
            timer.on_read = on_read
        self.ports = uart.attach(family.uarts, self.bus, self.interrupts)
        self.console = self.ports[target.console]
        for port in self.ports.values():
            port.on_change = self._on_line

    def collect(self) -> None:
        """Brings pending exceptions up to date."""
        if self.systick.poll():
            self.interrupts.pending.add(SYSTICK)
        self.interrupts.sample()

    def _on_line(self) -> None:
        """A device's interrupt line may have risen: the running code may have to be interrupted."""
        self.interrupts.sample()
        if self.interrupts.next(Masks()) is not None:
            self._clock.stop_soon()
