"""The GDB remote serial protocol, as far as driving a halted Arm core needs it.

A packet is "$", the payload, "#" and the payload's sum of bytes as two hex digits; each is answered by
"+" or "-". "}" escapes the next byte (xor 0x20). In replies "*" and a character repeat the byte before
them: the character's code less 29 is the number of further copies.
"""

from __future__ import annotations

import socket
import time

from targets.errors import ThumbnetError

REPLY_TIMEOUT_S = 10.0
CHUNK = 1024  # bytes of memory per packet: two digits each, within the 4 KiB that QEMU takes
REGISTERS = (*(f"r{i}" for i in range(13)), "sp", "lr", "pc")  # the first words of a "g" packet
_RESERVED = b"#$*}"
_ATTEMPTS = 3


class RemoteError(ThumbnetError):
    """The other side refused a request, or does not keep to the protocol."""


class Disconnected(RemoteError):
    """The other side is gone."""


def frame(payload: bytes) -> bytes:
    """A packet of an unescaped payload."""
    escaped = b"".join(
        bytes((0x7D, byte ^ 0x20)) if byte in _RESERVED else bytes((byte,)) for byte in payload
    )
    return b"$%b#%02x" % (escaped, checksum(escaped))


def checksum(escaped: bytes) -> int:
    """Of what stands between "$" and "#"."""
    return sum(escaped) & 0xFF


def unpack(escaped: bytes) -> bytes:
    """The payload of a packet: runs expanded, escapes undone."""
    payload = bytearray()
    at = 0
    while at < len(escaped):
        byte, follows = escaped[at], escaped[at + 1 : at + 2]
        if byte in b"}*" and not follows:
            raise RemoteError("a packet ends within an escape")
        if byte == ord("}"):
            payload.append(follows[0] ^ 0x20)
        elif byte == ord("*"):
            payload += payload[-1:] * (follows[0] - 29)
        else:
            payload.append(byte)
        at += 2 if byte in b"}*" else 1
    return bytes(payload)


class PacketStream:
    """Packets over a connected socket."""

    def __init__(self, connection: socket.socket) -> None:
        """Takes the socket over."""
        self._socket = connection
        self._pending = bytearray()

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def send(self, payload: bytes) -> None:
        """Sends a packet until it is acknowledged."""
        for _ in range(_ATTEMPTS):
            self._write(frame(payload))
            if self._acknowledged():
                return
        raise RemoteError("packets arrive damaged")

    def receive(self, timeout_s: float = REPLY_TIMEOUT_S) -> bytes:
        """The next packet's payload.

        Raises:
            TimeoutError: there is none within `timeout_s`.
            Disconnected: the other side is gone.
        """
        deadline = time.monotonic() + timeout_s
        for _ in range(_ATTEMPTS):
            while self._byte(deadline) != b"$":
                pass
            escaped = self._until_hash(deadline)
            sent = self._byte(deadline) + self._byte(deadline)
            if sent.lower() == b"%02x" % checksum(escaped):
                self._write(b"+")
                return unpack(escaped)
            self._write(b"-")
        raise RemoteError("packets arrive damaged")

    def interrupt(self) -> None:
        """Asks a running core to stop; its stop reply follows."""
        self._write(b"\x03")

    def _acknowledged(self) -> bool:
        deadline = time.monotonic() + REPLY_TIMEOUT_S
        try:
            answer = self._byte(deadline)
            while answer not in b"+-":  # noise before the acknowledgement
                answer = self._byte(deadline)
        except TimeoutError as error:
            raise RemoteError("packets are not acknowledged") from error
        return answer == b"+"

    def _until_hash(self, deadline: float) -> bytes:
        while b"#" not in self._pending:
            self._fill(deadline)
        escaped, _, self._pending = self._pending.partition(b"#")
        return bytes(escaped)

    def _byte(self, deadline: float) -> bytes:
        while not self._pending:
            self._fill(deadline)
        return bytes((self._pending.pop(0),))

    def _fill(self, deadline: float) -> None:
        try:
            self._socket.settimeout(max(deadline - time.monotonic(), 1e-3))
            received = self._socket.recv(1 << 16)
        except TimeoutError:
            raise
        except OSError as error:
            raise Disconnected("the connection is lost") from error
        if not received:
            raise Disconnected("the connection is closed")
        self._pending += received

    def _write(self, data: bytes) -> None:
        try:
            self._socket.settimeout(REPLY_TIMEOUT_S)
            self._socket.sendall(data)
        except OSError as error:  # also when nobody reads any more
            raise Disconnected("the connection is lost") from error


