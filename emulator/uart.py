"""Serial ports: what the host sends waits in a queue, what the firmware sends is sunk at once.

Transmission takes no time and reception never overruns: the next byte arrives when the last was read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from emulator.bus import Bus
from emulator.interrupts import Interrupts
from targets import family

PATIENCE = 64  # polls in vain after which a firmware is taken to wait for input


class Port:
    """A serial port's two directions, apart from any register layout."""

    def __init__(self) -> None:
        """Silent."""
        self._waiting: deque[int] = deque()
        self._polls = 0  # since anything last moved
        self.on_starved: Callable[[], None] = lambda: None  # polled again and again in vain
        self.on_transmit: Callable[[int], None] = lambda byte: None
        self.on_change: Callable[[], None] = lambda: None  # its interrupt may be due

    @property
    def has_input(self) -> bool:
        """Whether a byte waits to be read by the firmware."""
        return bool(self._waiting)

    def send(self, data: bytes) -> None:
        """Queues bytes for the firmware."""
        self._waiting.extend(data)
        self._polls = 0

    def polled(self) -> None:
        """The firmware has looked whether a byte waits."""
        self._polls = 0 if self._waiting else self._polls + 1
        if self._polls >= PATIENCE:
            self._polls = 0
            self.on_starved()

    def transmit(self, byte: int) -> None:
        """Takes a byte from the firmware."""
        self._polls = 0
        self.on_transmit(byte)

    def next(self) -> int:
        """Takes the next byte; 0 when there is none."""
        return self._waiting.popleft() if self._waiting else 0

    def first(self) -> int:
        """The next byte, left where it is."""
        return self._waiting[0] if self._waiting else 0


class Stm32Uart:
    """USART and LPUART of STM32: "v1" (F1, F2, F4, L1) has SR and DR, "v2" ISR, ICR, RDR and TDR.

    The bits of status and interrupt enables are the same; only the places of the registers differ.
    """

    _RXNE, _TC, _TXE = (
        1 << 5,
        1 << 6,
        1 << 7,
    )  # in SR or ISR; the same bits of CR1 enable interrupts
    _TE, _RE = 1 << 3, 1 << 2  # in CR1

    def __init__(self, port: Port, v2: bool) -> None:
        """Disabled."""
        self._port = port
        self._v2 = v2
        self._control, self._status = (0x00, 0x1C) if v2 else (0x0C, 0x00)
        self._receive, self._transmit = (0x24, 0x28) if v2 else (0x04, 0x04)
        self._words: dict[int, int] = {}

    def line(self) -> bool:
        """Whether it asks for an interrupt."""
        enabled = self._words.get(self._control, 0) & (self._RXNE | self._TC | self._TXE)
        return bool(enabled & self._flags())

    def peek(self, offset: int) -> int:
        """Reads a register without effects."""
        if offset == self._status:
            return self._flags()
        if offset == self._receive:
            return self._port.first()
        return self._words.get(offset, 0)

    def read(self, offset: int) -> int:
        """Reads a register; the receive register gives the next byte."""
        if offset == self._status:
            self._port.polled()
        return self._port.next() if offset == self._receive else self.peek(offset)

    def write(self, offset: int, value: int) -> None:
        """Writes a register; the transmit register sends."""
        if offset == self._transmit:
            self._port.transmit(value & 0xFF)
        elif offset not in (self._status, self._receive):
            self._words[offset] = value
        self._port.on_change()

    def _flags(self) -> int:
        control = self._words.get(self._control, 0)
        flags = self._TXE | self._TC
        if self._port.has_input and control & self._RE:
            flags |= self._RXNE
        if self._v2:  # TEACK, REACK: a direction is on once it was switched on
            flags |= (control & self._TE) << 18 | (control & self._RE) << 20
        return flags


