"""bossac, for boot loaders that speak SAM-BA over USB: it needs to know the serial port."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass

import serial

from targets import usb
from targets.errors import DeviceError
from targets.flashers.base import Job, run
from targets.usb import Device

TOUCH_BAUD = 1200  # opening the port at this rate asks the running sketch for the boot loader
WAIT_S = 10.0
POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Bossac:
    """The program, and the way into the boot loader."""

    method: str = "bossac"
    form: str = "bin"
    install: str = "arduino-cli core install arduino:mbed_nano, then put its bossac on PATH"

    def installed(self) -> bool:
        """Whether the program is here."""
        return shutil.which("bossac") is not None

    def reaches(self, job: Job) -> bool:
        """Whether a serial port of the board is there."""
        return bool(_port(job))

    def command(self, job: Job) -> tuple[str, ...]:
        """The command line; "PORT" stands for a port that is not there."""
        program = shutil.which("bossac") or "bossac"
        port = job.port or _port(job) or "PORT"
        # -U: the port is native USB; -i, -e, -w, -R: print, erase, write, reset.
        return (program, f"--port={port}", "-U", "-i", "-e", "-w", str(job.image), "-R")

    def flash(self, job: Job) -> None:
        """Brings the board into its boot loader, if it is not there, and writes."""
        port = job.port or _port(job)
        here = next((d for d in job.devices if d.port == port), None)
        hint = job.target.hardware.bootloader
        if here is not None and usb.role(here, job.target) == "serial":
            _touch(port, hint)
            port = _wait_for_loader(job, hint)
        entered = Job(job.target, job.image, job.devices, port, job.probe)
        run(self.command(entered), hint)


def _port(job: Job) -> str:
    """The serial port of the board's boot loader, or else of what runs on it."""
    ports = _ports(job, job.devices)
    return ports.get("bootloader") or ports.get("serial") or ""


def _ports(job: Job, devices: tuple[Device, ...]) -> dict[str | None, str]:
    found = usb.of_board(job.target, devices, job.port, job.probe)
    return {usb.role(device, job.target): device.port for device in found if device.port}


def _touch(port: str, hint: str) -> None:
    try:
        with serial.serial_for_url(port, baudrate=TOUCH_BAUD) as line:
            line.dtr = False
    except (OSError, serial.SerialException) as error:
        raise DeviceError(f"cannot open {port}: {error}", hint=hint) from error


def _wait_for_loader(job: Job, hint: str) -> str:
    """The port of the boot loader, which is another device than what ran before."""
    anywhere = Job(job.target, job.image)
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        port = _ports(anywhere, usb.attached()).get("bootloader")
        if port:
            return port
        time.sleep(POLL_S)
    raise DeviceError(f"{job.target.name} did not enter its boot loader", hint=hint)
