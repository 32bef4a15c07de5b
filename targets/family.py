"""Families of microcontrollers: what firmware finds at peripheral addresses, read from TOML.

A family is data for an emulator: registers that keep what is written, and the few rules without
which start-up code would wait for ever. It is data for firmware too, which needs to know how to make
its console usable after reset. Optional keys for that (targets/wiring.py, targets/console.py):

    reset_hz        clock of core and UARTs after reset and [[setup]], in whole MHz
    cycle_timer     base of an nRF timer at the core's clock, where the core has no SysTick
    [[setup]]       register, and clear, set, until (masks), wait (turns of a loop): before all else
    uart_hz         clock of the UARTs, where it is another than the core's
    [gpio]          kind, base, stride, clock, first, pads: ports whose pins a board names in its [pins]
    [[uarts]]       enable = [[register, bit], ...]: clocks to switch on; low_power = true: an LPUART

A board adds `[pins]` (tx, rx, function), `baud` and `[[setup]]` of its own.

Adding a family means adding a file to families/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, cast

from targets import tables, wiring
from targets.errors import UsageError
from targets.tables import Table
from targets.wiring import Gpio, Step

FOLDER = Path(__file__).parent / "families"
PAGE = 1024  # the granularity of what the emulator maps

UartKind = Literal["stm32-v1", "stm32-v2", "cmsdk", "nrf", "pl011", "lpuart"]
UART_KINDS: tuple[UartKind, ...] = ("stm32-v1", "stm32-v2", "cmsdk", "nrf", "pl011", "lpuart")

_KEYS = {"description": str, "priority_bits": int, "ranges": list}
_OPTIONAL = {
    "aliases": list,
    "ready": list,
    "copies": list,
    "constants": list,
    "uarts": list,
    "timers": list,
    "reset_hz": int,
    "uart_hz": int,
    "cycle_timer": int,
    "setup": list,
    "gpio": dict,
}
_UART_OPTIONAL = {"transmit_irq": int, "enable": list, "low_power": bool}


@dataclass(frozen=True, slots=True)
class Range:
    """Addresses of peripherals."""

    base: int
    size: int


@dataclass(frozen=True, slots=True)
class Alias:
    """A second base address of the flash bank at `of`, from which code may run too."""

    base: int
    of: int


@dataclass(frozen=True, slots=True)
class Copy:
    """Bits of a register that read as other bits of it: "ready" as "on", "status" as "switch"."""

    register: int
    from_bit: int
    to_bit: int
    width: int


@dataclass(frozen=True, slots=True)
class Constant:
    """Bits that always read as ones, and bits that always read as zeros."""

    register: int
    ones: int
    zeros: int


@dataclass(frozen=True, slots=True)
class Uart:
    """A serial port; `transmit_irq` equals `irq` where one line serves both directions."""

    name: str
    kind: UartKind
    base: int
    irq: int
    transmit_irq: int
    enable: tuple[tuple[int, int], ...] = ()  # (register, bit) of each clock that it needs
    low_power: bool = False  # an LPUART, whose divisor counts 256ths


@dataclass(frozen=True, slots=True)
class Timer:
    """A general-purpose timer in the layout of STM32, used as a time source."""

    name: str
    base: int
    bits: int


@dataclass(frozen=True, slots=True)
class Family:
    """The peripherals of a family, as far as firmware needs them to run."""

    name: str
    description: str
    priority_bits: int  # of the interrupt controller
    ranges: tuple[Range, ...]
    aliases: tuple[Alias, ...]
    copies: tuple[Copy, ...]
    constants: tuple[Constant, ...]
    uarts: tuple[Uart, ...]
    timers: tuple[Timer, ...]
    reset_hz: int = 0  # 0: not known
    uart_hz: int = 0  # 0: the core's
    cycle_timer: int = 0  # 0: the core's own SysTick serves
    setup: tuple[Step, ...] = ()
    gpio: Gpio | None = None

    @property
    def numbered_pins(self) -> bool:
        """Whether serial ports choose their pins themselves, by number."""
        return any(uart.kind == "nrf" for uart in self.uarts)

    def uart(self, name: str) -> Uart:
        """A serial port by name."""
        for uart in self.uarts:
            if uart.name == name:
                return uart
        known = tuple(uart.name for uart in self.uarts)
        hint = tables.closest(name, known)
        raise UsageError(f"family '{self.name}' has no UART '{name}'", hint=hint)


def names() -> tuple[str, ...]:
    """The families that come with thumbnet, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


@cache
def load(name: str) -> Family:
    """A family by name."""
    if name not in names():
        raise UsageError(f"unknown family '{name}'", hint=tables.closest(name, names()))
    return read(FOLDER / f"{name}.toml")


def read(path: Path) -> Family:
    """A family from a file."""
    table = tables.check(path, "", tables.read(path), _KEYS, _OPTIONAL)
    bits = cast(int, table["priority_bits"])
    if not 2 <= bits <= 8:
        raise UsageError(f"{path}: 'priority_bits' must be 2 to 8")
    return Family(
        name=path.stem,
        description=str(table["description"]),
        priority_bits=bits,
        ranges=tuple(_ranges(path, table)),
        aliases=tuple(_aliases(path, table)),
        copies=(*_ready(path, table), *_copies(path, table)),
        constants=tuple(_constants(path, table)),
        uarts=tuple(_uarts(path, table)),
        timers=tuple(_timers(path, table)),
        reset_hz=_frequency(path, table, "reset_hz"),
        uart_hz=_frequency(path, table, "uart_hz"),
        cycle_timer=cast(int, table.get("cycle_timer", 0)),
        setup=tuple(wiring.steps(path, table)),
        gpio=wiring.gpio(path, table),
    )


