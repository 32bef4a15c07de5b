"""A board of each family that the emulator knows answers over its emulated UART."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codegen import graph_file, reference
from emulator.firmware import Firmware
from emulator.firmware_port import FirmwarePort
from targets import console, family, load, names
from targets.link.board import Board
from thumbnet import compiler, project, verify
from thumbnet.options import CompileOptions, RunOptions

DIGITS = Path(__file__).resolve().parents[2] / "examples/digits"
DATA = str(DIGITS / "digits.npz")
SAMPLES = 3
BOARDS = {  # of each family one, and the clock that it states
    "arduino-nano33ble": 64_000_000,  # pins beyond 31, and a boot loader before the image
    "microbit-v2": 64_000_000,
    "nucleo-f401re": 16_000_000,
    "nucleo-f746zg": 16_000_000,
    "nucleo-g071rb": 16_000_000,
    "nucleo-h743zi": 64_000_000,
    "nucleo-h7a3zi-q": 64_000_000,
    "nucleo-l476rg": 4_000_000,
    "nucleo-u575zi-q": 4_000_000,
    "pico": 12_000_000,
    "pico2": 12_000_000,
    "teensy41": 396_000_000,
}
ELSEWHERE = {"mps2", "mps2-tz", "nrf51", "stellaris", "stm32f1"}  # tested in checking/test_check.py


@pytest.mark.parametrize(
    "target",
    [
        target if index % 5 == 0 else pytest.param(target, marks=pytest.mark.sweep)
        for index, target in enumerate(BOARDS)
    ],
)
def test_a_board_answers_over_its_uart(target: str, tmp_path: Path) -> None:
    options = CompileOptions(target=target, data=DATA, calib_samples=16, method="minmax")
    project.write(tmp_path, compiler.compile_model(DIGITS / "digits.onnx", options).files)
    manifest = project.read_manifest(tmp_path)
    built = verify.build(tmp_path)
    port = FirmwarePort(Firmware(load(target), built.elf), 115_200)
    graph = graph_file.load(tmp_path / project.REFERENCE)
    inputs = verify.stored_inputs(
        graph, verify.samples_of(graph, RunOptions(data=DATA)).head(SAMPLES)
    )
    expected = reference.run(graph, inputs)[0]
    board = Board("here", project.image(manifest), manifest["build_id"], port=port)
    with board:
        assert (board.hello.target, board.hello.clock_hz) == (target, BOARDS[target])
        assert board.client.weights_are_intact()
        for index in range(SAMPLES):
            found = board.infer((inputs[0][index].tobytes(),))
            answer = np.frombuffer(found.outputs[0], np.int8)
            assert (answer == expected[index].ravel()).all()


def test_no_family_is_left_out() -> None:
    assert {load(board).family for board in BOARDS} | ELSEWHERE == set(family.names())
    for board in names():
        assert (console.of(load(board)) is not None) == bool(load(board).family), board
