"""`thumbnet check` against emulated boards: what it finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from emulator.firmware import Firmware
from emulator.firmware_port import FirmwarePort
from emulator.qemu_console import QemuConsole
from targets import load
from tests.thumbnet.checking.boards import (
    BOARD,
    DATA,
    DIGITS,
    QEMU_BOARDS,
    QUICK,
    SMALL,
    checks,
    connected,
    generate,
    served,
)
from tests.thumbnet.test_cli import thumbnet
from thumbnet import project, verify
from thumbnet.options import RunOptions


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
        done = thumbnet("check", digits, "--port", port, "--data", DATA, "--json")
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
        done = thumbnet("check", digits, "--port", port, "--data", DATA, "--accuracy", "none")
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
        done = thumbnet(
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
