"""The console on a pseudo-terminal, a TCP port or this terminal: what talks to a board talks to it.

Only here does the outside world come in: bytes arrive when they arrive, so that a bridged run is not
repeatable to the cycle. The board's time does not follow the host's clock.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Callable
from typing import Protocol

from emulator.firmware import Firmware, Stop
from targets.errors import DeviceError, UsageError

SLICES_PER_SECOND = 100  # of the board's time: how often the outside is looked at
WAIT_S = 0.1  # how long a sleeping firmware waits for input before it looks again
CHUNK = 4096


class Link(Protocol):
    """A line to the outside."""

    @property
    def name(self) -> str:
        """What a tool opens to use it."""

    def receive(self, timeout_s: float) -> bytes | None:
        """What has arrived; after the timeout nothing; None when there will never be more."""

    def send(self, data: bytes) -> None:
        """Sends, or drops what nobody listens to."""

    def close(self) -> None:
        """Ends the line."""


class Pty:
    """A pseudo-terminal, in raw mode."""

    def __init__(self) -> None:
        """Opens one."""
        try:
            import tty  # noqa: PLC0415  (not everywhere)

            self._host, self._device = os.openpty()
            tty.setraw(self._device)
        except (ImportError, AttributeError, OSError) as error:
            hint = "use tcp:PORT instead"
            raise DeviceError(f"no pseudo-terminal: {error}", hint=hint) from error
        # Open on both ends, so that nothing is lost while no tool has it open.
        self.name = os.ttyname(self._device)
        os.set_blocking(self._host, False)

    def receive(self, timeout_s: float) -> bytes | None:
        """What a tool has written."""
        ready, _, _ = select.select([self._host], [], [], timeout_s)
        return os.read(self._host, CHUNK) if ready else b""

    def send(self, data: bytes) -> None:
        """Writes; what does not fit into the terminal's buffer is dropped."""
        try:
            os.write(self._host, data)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Closes both ends."""
        os.close(self._device)
        os.close(self._host)


class Tcp:
    """A TCP port of this machine, one client at a time: pyserial's socket://127.0.0.1:PORT."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        """Listens; port 0 takes a free one."""
        try:
            self._server = socket.create_server((host, port))
        except (OSError, OverflowError) as error:
            raise DeviceError(f"cannot listen on TCP port {port} of {host}: {error}") from error
        self._client: socket.socket | None = None
        self.name = f"socket://{host}:{self._server.getsockname()[1]}"

    def receive(self, timeout_s: float) -> bytes | None:
        """What the client has sent; accepts one when there is none."""
        if not select.select([self._client or self._server], [], [], timeout_s)[0]:
            return b""
        if self._client is None:
            self._client, _ = self._server.accept()
            # Frames are small, and the other side waits for each.
            self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return b""
        try:
            data = self._client.recv(CHUNK)
        except OSError:
            data = b""
        if not data:
            self._hang_up()
        return data

    def send(self, data: bytes) -> None:
        """Sends to the client, if there is one."""
        try:
            if self._client:
                self._client.sendall(data)
        except OSError:
            self._hang_up()

    def close(self) -> None:
        """Hangs up and stops listening."""
        self._hang_up()
        self._server.close()

    def _hang_up(self) -> None:
        if self._client:
            self._client.close()
        self._client = None


class Terminal:
    """This process's own input and output."""

    name = "-"

    def receive(self, timeout_s: float) -> bytes | None:
        """What was typed or piped in."""
        ready, _, _ = select.select([sys.stdin.fileno()], [], [], timeout_s)
        return (os.read(sys.stdin.fileno(), CHUNK) or None) if ready else b""

    def send(self, data: bytes) -> None:
        """Prints."""
        sys.stdout.buffer.write(data)
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing to do."""


class Unheard:
    """A line that nobody is at."""

    name = "-"

    def receive(self, timeout_s: float) -> bytes | None:
        """Nothing, ever."""
        return None

    def send(self, data: bytes) -> None:
        """Drops it; the firmware's own record remains."""

    def close(self) -> None:
        """Nothing to do."""


def link(text: str) -> Link:
    """The line that an option names: "pty", "tcp:PORT", "socket://HOST:PORT" or "-"."""
    if text == "-":
        return Terminal()
    if text == "pty":
        return Pty()
    kind, _, port = text.partition(":")
    if kind == "tcp" and port.isdigit():
        return Tcp(int(port))
    host, _, port = text.removeprefix("socket://").rpartition(":")
    if text.startswith("socket://") and host and port.isdigit():
        return Tcp(int(port), host)
    raise UsageError(f"unknown line '{text}'", hint="known: pty, tcp:PORT, socket://HOST:PORT, -")


def serve(
    firmware: Firmware,
    line: Link,
    *,
    max_cycles: int | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Stop:
    """Runs a firmware with its console on a line.

    Args:
        firmware: what to run on.
        line: where its console goes.
        max_cycles: modelled cycles to run at most; None: no limit.
        stopped: asked now and then whether to come back.

    Returns:
        "exit" or "reset" when the firmware asks for it, "cycles" at the limit, "idle" when it
        sleeps and no input can come any more, "stopped" when asked to.
    """
    end = None if max_cycles is None else firmware.cycles + max_cycles
    part = max(1, firmware.clock_hz // SLICES_PER_SECOND)
    shown, stop, open_ended = len(firmware.received), "cycles", True
    firmware.stops_starved = True
    while not stopped():
        waits = stop in ("idle", "starved")
        data = line.receive(WAIT_S if waits else 0) if open_ended else b""
        open_ended = data is not None
        firmware.send(data or b"")
        left = part if end is None else min(part, end - firmware.cycles)
        stop = firmware.run(max_cycles=left)
        sent = firmware.received_from(shown)
        shown += len(sent)
        line.send(sent)
        if stop in ("exit", "reset") or (stop in ("idle", "starved") and not open_ended):
            return stop
        if end is not None and firmware.cycles >= end:
            return "cycles"
    return "stopped"
