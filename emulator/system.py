"""The private peripheral bus: system control block, SysTick, interrupt controller, cycle counter.

Time is modelled cycles, from a function. What is not listed keeps what is written to it, which is
all that start-up code asks of cache maintenance, the MPU (there is none) and trace.
"""

from __future__ import annotations

from collections.abc import Callable

from emulator.bus import Bus
from emulator.exceptions import IRQ0, NMI, PENDSV, SYSTICK
from emulator.interrupts import Interrupts
from emulator.systick import SysTick
from targets.target import Core

BASE = 0xE000_0000
SIZE = 0x10_0000
SYSTEM_CONTROL = 0xE000_E000
CPACR = 0xE000_ED88
DEMCR = 0xE000_EDFC
DWT = 0xE000_1000
CYCCNT = DWT + 4

CPUID = {
    "cortex-m0": 0x410C_C200,
    "cortex-m0plus": 0x410C_C601,
    "cortex-m3": 0x412F_C231,
    "cortex-m4": 0x410F_C241,
    "cortex-m7": 0x411F_C271,
    "cortex-m33": 0x410F_D214,
}
_STACK_ALIGN = 1 << 9  # CCR
_LAZY_FLOATS = 0b11 << 30  # FPCCR after reset
_KEY = 0x05FA  # without it, a write to AIRCR is ignored
Now = Callable[[], int]


class SystemControl:
    """The registers from 0xE000E000 on."""

    def __init__(self, core: Core, interrupts: Interrupts, systick: SysTick, bus: Bus) -> None:
        """As after reset. Registers without a function are words of the bus."""
        self._core = core
        self._interrupts = interrupts
        self._systick = systick
        self._bus = bus
        self.vector_table = 0
        self.reset_requested = False
        self.on_change: Callable[[], None] = lambda: None  # interrupts may be due
        bus.attach(SYSTEM_CONTROL, 0x1000, self)
        bus.store(SYSTEM_CONTROL + 0xD14, _STACK_ALIGN)
        if core.fpu:
            bus.store(SYSTEM_CONTROL + 0xF34, _LAZY_FLOATS)

    @property
    def floats_enabled(self) -> bool:
        """Whether CPACR gives full access to the floating-point unit."""
        return self._bus.word(CPACR) >> 20 & 0xF == 0xF

    @property
    def sleeps_on_exit(self) -> bool:
        """SCR.SLEEPONEXIT: sleep when the last handler returns."""
        return bool(self._bus.word(SYSTEM_CONTROL + 0xD10) & 2)

    def peek(self, offset: int) -> int:
        """Reads a register without effects."""
        if 0x10 <= offset < 0x20:
            return self._systick.peek(offset - 0x10)
        if 0x100 <= offset < 0x400:
            return self._read_bits(offset)
        if 0x400 <= offset < 0x600:
            return self._priorities(IRQ0 + offset - 0x400)
        if 0xD18 <= offset < 0xD24:
            return self._priorities(4 + offset - 0xD18)
        if offset == 0xD04:
            return self._state()
        known = {
            0xD00: CPUID.get(self._core.name, 0),
            0xD08: self.vector_table,
            0xD0C: 0xFA05_0000 | self._interrupts.group_bits << 8,
            0xD28: 0,  # CFSR, HFSR: faults end the run before firmware can look
            0xD2C: 0,
            0xD90: 0,  # MPU_TYPE: none
        }
        return known.get(offset, self._bus.word(SYSTEM_CONTROL + offset))

    def read(self, offset: int) -> int:
        """Reads a register."""
        if 0x10 <= offset < 0x20:
            return self._systick.read(offset - 0x10)
        return self.peek(offset)

    def write(self, offset: int, value: int) -> None:
        """Writes a register."""
        if 0x10 <= offset < 0x20:
            self._systick.write(offset - 0x10, value)
        elif 0x100 <= offset < 0x300:
            self._write_bits(offset, value)
        elif 0x400 <= offset < 0x600:
            self._set_priorities(IRQ0 + offset - 0x400, value)
        elif 0xD18 <= offset < 0xD24:
            self._set_priorities(4 + offset - 0xD18, value)
        elif offset == 0xD04:
            self._set_state(value)
        elif offset == 0xD08:
            self.vector_table = value & ~0x7F
        elif offset == 0xD0C:
            self._set_control(value)
        elif offset == 0xF00:
            self._interrupts.pending.add(IRQ0 + (value & 0x1FF))
        else:
            self._bus.store(SYSTEM_CONTROL + offset, value)
        self.on_change()

    def _bank(self, offset: int) -> set[int]:
        """ISER, ICER at 0x100; ISPR, ICPR at 0x200; IABR at 0x300."""
        if offset < 0x200:
            return self._interrupts.enabled
        return self._interrupts.pending if offset < 0x300 else set(self._interrupts.active)

    def _read_bits(self, offset: int) -> int:
        first = IRQ0 + (offset & 0x7F) * 8
        return sum(1 << n - first for n in self._bank(offset) if first <= n < first + 32)

    def _write_bits(self, offset: int, value: int) -> None:
        first = IRQ0 + (offset & 0x7F) * 8
        numbers = {first + bit for bit in range(32) if value >> bit & 1}
        if offset & 0x80:
            self._bank(offset).difference_update(numbers)
        else:
            self._bank(offset).update(numbers)

    def _priorities(self, first: int) -> int:
        return sum(self._interrupts.priority(first + i) << 8 * i for i in range(4))

    def _set_priorities(self, first: int, value: int) -> None:
        for i in range(4):
            self._interrupts.set_priority(first + i, value >> 8 * i & 0xFF)

    def _state(self) -> int:
        """ICSR."""
        pending, active = self._interrupts.pending, self._interrupts.active
        bits = min(pending, default=0) << 12 | (active[-1] if active else 0)
        bits |= 1 << 31 if NMI in pending else 0
        bits |= 1 << 28 if PENDSV in pending else 0
        bits |= 1 << 26 if SYSTICK in pending else 0
        bits |= 1 << 22 if any(n >= IRQ0 for n in pending) else 0
        return bits | (1 << 11 if len(active) <= 1 else 0)

    def _set_state(self, value: int) -> None:
        for bit, number, to in ((31, NMI, True), (28, PENDSV, True), (27, PENDSV, False)):
            self._pend(value >> bit & 1, number, to)
        self._pend(value >> 26 & 1, SYSTICK, True)
        self._pend(value >> 25 & 1, SYSTICK, False)

    def _pend(self, chosen: int, number: int, to: bool) -> None:
        if chosen and to:
            self._interrupts.pending.add(number)
        elif chosen:
            self._interrupts.pending.discard(number)

    def _set_control(self, value: int) -> None:
        """AIRCR."""
        if value >> 16 != _KEY:
            return
        self._interrupts.group_bits = value >> 8 & 7
        self.reset_requested = self.reset_requested or bool(value & 4)


