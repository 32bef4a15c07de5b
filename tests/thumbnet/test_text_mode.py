"""The commands of the MLPerf Tiny runner: a performance run and an accuracy run on the emulated board."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from codegen import graph_file, reference
from emulator.firmware import Firmware
from targets import load
from thumbnet import compiler, emulation, project, verify
from thumbnet.options import CompileOptions, RunOptions

BOARD = "mps2-an386"
SAMPLES = 20
BYTES_PER_COMMAND = 31


class Runner:
    """Sends commands as the benchmark's runner does, and reads up to the prompt."""

    def __init__(self, firmware: Firmware) -> None:
        self._firmware = firmware
        self.greeting = self._answer()

    def ask(self, command: str) -> list[str]:
        self._firmware.send(f"{command}%".encode())
        return self._answer()

    def load(self, data: bytes) -> list[str]:
        answer = self.ask(f"db load {len(data)}")
        assert answer == [f"m-[Expecting {len(data)} bytes]"]
        for start in range(0, len(data), BYTES_PER_COMMAND):
            answer = self.ask(f"db {data[start : start + BYTES_PER_COMMAND].hex()}")
        return answer

    def _answer(self) -> list[str]:
        seen = len(self._firmware.received)
        assert self._firmware.run(until=b"m-ready\r\n") == "until"
        *lines, prompt = self._firmware.received_from(seen).decode().splitlines()
        assert prompt == "m-ready"
        return lines


def laps(lines: list[str]) -> list[int]:
    return [int(line.removeprefix("m-lap-us-")) for line in lines if line.startswith("m-lap-us-")]


def results(lines: list[str]) -> list[float]:
    (text,) = re.findall(r"m-results-\[(.*)\]", "\n".join(lines))
    return [float(value) for value in text.split(",")]


def test_performance_and_accuracy_of_kws(data_dir: Path, tmp_path: Path) -> None:
    data = str(data_dir / "datasets/kws01.npz")
    options = CompileOptions(target=BOARD, data=data)
    compiled = compiler.compile_model(data_dir / "models/kws.onnx", options)
    project.write(tmp_path / "kws", compiled.files)
    built = verify.build(tmp_path / "kws")
    graph = graph_file.load(tmp_path / "kws" / project.REFERENCE)
    samples = verify.samples_of(graph, RunOptions(data=data))
    inputs = verify.stored_inputs(graph, samples.head(SAMPLES))
    (wanted,) = reference.run(graph, inputs)  # what the host build gives, byte for byte
    real = reference.to_real(graph, graph.outputs[0], wanted).reshape(SAMPLES, -1)
    with Firmware(load(BOARD), built.elf) as firmware:
        runner = Runner(firmware)
        assert runner.greeting[0] == "m-timestamp-mode-performance"
        assert runner.greeting[-1] == "m-init-done"
        assert runner.ask("name") == [f"m-name-dut-[{BOARD}]"]
        assert runner.ask("profile")[1] == "m-model-[kws01]"

        found = []
        for (x,) in emulation.samples(inputs):
            assert runner.load(x) == ["m-load-done"]
            found.append(results(runner.ask("infer 1 0")))
        assert np.abs(np.array(found) - real).max() <= 0.0005 + 1e-9
        assert samples.y is not None
        right = np.argmax(found, axis=1) == samples.y[:SAMPLES]
        assert right.mean() == (np.argmax(real, axis=1) == samples.y[:SAMPLES]).mean()

        one = np.diff(laps(runner.ask("infer 1 0")))[0]
        lines = runner.ask("infer 10 3")
        assert lines[:3] == ["m-warmup-start-3", "m-warmup-done", "m-infer-start-10"]
        assert np.diff(laps(lines))[0] == pytest.approx(10 * one, rel=0.01)
        assert results(lines) == found[-1]  # the input is the same each time
        assert results(runner.ask("results")) == found[-1]


def test_commands_that_are_wrong(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2] / "examples/digits"
    options = CompileOptions(target=BOARD, data=str(root / "digits.npz"))
    compiled = compiler.compile_model(root / "digits.onnx", options)
    project.write(tmp_path / "digits", compiled.files)
    with Firmware(load(BOARD), verify.build(tmp_path / "digits").elf) as firmware:
        runner = Runner(firmware)
        for wrong in (
            "nonsense",
            "db",
            "db load",
            "db load 7",
            "db load x",
            "db zz",
            "db 1",
            "infer 0",
            "infer 1",
        ):
            (answer,) = runner.ask(wrong)
            assert answer.startswith("e-["), wrong
        assert runner.ask("") == []
        assert runner.ask("x" * 500) == ["e-[unknown command]"]
        (lap,) = laps(runner.ask("timestamp"))
        assert lap > 0