class CmsdkUart:
    """The UART of Arm's Cortex-M System Design Kit."""

    _TRANSMIT, _RECEIVE = 1, 2  # bits of INTSTATUS; two places to the left in CTRL they enable

    def __init__(self, port: Port) -> None:
        """Disabled."""
        self._port = port
        self._sent = False  # the transmit interrupt stays until cleared
        self._words: dict[int, int] = {}

    def receive_line(self) -> bool:
        """Whether it asks for its receive interrupt."""
        return bool(self._status() & self._RECEIVE)

    def transmit_line(self) -> bool:
        """Whether it asks for its transmit interrupt."""
        return bool(self._status() & self._TRANSMIT)

    def peek(self, offset: int) -> int:
        """Reads a register without effects."""
        if offset == 0x0:
            return self._port.first()
        if offset == 0x4:
            return 2 if self._receives() else 0
        if offset == 0xC:
            return self._status()
        return self._words.get(offset, 0)

    def read(self, offset: int) -> int:
        """Reads a register; DATA gives the next byte."""
        if offset == 0x4:
            self._port.polled()
        return self._port.next() if offset == 0x0 else self.peek(offset)

    def write(self, offset: int, value: int) -> None:
        """Writes a register; DATA sends."""
        if offset == 0x0:
            self._sent = True
            self._port.transmit(value & 0xFF)
        elif offset == 0xC:
            self._sent = self._sent and not value & self._TRANSMIT
        else:
            self._words[offset] = value
        self._port.on_change()

    def _receives(self) -> bool:
        return self._port.has_input and bool(self._words.get(0x8, 0) & 2)

    def _status(self) -> int:
        happened = (self._TRANSMIT if self._sent else 0) | (self._RECEIVE * self._receives())
        return happened & self._words.get(0x8, 0) >> 2


class NrfUart:
    """The UART of nRF51 and nRF52: tasks, events, and RXD and TXD."""

    _RXDRDY, _TXDRDY, _RXD, _TXD = 0x108, 0x11C, 0x518, 0x51C
    _ENABLE, _SET, _CLEAR = 0x500, 0x304, 0x308
    _RECEIVE, _TRANSMIT = 1 << 2, 1 << 7  # bits of INTENSET

    def __init__(self, port: Port) -> None:
        """Disabled."""
        self._port = port
        self._sent = False
        self._words: dict[int, int] = {}

    def line(self) -> bool:
        """Whether it asks for an interrupt."""
        enabled = self._words.get(self._SET, 0)
        ready = self._RECEIVE * self._ready() | self._TRANSMIT * self._sent
        return bool(enabled & ready)

    def peek(self, offset: int) -> int:
        """Reads a register without effects."""
        if offset == self._RXDRDY:
            return int(self._ready())
        if offset == self._TXDRDY:
            return int(self._sent)
        if offset == self._RXD:
            return self._port.first()
        return self._words.get(offset, 0)

    def read(self, offset: int) -> int:
        """Reads a register; RXD gives the next byte."""
        if offset == self._RXDRDY:
            self._port.polled()
        return self._port.next() if offset == self._RXD else self.peek(offset)

    def write(self, offset: int, value: int) -> None:
        """Writes a register; TXD sends. RXDRDY stands while bytes wait: the port holds several."""
        if offset == self._TXD:
            self._sent = True
            self._port.transmit(value & 0xFF)
        elif offset == self._TXDRDY:
            self._sent = self._sent and bool(value)
        elif offset in (self._SET, self._CLEAR):
            old = self._words.get(self._SET, 0)
            self._words[self._SET] = old | value if offset == self._SET else old & ~value
        else:
            self._words[offset] = value
        self._port.on_change()

    def _ready(self) -> bool:
        return self._port.has_input and self._words.get(self._ENABLE, 0) == 4


