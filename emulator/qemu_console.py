"""QEMU running an image of a board from reset on, its first serial port on a TCP port of this machine."""

from __future__ import annotations

import re
import socket
import subprocess
import tempfile
import time
import weakref
from pathlib import Path
from typing import Self

from emulator import qemu_process
from emulator.qemu import machine_of
from targets.errors import DeviceError, UsageError
from targets.target import Target

START_S = 10.0
_QUIET = ("-nographic", "-monitor", "none", "-nodefaults")


class QemuConsole:
    """A target's QEMU machine, free-running. Enter it to start; it is killed when left."""

    def __init__(self, target: Target, image: Path, line: str = "socket://127.0.0.1:0") -> None:
        """Starts nothing yet.

        Args:
            target: a board that QEMU has a machine for.
            image: an ELF file.
            line: "socket://HOST:PORT"; port 0 takes a free one.
        """
        found = re.fullmatch(r"socket://([^:/,]+):(\d+)", line)
        if found is None:
            raise UsageError(f"unknown line '{line}'", hint="QEMU serves socket://HOST:PORT")
        self._machine = machine_of(target)
        self._image = image
        self._host, self._port = found[1], int(found[2])
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Starts QEMU and waits until its port is open."""
        port = self._port or _free_port(self._host)
        self.name = f"socket://{self._host}:{port}"
        chardev = f"socket,id=console,host={self._host},port={port},server=on,wait=off,nodelay=on"
        command = [qemu_process.find(), "-M", self._machine, *_QUIET]
        command += ["-chardev", chardev, "-serial", "chardev:console"]
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [*command, "-kernel", str(self._image)], stdin=subprocess.DEVNULL, stderr=self._log
        )
        self._end = weakref.finalize(self, _end, self._process)
        self._await_port(port)
        return self

    def __exit__(self, *error: object) -> None:
        """Kills QEMU."""
        self._end()
        self._log.close()

    @property
    def runs(self) -> bool:
        """Whether QEMU is still there."""
        return self._process is not None and self._process.poll() is None

    def last_words(self) -> str:
        """QEMU's last message."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it gave no reason"

    def _await_port(self, port: int) -> None:
        """QEMU listens before it runs the image; asking takes no connection away."""
        deadline = time.monotonic() + START_S
        while self.runs and time.monotonic() < deadline:
            if _is_taken(self._host, port):
                return
            time.sleep(0.02)
        self._end()
        raise DeviceError(f"QEMU did not start: {self.last_words()}")


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as server:
        return int(server.getsockname()[1])


def _is_taken(host: str, port: int) -> bool:
    try:
        with socket.create_server((host, port)):
            return False
    except OSError:
        return True


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