class CycleCounter:
    """DWT's CYCCNT; the comparators are not modelled. Armv6-M has none of it."""

    def __init__(self, core: Core, now: Now, bus: Bus) -> None:
        """Stopped at zero."""
        self._exists = core.thumb2
        self._now = now
        self._bus = bus
        self._zero_at = 0  # when it was zero, while it counts
        self._value = 0  # while it does not
        self._enabled = False
        self.on_read: Callable[[int], None] = lambda address: None
        bus.attach(DWT, 8, self)

    def peek(self, offset: int) -> int:
        """Reads CTRL or CYCCNT."""
        if offset == 0:
            return int(self._enabled) if self._exists else 1 << 25  # NOCYCCNT
        if not self._counts:
            return self._value
        return self._now() - self._zero_at & 0xFFFF_FFFF

    def read(self, offset: int) -> int:
        """Reads CTRL or CYCCNT, and tells of it."""
        if offset == 4:
            self.on_read(CYCCNT)
        return self.peek(offset)

    def write(self, offset: int, value: int) -> None:
        """Writes CTRL or CYCCNT."""
        count = value if offset == 4 else self.peek(4)
        if offset == 0:
            self._enabled = bool(value & 1)
        self._value = count if self._exists else 0
        self._zero_at = self._now() - self._value

    @property
    def _counts(self) -> bool:
        # DEMCR.TRCENA is only looked at here: firmware sets it once, before it starts the counter.
        return self._exists and self._enabled and bool(self._bus.word(DEMCR) >> 24 & 1)
