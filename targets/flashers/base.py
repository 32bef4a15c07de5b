"""What every way to write flash has in common."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from targets.errors import DeviceError, ToolMissing
from targets.target import Target
from targets.usb import Device

TIMEOUT_S = 180
SHOWN_LINES = 6


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be written, and where.

    Attributes:
        target: the board.
        image: the firmware, in the flasher's format.
        devices: what is attached to this machine.
        port: a serial port, or a mounted drive, that the user named; empty: found.
        probe: serial number of a probe; empty: the only one.
    """

    target: Target
    image: Path
    devices: tuple[Device, ...] = ()
    port: str = ""
    probe: str = ""

    def name(self, method: str) -> str:
        """What a method's tool calls the part."""
        return self.target.hardware.flashers[method]


class Flasher(Protocol):
    """One way to write flash."""

    @property
    def method(self) -> str:
        """Its name, as in a board's TOML."""

    @property
    def form(self) -> str:
        """The format that it takes, of targets.images.FORMATS."""

    @property
    def install(self) -> str:
        """How to get its tool."""

    def installed(self) -> bool:
        """Whether its tool is here."""

    def reaches(self, job: Job) -> bool:
        """Whether what it writes through is attached."""

    def command(self, job: Job) -> tuple[str, ...]:
        """What flash() does, as a command line."""

    def flash(self, job: Job) -> None:
        """Writes the image and starts it.

        Raises:
            ToolMissing: its tool is not installed.
            DeviceError: the board is not there, or writing failed.
        """


def run(command: tuple[str, ...], hint: str) -> None:
    """Runs a tool to its end; its last words become the error."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired as error:
        message = f"{Path(command[0]).name} did not finish in {TIMEOUT_S} s"
        raise DeviceError(message, hint=hint) from error
    except OSError as error:
        raise ToolMissing(f"{command[0]} does not run: {error.strerror}") from error
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()][-SHOWN_LINES:]
        said = "\n".join(lines) or f"exit code {done.returncode}, no message"
        raise DeviceError(f"{Path(command[0]).name} failed:\n{said}", hint=hint)
