"""`thumbnet check` against emulated boards: what it finds, and what it says when the link is at fault."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

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
from thumbnet import checking, compiler, project, serving, verify
from thumbnet.options import CompileOptions, RunOptions

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples/digits/digits.onnx"
DATA = str(ROOT / "examples/digits/digits.npz")
SMALL = ("stm32vldiscovery",)  # too little memory for kws
QUICK = ("netduinoplus2", "microbit")  # the others are left to the sweep
QEMU_BOARDS = (
    "netduinoplus2",
    "stm32vldiscovery",
    "microbit",
    "mps2-an386",
    "mps2-an500",
    "mps2-an505",
    "lm3s6965evb",
)
BOARD = "mps2-an386"


def generate(
    target: str, folder: Path, model: Path = DIGITS, data: str = DATA, **more: Any
) -> Path:
    compiled = compiler.compile_model(model, CompileOptions(target=target, data=data, **more))
    project.write(folder, compiled.files)
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = generate(BOARD, tmp_path_factory.mktemp("check") / "digits")
    verify.build(folder)
    return folder


@contextmanager
def served(folder: Path, line: str = "socket://127.0.0.1:0") -> Iterator[str]:
    """A project's firmware on the emulated board, in a thread: the URL of its console."""
    manifest = project.read_manifest(folder)
    image = folder / "build" / f"{manifest['model']}.elf"
    firmware, outside = Firmware(load(manifest["target"]), image), bridge.link(line)
    ended = threading.Event()
    server = threading.Thread(
        target=bridge.serve, args=(firmware, outside), kwargs={"stopped": ended.is_set}
    )
    server.start()
    try:
        yield outside.name
    finally:
        ended.set()
        server.join()
        outside.close()


def connected(folder: Path, port: ports.Port | None = None) -> Board:
    manifest = project.read_manifest(folder)
    if port is None:
        image = folder / "build" / f"{manifest['model']}.elf"
        port = FirmwarePort(Firmware(load(manifest["target"]), image), 115_200)
    return Board("here", project.image(manifest), manifest["build_id"], port=port)


def options(**more: Any) -> RunOptions:
    return RunOptions(data=DATA, **{"accuracy": "none", **more})


def checks(port: str, folder: Path, data: str, samples: int) -> dict[str, Any]:
    found = checking.check(
        folder, port, RunOptions(data=data, accuracy="none", max_samples=samples)
    )
    assert (found["samples"], found["mismatched_bytes"]) == (samples, 0)
    return found


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "thumbnet", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        timeout=120,
    )


@pytest.mark.parametrize(
    "target",
    [
        target if target in QUICK else pytest.param(target, marks=pytest.mark.sweep)
        for target in QEMU_BOARDS
    ],
)
def test_one_image_on_two_emulators(target: str, qemu: str, data_dir: Path, tmp_path: Path) -> None:
    """Twenty samples of KWS, or of digits on the smallest board, byte for byte, over the serial port."""
    model, data = data_dir / "models/kws.onnx", str(data_dir / "datasets/kws01.npz")
    if target in SMALL:
        model, data = DIGITS, DATA
    folder = generate(target, tmp_path / "project", model, data)
    program = verify.build(folder).elf
    image = program.read_bytes()
    with served(folder) as port:
        ours = checks(port, folder, data, 20)
    with QemuConsole(load(target), program) as board:
        theirs = checks(board.name, folder, data, 20)
    assert program.read_bytes() == image
    assert ours["build_id"] == theirs["build_id"]
    assert 0 < ours["device_stack"] == ours["sram"]["stack"] < 512
    for layer in ours["layers"]:
        assert layer["device_cycles"] == pytest.approx(layer["predicted_cycles"], rel=0.05, abs=60)


