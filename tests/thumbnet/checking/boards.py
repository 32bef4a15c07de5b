"""Boards emulated for the tests of `thumbnet check`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emulator import bridge
from emulator.firmware import Firmware
from emulator.firmware_port import FirmwarePort
from targets import load
from targets.link import ports
from targets.link.board import Board
from thumbnet import checking, compiler, project, verify
from thumbnet.options import CompileOptions, RunOptions

ROOT = Path(__file__).resolve().parents[3]
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


@contextmanager
def served(folder: Path, line: str = "socket://127.0.0.1:0") -> Iterator[str]:
    """A project's firmware on the emulated board, in a thread: the URL of its console."""
    manifest = project.read_manifest(folder)
    firmware = Firmware(load(manifest["target"]), verify.build(folder).elf)
    outside = bridge.link(line)
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
