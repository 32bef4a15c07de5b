"""Opens serial ports by name or URL, and says in plain words why one cannot be opened."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Protocol

import serial

from targets.errors import DeviceError

POLL_S = 0.05  # the longest that a read blocks
WRITE_S = 2.0
_CODES = {
    errno.ENOENT: ("there is no {0}", "plug the board in; `thumbnet doctor` lists ports"),
    errno.ENODEV: ("there is no {0}", "plug the board in; `thumbnet doctor` lists ports"),
    errno.ENXIO: ("there is no {0}", "plug the board in; `thumbnet doctor` lists ports"),
    errno.EACCES: (
        "{0} may not be opened by this user",
        "on Linux: sudo usermod -a -G dialout $USER, then log in anew",
    ),
    errno.EPERM: ("{0} may not be opened by this user", "run as a user who may"),
    errno.EBUSY: ("{0} is in use{1}", "close the program that has it open"),
    errno.EAGAIN: ("{0} is in use{1}", "close the program that has it open"),
    errno.EWOULDBLOCK: ("{0} is in use{1}", "close the program that has it open"),
    errno.ECONNREFUSED: ("nothing listens at {0}", "start the board's emulator or server first"),
}


class Port(Protocol):
    """The part of pyserial's interface that the link uses."""

    baudrate: int

    def read(self, size: int) -> bytes:
        """What arrives within the port's timeout, at most `size` bytes."""

    def write(self, data: bytes) -> int | None:
        """Sends."""

    def close(self) -> None:
        """Closes."""


class Unplugged(DeviceError):
    """The port has gone while it was in use (exit code 5)."""


def open_port(url: str, baud: int) -> Port:
    """A real port, socket://HOST:PORT, rfc2217://HOST:PORT, or any other URL of pyserial.

    Raises:
        DeviceError: it cannot be opened; message and hint say why.
    """
    try:
        # Exclusive where the system knows that: two programs on one line would tear frames apart.
        exclusive = {} if "://" in url else {"exclusive": True}
        port: Port = serial.serial_for_url(
            url, baudrate=baud, timeout=POLL_S, write_timeout=WRITE_S, **exclusive
        )
    except (serial.SerialException, OSError, ValueError) as error:
        raise _refusal(url, error) from error
    return port


def _refusal(url: str, error: BaseException) -> DeviceError:
    code = _code(error)
    if code in _CODES:
        message, hint = _CODES[code]
        return DeviceError(message.format(url, _holder(url)), hint=hint)
    if "lock" in str(error).lower():
        return DeviceError(f"{url} is in use{_holder(url)}", hint=_CODES[errno.EBUSY][1])
    hint = "a device, socket://HOST:PORT or rfc2217://HOST:PORT"
    return DeviceError(f"cannot open {url}: {error}", hint=hint)


def _code(error: BaseException | None) -> int | None:
    """The system's error number: of the error, of what caused it, or in its text."""
    if error is None:
        return None
    number = getattr(error, "errno", None)
    if isinstance(number, int):
        return number
    for known in _CODES:
        if f"[Errno {known}]" in str(error):
            return known
    return _code(error.__cause__ or error.__context__)


def _holder(url: str) -> str:
    """Which process has a device open, where the system shows that."""
    try:
        device = Path(url).resolve()
        for process in Path("/proc").glob("[0-9]*"):
            if _has_open(process, device):
                name = (process / "comm").read_text().strip()
                return f" by {name} (process {process.name})"
    except OSError:
        pass
    return ""


def _has_open(process: Path, device: Path) -> bool:
    try:
        return any(entry.resolve() == device for entry in (process / "fd").iterdir())
    except OSError:  # of another user, or gone
        return False
