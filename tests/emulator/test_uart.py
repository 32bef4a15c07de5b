"""Serial ports of each kind, and the console on TCP and on a pseudo-terminal, as a tool opens them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import serial

from emulator import bridge
from emulator.firmware import Firmware
from emulator.uart import CmsdkUart, Port, Stm32Uart
from targets import load
from targets.errors import DeviceError, UsageError
from tests.emulator.whole import build

BOARDS = (
    "nucleo-g0b1re",
    "nucleo-l4r5zi",
    "nucleo-u575zi-q",
    "netduinoplus2",
    "mps2-an386",
    "mps2-an505",
)


@pytest.mark.parametrize("board", BOARDS)
def test_echo_by_interrupt(tmp_path: Path, board: str) -> None:
    with Firmware(load(board), build(board, "echo", tmp_path)) as firmware:
        assert firmware.run(until=b"hi\n") == "until"
        assert firmware.run() == "idle"
        firmware.send(b"HAL")
        assert firmware.run() == "idle"
        assert firmware.received == b"hi\nIBM"
        firmware.send(b"R")
        assert firmware.run() == "reset"
        assert firmware.received_from(6) == b"S"


@contextmanager
def served(tmp_path: Path, line: bridge.Link) -> Iterator[str]:
    """An echoing firmware on a line, in a thread."""
    board = "nucleo-l4r5zi"
    over = threading.Event()
    with Firmware(load(board), build(board, "echo", tmp_path)) as firmware:
        ended: list[str] = []

        def serve() -> None:
            ended.append(bridge.serve(firmware, line, stopped=over.is_set))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield line.name
        finally:
            over.set()
            thread.join(10)
            line.close()
    assert ended == ["stopped"]


def talk(url: str) -> bytes:
    with serial.serial_for_url(url, timeout=10) as port:
        port.write(b"abc")
        return bytes(port.read(3))


def test_tcp(tmp_path: Path) -> None:
    with served(tmp_path, bridge.link("tcp:0")) as url:
        assert url.startswith("socket://127.0.0.1:")
        assert talk(url) == b"bcd"
        assert talk(url) == b"bcd"  # a second client after the first


def test_pty(tmp_path: Path) -> None:
    with served(tmp_path, bridge.link("pty")) as path, serial.Serial(path, timeout=10) as port:
        port.write(b"\x03\x0d")  # raw: neither an interrupt nor a new line
        # A greeting may come first: opening a port drops what has arrived before.
        assert port.read_until(b"\x04\x0e").endswith(b"\x04\x0e")


def test_limit_and_lines(tmp_path: Path) -> None:
    board = "nucleo-l4r5zi"
    with Firmware(load(board), build(board, "echo", tmp_path)) as firmware:
        assert bridge.serve(firmware, bridge.Unheard(), max_cycles=5) == "cycles"
        assert bridge.serve(firmware, bridge.Unheard()) == "idle"  # no input can come
        assert firmware.received == b"hi\n"
    with pytest.raises(UsageError, match="unknown line 'serial'"):
        bridge.link("serial")
    with pytest.raises(DeviceError, match="cannot listen on TCP port 70000"):
        bridge.link("tcp:70000")


def test_stm32_registers() -> None:
    port, sent = Port(), list[int]()
    port.on_transmit = sent.append
    uart = Stm32Uart(port, v2=True)
    port.send(b"xy")
    assert uart.read(0x1C) == 0xC0  # the receiver is off
    uart.write(0x00, 0b1101)
    assert uart.read(0x1C) == 0xC0 | 0x20 | 0b11 << 21
    assert not uart.line()
    uart.write(0x00, 0b10_1101)
    assert uart.line()
    assert uart.peek(0x24) == ord("x")
    assert [uart.read(0x24), uart.read(0x24), uart.read(0x24)] == [*b"xy", 0]
    assert not uart.line()
    uart.write(0x28, 0x141)
    assert sent == [0x41]
    uart.write(0x00, 0b1000_1101)  # TXEIE: always ready
    assert uart.line()


def test_cmsdk_registers() -> None:
    port, sent = Port(), list[int]()
    port.on_transmit = sent.append
    uart = CmsdkUart(port)
    port.send(b"z")
    assert uart.read(0x4) == 0
    uart.write(0x8, 0b1111)
    assert uart.read(0x4) == 2
    assert uart.receive_line() and not uart.transmit_line()
    uart.write(0x0, 0x42)
    assert uart.transmit_line() and sent == [0x42]
    assert uart.read(0xC) == 3
    uart.write(0xC, 1)
    assert not uart.transmit_line()
    assert uart.read(0x0) == ord("z")
    assert not uart.receive_line()
