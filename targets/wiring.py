"""How firmware makes a serial port usable after reset: clocks to switch on, pins, and the baud rate.

Facts come from a family's TOML and a board's; what they give together is a Console: register writes in
order and one divisor, so that the C around a UART's data registers holds no knowledge of any part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from targets import tables
from targets.errors import UsageError
from targets.tables import Table

DEFAULT_BAUD = 115_200
GpioKind = Literal["stm32", "stm32f1", "rp2"]
GPIO_KINDS: tuple[GpioKind, ...] = ("stm32", "stm32f1", "rp2")
_STEP_OPTIONAL = {"clear": int, "set": int, "until": int, "wait": int}
_RP2_PINS = 30
_STM32F1_ALTERNATE, _STM32F1_FLOATING = 0xB, 0x4  # fields of CRL and CRH


@dataclass(frozen=True, slots=True)
class Step:
    """One access to a register: clear bits, set bits, wait until any bit of a mask is one, then wait.

    Attributes:
        register: its address.
        clear: bits to clear first.
        set: bits to set.
        until: bits to wait for afterwards; 0: none.
        wait: turns of an empty loop to wait afterwards.
        what: for a comment.
    """

    register: int
    clear: int = 0
    set: int = 0
    until: int = 0
    wait: int = 0
    what: str = ""


@dataclass(frozen=True, slots=True)
class Gpio:
    """The ports of a family: port A at `base`, the next one `stride` bytes on.

    Bit `first` of the register `clock` switches port A on, the next bit port B. Of "rp2", `base` is the
    control register of pin 0, the next pin's `stride` bytes on, and `pads` the register of its pad.
    """

    kind: GpioKind
    base: int
    stride: int
    clock: int = 0
    first: int = 0
    pads: int = 0


@dataclass(frozen=True, slots=True)
class Wiring:
    """A board's own facts about its console: pins like "PA9" or "24", their function, steps before all."""

    tx: str = ""
    rx: str = ""
    function: int = 0
    baud: int = DEFAULT_BAUD
    setup: tuple[Step, ...] = ()


def steps(path: Path, table: Table) -> Iterator[Step]:
    """[[setup]]: register, and clear, set, until (masks), wait (turns of a loop)."""
    for i, row in enumerate(tables.rows(path, "setup", table, {"register": int}, _STEP_OPTIONAL)):
        values = {key: cast(int, value) for key, value in row.items()}
        if not all(0 <= value < 1 << 32 for value in values.values()) or values["register"] % 4:
            raise UsageError(f"{path}: 'setup[{i}]' must hold a word's address and words")
        yield Step(**values)  # type: ignore[arg-type]  # the keys were checked


def gpio(path: Path, table: Table) -> Gpio | None:
    """[gpio]: kind, base, stride; clock and first of STM32; pads of RP2040 and RP2350."""
    if "gpio" not in table:
        return None
    keys = {"kind": str, "base": int, "stride": int}
    optional = {"clock": int, "first": int, "pads": int}
    row = tables.check(path, "gpio.", table["gpio"], keys, optional)
    kind = str(row["kind"])
    if kind not in GPIO_KINDS:
        hint = tables.closest(kind, GPIO_KINDS)
        raise UsageError(f"{path}: unknown 'gpio.kind' '{kind}'", hint=hint)
    needed = ("pads",) if kind == "rp2" else ("clock", "first")
    for key in needed:
        if key not in row:
            raise UsageError(f"{path}: 'gpio.{key}' is missing")
    numbers = ("base", "stride", *optional)
    return Gpio(kind, *(cast(int, row.get(key, 0)) for key in numbers))


def wiring(path: Path, table: Table) -> Wiring:
    """A board's [pins], baud and [[setup]]."""
    keys = {"tx": str, "rx": str}
    row = (
        {}
        if "pins" not in table
        else tables.check(path, "pins.", table["pins"], keys, {"function": int})
    )
    baud = cast(int, table.get("baud", DEFAULT_BAUD))
    if not 300 <= baud <= 12_000_000:
        raise UsageError(f"{path}: 'baud' must be 300 to 12000000")
    return Wiring(
        tx=str(row.get("tx", "")),
        rx=str(row.get("rx", "")),
        function=cast(int, row.get("function", 0)),
        baud=baud,
        setup=tuple(steps(path, table)),
    )


def pin_steps(ports: Gpio, pin: str, function: int, receives: bool) -> tuple[Step, ...]:
    """What connects a pin like "PB7" or "GP1" to a peripheral."""
    if ports.kind == "rp2":
        return _rp2_pin_steps(ports, pin, function, receives)
    found = re.fullmatch(r"P([A-K])(\d+)", pin)
    if found is None or int(found[2]) > 15:
        raise UsageError(f"'{pin}' is no pin", hint="like PA9")
    port, bit = ord(found[1]) - ord("A"), int(found[2])
    base = ports.base + port * ports.stride
    clock = Step(ports.clock, set=1 << ports.first + port, what=f"clock of port {found[1]}")
    half = bit // 8 * 4  # registers with four bits per pin come in pairs
    shift = bit % 8 * 4
    if ports.kind == "stm32f1":
        field = _STM32F1_FLOATING if receives else _STM32F1_ALTERNATE
        mode = Step(base + half, 0xF << shift, field << shift, what=f"{pin}: serial port")
        return clock, mode
    return (
        clock,
        Step(
            base + 0x20 + half, 0xF << shift, function << shift, what=f"{pin}: function {function}"
        ),
        Step(base, 3 << 2 * bit, 2 << 2 * bit, what=f"{pin}: alternate function"),
    )


def _rp2_pin_steps(ports: Gpio, pin: str, function: int, receives: bool) -> tuple[Step, ...]:
    """Function first, then the pad, whose isolation (RP2350) ends last."""
    found = re.fullmatch(r"GP(\d+)", pin)
    if found is None or int(found[1]) >= _RP2_PINS:
        raise UsageError(f"'{pin}' is no pin", hint="like GP0")
    number = int(found[1])
    control = Step(
        ports.base + number * ports.stride, 0x1F, function, what=f"{pin}: function {function}"
    )
    # ISO, OD and the pull-down go; IE comes. An open line must idle high: the receiver is pulled up.
    pad = Step(ports.pads + number * 4, 0x184, 0x48 if receives else 0x40, what=f"{pin}: pad")
    return control, pad