def _frequency(path: Path, table: Table, key: str) -> int:
    frequency = cast(int, table.get(key, 0))
    if frequency < 0 or frequency % 1_000_000:
        raise UsageError(f"{path}: '{key}' must be a whole number of MHz")
    return frequency


def _ranges(path: Path, table: Table) -> Iterator[Range]:
    for i, row in enumerate(tables.rows(path, "ranges", table, {"base": int, "size": int})):
        base, size = _int(row, "base"), _int(row, "size")
        _check_pages(path, f"ranges[{i}]", base, size)
        yield Range(base, size)


def _aliases(path: Path, table: Table) -> Iterator[Alias]:
    for i, row in enumerate(tables.rows(path, "aliases", table, {"base": int, "of": int})):
        alias = Alias(_int(row, "base"), _int(row, "of"))
        _check_pages(path, f"aliases[{i}]", alias.base, PAGE)
        yield alias


def _check_pages(path: Path, where: str, base: int, size: int) -> None:
    if base % PAGE or size % PAGE or base < 0 or size <= 0 or base + size > 1 << 32:
        raise UsageError(f"{path}: '{where}' must be whole units of {PAGE} bytes within 4 GiB")


def _ready(path: Path, table: Table) -> Iterator[Copy]:
    """[[ready]]: pairs of bits [on, ready] of a register."""
    for i, row in enumerate(tables.rows(path, "ready", table, {"register": int, "bits": list})):
        for pair in cast(list[object], row["bits"]):
            where = f"ready[{i}].bits"
            if not (isinstance(pair, list) and len(pair) == 2 and all(map(_is_bit, pair))):
                raise UsageError(f"{path}: '{where}' must be pairs of bits like [0, 1]")
            yield Copy(_word(path, f"ready[{i}].", row), pair[0], pair[1], 1)


def _copies(path: Path, table: Table) -> Iterator[Copy]:
    keys = {"register": int, "from": int, "to": int, "width": int}
    for i, row in enumerate(tables.rows(path, "copies", table, keys)):
        copy = Copy(
            _word(path, f"copies[{i}].", row),
            *(_int(row, key) for key in ("from", "to", "width")),
        )
        last = max(copy.from_bit, copy.to_bit) + copy.width - 1
        if not (copy.width > 0 and min(copy.from_bit, copy.to_bit) >= 0 and _is_bit(last)):
            raise UsageError(f"{path}: 'copies[{i}]' must lie within a word")
        yield copy


def _constants(path: Path, table: Table) -> Iterator[Constant]:
    """[[constants]]: bits that always read as ones, or as zeros, in each of some registers."""
    keys, optional = {"registers": list}, {"ones": int, "zeros": int}
    for i, row in enumerate(tables.rows(path, "constants", table, keys, optional)):
        where = f"constants[{i}]."
        masks = tuple(cast(int, row.get(key, 0)) for key in optional)
        if not all(0 <= mask < 1 << 32 for mask in masks):
            raise UsageError(f"{path}: '{where}ones' and '{where}zeros' must be words")
        for register in tables.integers(path, where, row, "registers"):
            _check_word(path, f"{where}registers", register)
            yield Constant(register, *masks)


def _uarts(path: Path, table: Table) -> Iterator[Uart]:
    keys = {"name": str, "kind": str, "base": int, "irq": int}
    for i, row in enumerate(tables.rows(path, "uarts", table, keys, _UART_OPTIONAL)):
        kind = str(row["kind"])
        if kind not in UART_KINDS:
            hint = tables.closest(kind, UART_KINDS)
            raise UsageError(f"{path}: unknown 'uarts[{i}].kind' '{kind}'", hint=hint)
        irq = _int(row, "irq")
        irqs = (irq, cast(int, row.get("transmit_irq", irq)))
        if not all(0 <= number < 480 for number in irqs):
            raise UsageError(f"{path}: 'uarts[{i}]' must have interrupts 0 to 479")
        base = _int(row, "base")
        _check_word(path, f"uarts[{i}].base", base)
        enable = tuple(_enables(path, f"uarts[{i}].enable", row))
        low_power = bool(row.get("low_power", False))
        yield Uart(str(row["name"]), kind, base, *irqs, enable, low_power)


def _enables(path: Path, where: str, row: Table) -> Iterator[tuple[int, int]]:
    for pair in cast(list[object], row.get("enable", [])):
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(v) is int for v in pair)):
            raise UsageError(f"{path}: '{where}' must be pairs like [0x4002_1000, 4]")
        register, bit = pair
        _check_word(path, where, register)
        if not _is_bit(bit):
            raise UsageError(f"{path}: '{where}' must name bits 0 to 31")
        yield register, bit


def _timers(path: Path, table: Table) -> Iterator[Timer]:
    for i, row in enumerate(
        tables.rows(path, "timers", table, {"name": str, "base": int, "bits": int})
    ):
        bits = _int(row, "bits")
        if bits not in (16, 32):
            raise UsageError(f"{path}: 'timers[{i}].bits' must be 16 or 32")
        _check_word(path, f"timers[{i}].base", _int(row, "base"))
        yield Timer(str(row["name"]), _int(row, "base"), bits)


def _word(path: Path, where: str, row: Table) -> int:
    _check_word(path, f"{where}register", _int(row, "register"))
    return _int(row, "register")


def _check_word(path: Path, where: str, address: int) -> None:
    if address % 4 or not 0 <= address < 1 << 32:
        raise UsageError(f"{path}: '{where}' must be the address of a word")


def _is_bit(value: object) -> bool:
    return type(value) is int and 0 <= value < 32


def _int(row: Table, key: str) -> int:
    return cast(int, row[key])