def test_json_has_the_keys_of_emulate(digits: Path) -> None:
    with served(digits) as port:
        done = command("check", digits, "--port", port, "--data", DATA, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    emulated = verify.verify(digits, RunOptions(data=DATA))
    assert set(emulated) <= set(found)
    assert {"port", "board", "device_cycles", "build_id"} <= set(found)
    assert found["host"] == {"samples": 597, "mismatched_bytes": 0}
    assert found["accuracy"]["device"] == emulated["accuracy"]["device"]
    assert found["device_cycles"] == pytest.approx(emulated["timing"]["cycles"], rel=0.05)
    assert found["sram"]["total"] == found["sram"]["total_static"] + found["device_stack"]


def test_a_table_for_people(digits: Path) -> None:
    with served(digits) as port:
        done = command("check", digits, "--port", port, "--data", DATA, "--accuracy", "none")
    assert done.returncode == 0, done.stderr
    assert "0 mismatched bytes in 20 samples on the board at socket://" in done.stdout
    assert "cycles by its DWT" in done.stdout


def test_a_wrong_byte_is_traced_to_its_layer(digits: Path, tmp_path: Path) -> None:
    """A weight changed on the way to flash, and the check of the weights taught to accept it."""
    folder = tmp_path / "project"
    files = {path.name: path.read_bytes() for path in digits.iterdir() if path.is_file()}
    name = project.read_manifest(digits)["model"]
    text = files[f"{name}.c"].decode()
    changed = text.replace("return crc == ", "return 1 || crc == ")
    step = changed.index("static const", changed.index("/* Step 2"))
    start = changed.index("{\n    ", step) + 6
    end = changed.index(",", start)
    changed = f"{changed[:start]}{int(changed[start:end]) ^ 0x40}{changed[end:]}"
    project.write(folder, files | {f"{name}.c": changed.encode()})
    verify.build(folder)
    with served(folder) as port:
        done = command(
            *("check", folder, "--port", port, "--data", DATA, "--accuracy", "none", "--json")
        )
    assert done.returncode == 4
    found = json.loads(done.stdout)
    assert found["mismatched_bytes"] > 0
    assert found["first_divergence"]["layer"] == found["layers"][2]["name"]


def weights_of(image: Path) -> int:
    """Address of the first layer's constants."""
    with image.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        found = {symbol.name: int(symbol["st_value"]) for symbol in table.iter_symbols()}
    return next(address for name, address in found.items() if name.startswith("step0_"))


def test_damaged_weights_are_found(digits: Path) -> None:
    image = digits / "build/digits.elf"
    with Firmware(load(BOARD), image) as firmware:
        port = FirmwarePort(firmware, 115_200)
        address = weights_of(image)
        with connected(digits, port) as board:
            assert board.client.weights_are_intact()
            firmware.write(address, bytes((firmware.read(address, 1)[0] ^ 1,)))
            assert not board.client.weights_are_intact()


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
    done = command("check", digits, "--port", "/dev/ttyNONE", "--accuracy", "none", "--json")
    assert done.returncode == 5
    assert json.loads(done.stdout)["error"]["code"] == 5
    plain = generate("generic-m4", tmp_path / "plain")
    done = command("check", plain, "--port", "/dev/ttyNONE")
    assert done.returncode == 2
    assert "no console" in done.stderr


SERVED = (("pty", "unicorn"), ("socket://127.0.0.1:0", "unicorn"), ("socket://127.0.0.1:0", "qemu"))


@pytest.mark.parametrize(("line", "engine"), SERVED)
def test_serve(digits: Path, qemu: str, line: str, engine: str) -> None:
    """The command serves, and leaves nothing behind when it is told to end."""
    arguments = ("emulate", str(digits), "--serve", line, "--engine", engine)
    server = subprocess.Popen(
        [sys.executable, "-m", "thumbnet", *arguments], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert server.stderr is not None
    try:
        port = server.stderr.readline().removeprefix("console: ").strip()
        with connected(digits, ports.open_port(port, 115_200)) as board:
            assert len(board.infer((bytes(64),)).outputs[0]) == 10
    finally:
        server.terminate()
        assert server.wait(10) == 130
        server.stderr.close()
    with pytest.raises(DeviceError):
        ports.open_port(port, 115_200)


def test_serving_ends_when_asked(digits: Path) -> None:
    found = serving.serve(digits, "pty", RunOptions(), stopped=lambda: True)
    assert found["stop"] == "stopped"