class GdbRemote:
    """A halted core: its registers, its memory, its breakpoints."""

    def __init__(self, stream: PacketStream) -> None:
        """Takes a stream whose other side is halted."""
        self._stream = stream

    def registers(self) -> dict[str, int]:
        """All of REGISTERS."""
        words = self._words()
        return {
            name: int.from_bytes(words[4 * i : 4 * i + 4], "little")
            for i, name in enumerate(REGISTERS)
        }

    def set_registers(self, values: dict[str, int]) -> None:
        """Changes some of REGISTERS; the others stay."""
        words = self._words()
        for name, value in values.items():
            at = 4 * REGISTERS.index(name)
            words[at : at + 4] = (value & 0xFFFF_FFFF).to_bytes(4, "little")
        self._command(f"G{words.hex()}")

    def read(self, address: int, size: int) -> bytes:
        """Reads memory."""
        parts = []
        for start in range(address, address + size, CHUNK):
            length = min(CHUNK, address + size - start)
            reply = self._ask(f"m{start:x},{length:x}")
            if len(reply) != 2 * length:
                raise RemoteError(f"cannot read {length} bytes at 0x{start:08x}")
            parts.append(bytes.fromhex(reply.decode()))
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        """Writes memory."""
        for start in range(0, len(data), CHUNK):
            part = data[start : start + CHUNK]
            self._command(f"M{address + start:x},{len(part):x}:{part.hex()}")

    def set_breakpoint(self, address: int) -> None:
        """Stops the core before it executes a Thumb instruction."""
        self._command(f"Z0,{address:x},2")

    def clear_breakpoint(self, address: int) -> None:
        """Takes set_breakpoint() back."""
        self._command(f"z0,{address:x},2")

    def resume(self, timeout_s: float) -> None:
        """Runs until the core stops by itself.

        Raises:
            TimeoutError: it still runs after `timeout_s`.
            Disconnected: the other side ended.
        """
        self._stream.send(b"c")
        self._await_stop(timeout_s)

    def interrupt(self) -> None:
        """Stops a core that resume() left running."""
        self._stream.interrupt()
        self._await_stop(REPLY_TIMEOUT_S)

    def monitor(self, command: str) -> str:
        """Runs a command of the other side's own, and returns what it prints."""
        reply = self._ask(f"qRcmd,{command.encode().hex()}")
        printed = b""
        while reply.startswith(b"O") and reply != b"OK":
            printed += bytes.fromhex(reply[1:].decode())
            reply = self._answer()
        if reply != b"OK":
            raise RemoteError(f"command '{command}' was refused")
        return printed.decode(errors="replace")

    def _words(self) -> bytearray:
        """All registers as the other side packs them; REGISTERS come first."""
        try:
            words = bytearray.fromhex(self._ask("g").decode())
        except ValueError as error:
            raise RemoteError("no registers") from error
        if len(words) < 4 * len(REGISTERS):
            raise RemoteError("no registers")
        return words

    def _ask(self, request: str) -> bytes:
        self._stream.send(request.encode())
        return self._answer()

    def _answer(self) -> bytes:
        try:
            return self._stream.receive()
        except TimeoutError as error:
            raise RemoteError("requests are not answered") from error

    def _command(self, request: str) -> None:
        if self._ask(request) != b"OK":
            raise RemoteError(f"request '{request[:40]}' was refused")

    def _await_stop(self, timeout_s: float) -> None:
        reply = self._stream.receive(timeout_s)
        while reply.startswith(b"O"):  # console output
            reply = self._stream.receive(timeout_s)
        if reply[:1] in (b"W", b"X"):
            raise Disconnected("the machine ended")
        if reply[:1] not in (b"T", b"S"):
            raise RemoteError(f"no stop reply: {reply[:40]!r}")
