"""A board's console as its firmware sets it up: steps after reset, and the divisor of the baud rate."""

from __future__ import annotations

from dataclasses import dataclass

from targets import family
from targets.errors import UsageError
from targets.family import Uart, UartKind
from targets.target import Target
from targets.wiring import Step, pin_steps

# BAUDRATE of the UART of nRF51 and nRF52: about baud * 2^32 / 16 MHz, in the values that the manual lists.
_NRF_BAUD = {
    9_600: 0x0027_5000,
    38_400: 0x009D_5000,
    57_600: 0x00EB_F000,
    115_200: 0x01D7_E000,
    230_400: 0x03AF_B000,
    460_800: 0x075F_7000,
    921_600: 0x0EBE_DFA4,
}
LPUART_OVERSAMPLING = 16  # samples per bit
MOST_ERROR = 0.025  # of a baud rate that both sides still understand


@dataclass(frozen=True, slots=True)
class Console:
    """What firmware needs to know.

    Attributes:
        uart: the port; `kind` says which driver serves it.
        clock_hz: of the core after reset: firmware changes no clock unless a step does.
        baud: bits per second.
        uart_hz: clock of the port.
        divisor: what the port's baud register takes.
        fraction: of the divisor, where a register of its own holds it (PL011).
        steps: accesses to clocks and pins, in order.
        tx: pin number, for ports that choose their pins themselves (nRF).
        rx: the same.
        timer: base address of a 32-bit timer that counts the core's cycles, for cores without SysTick.
    """

    uart: Uart
    clock_hz: int
    baud: int
    uart_hz: int
    divisor: int
    fraction: int
    steps: tuple[Step, ...]
    tx: int
    rx: int
    timer: int

    @property
    def kind(self) -> UartKind:
        """Of the port."""
        return self.uart.kind


def of(target: Target) -> Console | None:
    """The console of a target; None where its files do not say how to set one up.

    Raises:
        UsageError: they say something impossible.
    """
    if not target.family:
        return None
    known = family.load(target.family)
    wiring = target.wiring
    if not known.reset_hz or ((known.gpio or known.numbered_pins) and not wiring.tx):
        return None
    uart = known.uart(target.console)
    uart_hz = known.uart_hz or known.reset_hz
    divisor, fraction = _divisors(uart, uart_hz, wiring.baud)
    clock = tuple(
        Step(register, set=1 << bit, what=f"clock of {uart.name}") for register, bit in uart.enable
    )
    pins: tuple[Step, ...] = ()
    if known.gpio:
        for name, receives in ((wiring.tx, False), (wiring.rx, True)):
            pins += pin_steps(known.gpio, name, wiring.function, receives)
    numbered = uart.kind == "nrf"
    return Console(
        uart=uart,
        clock_hz=known.reset_hz,
        baud=wiring.baud,
        uart_hz=uart_hz,
        divisor=divisor,
        fraction=fraction,
        steps=(*known.setup, *wiring.setup, *clock, *pins),
        tx=_number(wiring.tx) if numbered else 0,
        rx=_number(wiring.rx) if numbered else 0,
        timer=known.cycle_timer,
    )


def _number(pin: str) -> int:
    if not pin.isdigit() or int(pin) > 47:
        raise UsageError(f"'{pin}' is no pin number", hint="like 24 for P0.24")
    return int(pin)


def _divisors(uart: Uart, clock_hz: int, baud: int) -> tuple[int, int]:
    """Baud register and, for PL011, its fraction in 64ths."""
    if uart.kind == "nrf":
        if baud not in _NRF_BAUD:
            hint = "known: " + ", ".join(map(str, _NRF_BAUD))
            raise UsageError(f"{uart.name} has no setting for {baud} baud", hint=hint)
        return _NRF_BAUD[baud], 0
    if uart.kind == "pl011":
        parts = round(clock_hz * 4 / baud)  # 64ths of clock / (16 * baud)
        _check(uart, baud, clock_hz * 4 / parts if parts else 0)
        return parts // 64, parts % 64
    if uart.kind == "lpuart":
        divisor = round(clock_hz / (LPUART_OVERSAMPLING * baud))
        _check(uart, baud, clock_hz / (LPUART_OVERSAMPLING * divisor) if divisor else 0)
        return divisor, 0
    factor = 256 if uart.low_power else 1
    divisor = round(clock_hz * factor / baud)
    _check(uart, baud, clock_hz * factor / divisor if divisor >= 16 else 0)
    return divisor, 0


def _check(uart: Uart, baud: int, real: float) -> None:
    if abs(real / baud - 1) > MOST_ERROR:
        raise UsageError(f"{uart.name} cannot do {baud} baud with its clock after reset")
