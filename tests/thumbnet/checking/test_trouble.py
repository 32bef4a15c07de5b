"""What `thumbnet check` says and survives when the link or the board is at fault."""

from __future__ import annotations

import json
import random
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from codegen import graph_file
from emulator import bridge
from emulator.firmware import Firmware
from emulator.firmware_port import FirmwarePort
from emulator.qemu_console import QemuConsole
from targets import load
from targets.errors import DeviceError
from targets.link import ports
from targets.link.board import Board, WrongBuild
from targets.link.client import Client, Faulted, Garbage, NoAnswer
from targets.link.messages import Area
from tests.thumbnet.checking.boards import BOARD, connected, generate, options, served
from tests.thumbnet.test_cli import thumbnet
from thumbnet import checking, compiler, project, verify


class BadLine:
    """A port whose line loses bytes, in both directions."""

    def __init__(self, port: FirmwarePort, loss: float, seed: int) -> None:
        self._port, self._loss, self._random = port, loss, random.Random(seed)
        self.baudrate = port.baudrate
        self.lost = 0

    def read(self, size: int) -> bytes:
        return self._through(self._port.read(size))

    def write(self, data: bytes) -> int:
        return self._port.write(self._through(data))

    def close(self) -> None:
        self._port.close()

    def _through(self, data: bytes) -> bytes:
        kept = bytes(byte for byte in data if self._random.random() >= self._loss)
        self.lost += len(data) - len(kept)
        return kept


def test_survives_one_lost_byte_in_a_hundred(digits: Path) -> None:
    image = digits / "build/digits.elf"
    line = BadLine(FirmwarePort(Firmware(load(BOARD), image), 115_200), 0.01, seed=4)
    graph_inputs = np.random.default_rng(0).integers(-128, 128, (10, 64)).astype(np.int8)
    with connected(digits) as good:
        wanted = [good.infer((x.tobytes(),)).outputs for x in graph_inputs]
    with connected(digits, line) as board:
        assert [board.infer((x.tobytes(),)).outputs for x in graph_inputs] == wanted
        assert board.client.read(Area.ARENA, 0, 2000) == board.client.read(Area.ARENA, 0, 2000)
        assert board.counts.again > 0
    assert line.lost > 30


def test_a_request_is_executed_once_though_its_answer_is_lost(digits: Path) -> None:
    """A run consumes its input: the same request again must not run again."""

    class Forgetful(FirmwarePort):
        forgets = False

        def read(self, size: int) -> bytes:
            data = super().read(size)
            if self.forgets and data:
                self.forgets = False
                return b""
            return data

    port = Forgetful(Firmware(load(BOARD), digits / "build/digits.elf"), 115_200)
    x = bytes(range(64))
    with connected(digits, port) as board:
        wanted = board.infer((x,)).outputs
        board.client.write_input(0, x)
        port.forgets = True
        board.client.run(0, board.hello.steps)
        assert board.counts.again >= 1
        assert board.client.read(Area.OUTPUT, 0, 10) == wanted[0]


def test_another_build_is_refused(digits: Path, tmp_path: Path) -> None:
    other = generate(BOARD, tmp_path / "other", weights="int8", optimize="speed", name="other")
    with (
        served(digits) as port,
        pytest.raises(WrongBuild, match=r"runs another build: digits for mps2-an386") as caught,
    ):
        checking.check(other, port, options())
    assert caught.value.exit_code == 5
    assert "flash" in caught.value.hint


def test_a_fault_is_reported_in_names(qemu: str, digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    files = {path.name: path.read_bytes() for path in digits.iterdir() if path.is_file()}
    text = files["digits.c"].decode()
    bad = "    case 2u:\n        *(volatile int *)0xfffffff0u = 0;\n"
    project.write(folder, files | {"digits.c": text.replace("    case 2u:\n", bad).encode()})
    program = verify.build(folder).elf
    manifest = project.read_manifest(folder)
    graph = graph_file.load(folder / project.REFERENCE)
    inputs = (np.zeros((1, *manifest["inputs"][0]["shape"][1:]), np.int8),)
    with QemuConsole(load(BOARD), program) as emulated:
        # Not check(): it would end with a prediction, which meets the same fault.
        there = Board(emulated.name, project.image(manifest), manifest["build_id"])
        with pytest.raises(Faulted) as caught:
            checking.on_board(there, graph, manifest, inputs, inputs, compiler.silent, program)
    assert caught.value.exit_code == 5
    layer = manifest["layers"][2]["name"]
    assert "bus error" in caught.value.message
    assert "in digits_run_step, lr 0x" in caught.value.message
    assert caught.value.message.endswith(f"layer {layer}")
    assert caught.value.details["fault"]


def test_a_port_that_goes_away(digits: Path) -> None:
    """The far end ends in the middle of a run: exit code 5 within three seconds."""
    manifest = project.read_manifest(digits)
    with QemuConsole(load(BOARD), digits / "build/digits.elf") as emulated:
        link = Board(emulated.name, project.image(manifest), manifest["build_id"])
        with link as board:
            board.infer((bytes(64),))
            emulated.__exit__()
            start = time.monotonic()
            with pytest.raises(DeviceError, match=r"the port has gone|does not answer") as caught:
                board.infer((bytes(64),))
            assert time.monotonic() - start < 3
    assert caught.value.exit_code == 5


def test_a_silent_board(digits: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = Client(ports.open_port(f"socket://127.0.0.1:{server.getsockname()[1]}", 115_200))
        start = time.monotonic()
        with pytest.raises(NoAnswer, match=r"does not answer at 115200 baud"):
            client.hello()
        assert 2 < time.monotonic() - start < 3.5
        client.close()


def test_something_else_answers() -> None:
    class Chatter:
        baudrate = 115_200

        def read(self, size: int) -> bytes:
            time.sleep(0.01)
            return b"login: \0"

        def write(self, data: bytes) -> int:
            return len(data)

        def close(self) -> None:
            pass

    with pytest.raises(Garbage, match=r"not in frames: .*login") as caught:
        Client(Chatter()).hello(0.3)
    assert "--baud" in caught.value.hint


def test_ports_that_do_not_open(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"there is no /dev/ttyNONE"):
        ports.open_port("/dev/ttyNONE", 115_200)
    with pytest.raises(DeviceError, match=r"nothing listens at socket://127.0.0.1:1"):
        ports.open_port("socket://127.0.0.1:1", 115_200)
    with pytest.raises(DeviceError, match=r"cannot open wrong://"):
        ports.open_port("wrong://", 115_200)
    terminal = bridge.Pty()
    try:
        first = ports.open_port(terminal.name, 115_200)
        with pytest.raises(DeviceError, match=r"is in use.* \(process \d+\)"):
            ports.open_port(terminal.name, 115_200)
        first.close()
    finally:
        terminal.close()
    refused = ports._refusal("/dev/ttyACM0", PermissionError(13, "Permission denied"))
    assert "may not be opened" in refused.message
    assert "dialout" in refused.hint


def test_exit_codes(digits: Path, tmp_path: Path) -> None:
    done = thumbnet("check", digits, "--port", "/dev/ttyNONE", "--accuracy", "none", "--json")
    assert done.returncode == 5
    assert json.loads(done.stdout)["error"]["code"] == 5
    plain = generate("generic-m4", tmp_path / "plain")
    done = thumbnet("check", plain, "--port", "/dev/ttyNONE")
    assert done.returncode == 2
    assert "no console" in done.stderr