class Pl011:
    """Arm's PL011, of which status, data and interrupt masks work."""

    _DATA, _FLAGS, _CONTROL, _MASK, _RAW, _MASKED = 0x00, 0x18, 0x30, 0x38, 0x3C, 0x40
    _EMPTY, _IDLE = 1 << 4, 1 << 7  # FLAGS: nothing received; nothing left to send
    _RECEIVE, _TRANSMIT = 1 << 4, 1 << 5  # of the interrupt registers
    _ON = 0x201  # CONTROL: port and receiver

    def __init__(self, port: Port) -> None:
        """Disabled."""
        self._port = port
        self._words: dict[int, int] = {}

    def line(self) -> bool:
        """Whether it asks for an interrupt."""
        return bool(self.peek(self._MASKED))

    def peek(self, offset: int) -> int:
        """Reads a register without effects."""
        if offset == self._DATA:
            return self._port.first()
        if offset == self._FLAGS:
            return self._IDLE | (0 if self._receives() else self._EMPTY)
        raw = self._TRANSMIT | self._RECEIVE * self._receives()
        if offset == self._RAW:
            return raw
        if offset == self._MASKED:
            return raw & self._words.get(self._MASK, 0)
        return self._words.get(offset, 0)

    def read(self, offset: int) -> int:
        """Reads a register; DATA gives the next byte."""
        if offset == self._FLAGS:
            self._port.polled()
        return self._port.next() if offset == self._DATA else self.peek(offset)

    def write(self, offset: int, value: int) -> None:
        """Writes a register; DATA sends."""
        if offset == self._DATA:
            self._port.transmit(value & 0xFF)
        else:
            self._words[offset] = value
        self._port.on_change()

    def _receives(self) -> bool:
        on = self._words.get(self._CONTROL, 0) & self._ON == self._ON
        return on and self._port.has_input


class Lpuart:
    """The LPUART of i.MX RT, of which status, data and their interrupts work; its FIFOs do not."""

    _STATUS, _CONTROL, _DATA = 0x14, 0x18, 0x1C
    _RDRF, _TC, _TDRE = (
        1 << 21,
        1 << 22,
        1 << 23,
    )  # in STATUS; the same bits of CONTROL enable interrupts
    _RE = 1 << 18  # in CONTROL

    def __init__(self, port: Port) -> None:
        """Disabled."""
        self._port = port
        self._words: dict[int, int] = {}

    def line(self) -> bool:
        """Whether it asks for an interrupt."""
        enabled = self._words.get(self._CONTROL, 0) & (self._RDRF | self._TC | self._TDRE)
        return bool(enabled & self._flags())

    def peek(self, offset: int) -> int:
        """Reads a register without effects."""
        if offset == self._STATUS:
            return self._flags()
        if offset == self._DATA:
            return self._port.first()
        return self._words.get(offset, 0)

    def read(self, offset: int) -> int:
        """Reads a register; DATA gives the next byte."""
        if offset == self._STATUS:
            self._port.polled()
        return self._port.next() if offset == self._DATA else self.peek(offset)

    def write(self, offset: int, value: int) -> None:
        """Writes a register; DATA sends."""
        if offset == self._DATA:
            self._port.transmit(value & 0xFF)
        elif offset != self._STATUS:
            self._words[offset] = value
        self._port.on_change()

    def _flags(self) -> int:
        receives = self._port.has_input and self._words.get(self._CONTROL, 0) & self._RE
        return self._TDRE | self._TC | (self._RDRF if receives else 0)


Device = Stm32Uart | NrfUart | Pl011 | Lpuart  # with one interrupt line


def attach(uarts: tuple[family.Uart, ...], bus: Bus, interrupts: Interrupts) -> Mapping[str, Port]:
    """Puts serial ports on a bus and wires their interrupts; returns them by name."""
    ports = {}
    for uart in uarts:
        port = ports[uart.name] = Port()
        if uart.kind == "cmsdk":
            cmsdk = CmsdkUart(port)
            bus.attach(uart.base, 0x14, cmsdk)
            interrupts.connect(uart.irq, cmsdk.receive_line)
            interrupts.connect(uart.transmit_irq, cmsdk.transmit_line)
        else:
            device, size = _device(uart, port)
            bus.attach(uart.base, size, device)
            interrupts.connect(uart.irq, device.line)
    return ports


def _device(uart: family.Uart, port: Port) -> tuple[Device, int]:
    """A port with one interrupt line, and the bytes of its registers."""
    if uart.kind == "nrf":
        return NrfUart(port), 0x600
    if uart.kind == "pl011":
        return Pl011(port), 0x48
    if uart.kind == "lpuart":
        return Lpuart(port), 0x30
    return Stm32Uart(port, v2=uart.kind == "stm32-v2"), 0x30
