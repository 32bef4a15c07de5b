"""USB devices and serial ports of this machine, and which board they may be."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from serial.tools import list_ports

from targets.hardware import Role
from targets.target import Target

LINUX_DEVICES = Path("/sys/bus/usb/devices")
BOARD_ID = 4  # first characters of the serial number of a DAPLink probe


@dataclass(frozen=True, slots=True)
class Device:
    """A USB device; `port` is its serial port, empty when it has none."""

    vid: int
    pid: int
    serial: str
    description: str
    port: str = ""

    @property
    def usb_id(self) -> str:
        """As in "0483:374b"."""
        return f"{self.vid:04x}:{self.pid:04x}"


def attached() -> tuple[Device, ...]:
    """Devices with a serial port; on Linux those without one as well."""
    ports = tuple(_ports())
    known = {(device.vid, device.pid, device.serial) for device in ports}
    silent = (d for d in _linux(LINUX_DEVICES) if (d.vid, d.pid, d.serial) not in known)
    return (*ports, *silent)


def lists_everything() -> bool:
    """Whether attached() shows devices without a serial port, so that absence means something."""
    return sys.platform == "linux" and LINUX_DEVICES.is_dir()


def role(device: Device, target: Target) -> Role | Literal["probe"] | None:
    """What a device is to a board: its probe, its own serial port, its boot loader; None: not its own."""
    for known in target.hardware.usb_ids:
        if (known.vid, known.pid) == (device.vid, device.pid):
            return known.role if _may_be(device, target) else None
    return None


def of_board(
    target: Target, devices: tuple[Device, ...], port: str = "", probe: str = ""
) -> tuple[Device, ...]:
    """The devices that may be a board, narrowed by a serial port and a probe's number if given."""
    return tuple(
        device
        for device in devices
        if role(device, target) is not None
        and port in ("", device.port)
        and probe in ("", device.serial)
    )


def console_port(target: Target, devices: tuple[Device, ...]) -> str:
    """The serial port of the board's console; empty when there is none or more than one.

    Where the console is wired by hand, only a Debug Probe carries it besides.
    """
    if target.hardware.wiring and target.hardware.probe != "debugprobe":
        return ""
    found = (d for d in of_board(target, devices) if d.port)
    # A port of the part itself is its boot loader's or another firmware's: ours speaks on a UART.
    ports = {d.port for d in found if role(d, target) == "probe"}
    return ports.pop() if len(ports) == 1 else ""


def _may_be(device: Device, target: Target) -> bool:
    """DAPLink's serial numbers begin with the board's id; those of other probes say nothing."""
    if target.hardware.probe != "daplink" or not device.serial:
        return True
    return device.serial[:BOARD_ID] in target.hardware.board_ids


def _ports() -> Iterator[Device]:
    for port in list_ports.comports():
        if port.vid is not None and port.pid is not None:
            text = port.description or ""
            yield Device(port.vid, port.pid, port.serial_number or "", text, port.device)


def _linux(folder: Path) -> Iterator[Device]:
    """What the kernel lists; nothing on other systems."""
    for entry in sorted(folder.glob("*")):
        vid, pid = _text(entry / "idVendor"), _text(entry / "idProduct")
        if vid and pid:
            texts = (_text(entry / "serial"), _text(entry / "product"))
            yield Device(int(vid, 16), int(pid, 16), *texts)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
