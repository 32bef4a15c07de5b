"""What firmware does to a board's console after reset, from the data of family and board."""

from __future__ import annotations

from dataclasses import replace

import pytest

from targets import console, load, names
from targets.errors import UsageError
from targets.wiring import Gpio, Step, Wiring, pin_steps

CONSOLES = {
    "lm3s6965evb": ("pl011", 8_000_000, 4, 22),  # 8 MHz / (16 * 115200) = 4 + 22/64
    "microbit": ("nrf", 16_000_000, 0x01D7_E000, 0),
    "mps2-an386": ("cmsdk", 25_000_000, 217, 0),
    "mps2-an505": ("cmsdk", 20_000_000, 174, 0),
    "netduinoplus2": ("stm32-v1", 16_000_000, 139, 0),
    "nucleo-l4r5zi": ("stm32-v2", 4_000_000, 8889, 0),  # 256ths: an LPUART
    "stm32vldiscovery": ("stm32-v1", 8_000_000, 69, 0),
}


@pytest.mark.parametrize("name", CONSOLES)
def test_divisors(name: str) -> None:
    found = console.of(load(name))
    assert found is not None
    assert (found.kind, found.clock_hz, found.divisor, found.fraction) == CONSOLES[name]
    assert found.baud == 115_200


@pytest.mark.parametrize("name", names())
def test_every_console_is_possible(name: str) -> None:
    found = console.of(load(name))
    assert found is None or found.uart.name == load(name).console


def test_steps_come_in_order() -> None:
    found = console.of(load("netduinoplus2"))
    assert found is not None
    assert found.steps[0] == Step(0x4002_3844, set=1 << 4, what="clock of usart1")
    assert [step.register for step in found.steps[1:4]] == [0x4002_3830, 0x4002_0420, 0x4002_0400]
    assert found.steps[2].set == 7 << 24  # PB6


def test_pins_of_both_kinds() -> None:
    old = Gpio("stm32f1", 0x4001_0800, 0x400, 0x4002_1018, 2)
    clock, mode = pin_steps(old, "PA9", 0, receives=False)
    assert clock.set == 1 << 2
    assert (mode.register, mode.clear, mode.set) == (0x4001_0804, 0xF0, 0xB0)
    for wrong in ("A9", "PA16", "PZ1", ""):
        with pytest.raises(UsageError, match="is no pin"):
            pin_steps(old, wrong, 0, receives=True)


def test_what_cannot_be() -> None:
    board = load("netduinoplus2")
    with pytest.raises(UsageError, match="cannot do 3000000 baud"):
        console.of(replace(board, wiring=replace(board.wiring, baud=3_000_000)))
    assert console.of(replace(board, wiring=Wiring())) is None  # no pins are known
    micro = load("microbit")
    with pytest.raises(UsageError, match="no setting for 1234 baud"):
        console.of(replace(micro, wiring=replace(micro.wiring, baud=1234)))
    with pytest.raises(UsageError, match="'PA1' is no pin number"):
        console.of(replace(micro, wiring=replace(micro.wiring, tx="PA1")))
