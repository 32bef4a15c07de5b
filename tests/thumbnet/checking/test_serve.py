"""The emulated board behind a serial line: `thumbnet emulate --serve`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from targets.errors import DeviceError
from targets.link import ports
from tests.thumbnet.checking.boards import ROOT, connected
from thumbnet import serving
from thumbnet.options import RunOptions

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
