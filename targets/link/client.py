"""The host's side of the link: one request at a time, sent again until it is answered.

Frames that fail are made shorter, so that a bad line is slow but not dead.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import serial

from targets.errors import DeviceError
from targets.link import messages
from targets.link.frames import MAX_FRAME, MAX_PAYLOAD, Damaged, Frame, Receiver, encode
from targets.link.messages import ANSWER, Area, DeviceFault, Hello, Ran, Type
from targets.link.ports import Port, Unplugged

SILENCE_S = 2.5  # without a sign of life the device is gone
RETRY_S = 0.4  # without an answer a request is sent again, on a fast line
TRIES = 100  # of one request: at 1 % byte loss a handful is needed
TRIES_BEFORE_SHORTER = 3
LEAST_PAYLOAD = 16
GROWTH = 8  # bytes that a frame may be longer after one that passed
_SHOWN = 40  # bytes of garbage in a message


class NoAnswer(DeviceError):
    """The device does not answer (exit code 5)."""


class Garbage(DeviceError):
    """Something answers, but not in frames (exit code 5)."""


class Refused(DeviceError):
    """The device understood a request and refused it (exit code 5)."""


class Faulted(DeviceError):
    """The firmware has run into a fault (exit code 5)."""

    def __init__(self, fault: DeviceFault, place: str = "") -> None:
        """Keeps the registers; `place` says where it was, in names."""
        step = f", step {fault.step}" if fault.step >= 0 else ""
        place = place or f"pc 0x{fault.pc:08x}, lr 0x{fault.lr:08x}{step}"
        super().__init__(
            f"the board's firmware faulted: {fault.cause} at {place}", hint="reset the board"
        )
        self.fault = fault
        self.place = place

    def named(self, place: str) -> Faulted:
        """The same with a place in names."""
        return Faulted(self.fault, place)

    @property
    def details(self) -> dict[str, object]:
        """The registers, and the place in names."""
        return {"fault": asdict(self.fault) | {"cause": self.fault.cause, "place": self.place}}


@dataclass(slots=True)
class Counts:
    """What happened on the line."""

    sent: int = 0  # frames
    again: int = 0  # of them sent again
    damaged: int = 0  # received


class Client:
    """Talks to a firmware over an open port, which it closes."""

    def __init__(self, port: Port) -> None:
        """Sends nothing yet."""
        self._port = port
        self._receiver = Receiver()
        self._sequence = 0
        self._payload = LEAST_PAYLOAD  # bytes to put into a frame at present
        self._most = LEAST_PAYLOAD  # what the device takes
        self._garbage = bytearray()
        self.counts = Counts()

    def close(self) -> None:
        """Returns the device to text mode, if it still hears, and closes the port."""
        try:
            self._port.write(encode(Frame(Type.LEAVE, self._next())))
        except (DeviceError, OSError, serial.SerialException):
            pass
        finally:
            self._port.close()

    def hello(self, silence_s: float = SILENCE_S) -> Hello:
        """What the device says of itself.

        Raises:
            NoAnswer: it says nothing.
            Garbage: it says something else, or speaks another version.
        """
        found = messages.unpack_hello(self.request(Type.HELLO, silence_s=silence_s))
        if found is None:
            raise Garbage(
                "the board speaks another version of the link",
                hint="generate, build and flash its firmware anew",
            )
        self._most = self._payload = min(max(found.max_payload, LEAST_PAYLOAD), MAX_PAYLOAD)
        return found

    def write_input(self, index: int, data: bytes) -> None:
        """Sends an input."""
        offset = 0
        while offset < len(data):
            room = self._payload - messages.WRITE_OVERHEAD
            part = data[offset : offset + room]
            if self._transfer(Type.WRITE, messages.write(index, offset, part)) is not None:
                offset += len(part)

    def run(self, first: int, end: int, silence_s: float = SILENCE_S) -> Ran:
        """Runs steps first to end - 1; silence_s is how long one of them may take."""
        found = messages.unpack_ran(
            self.request(Type.RUN, messages.run(first, end), silence_s=silence_s)
        )
        if found is None:
            raise Garbage("the board's answer to RUN has another size")
        return found

    def read(self, area: Area, index: int, size: int, offset: int = 0) -> bytes:
        """Reads bytes of an output, the layers' cycles or the arena."""
        data = bytearray()
        while len(data) < size:
            part = min(size - len(data), self._payload)
            asked = messages.read(area, index, part, offset + len(data))
            answer = self._transfer(Type.READ, asked)
            if answer is None:
                continue
            if len(answer) != part:
                raise Garbage(f"the board sent {len(answer)} bytes where {part} were asked for")
            data += answer
        return bytes(data)

    def weights_are_intact(self) -> bool:
        """Whether the model's constants in flash have their checksum."""
        return self.request(Type.CHECK, silence_s=4 * SILENCE_S) == b"\0"

    def echo(self, data: bytes) -> bytes:
        """What comes back."""
        return self.request(Type.ECHO, data)

    def request(self, kind: Type, payload: bytes = b"", silence_s: float = SILENCE_S) -> bytes:
        """Sends a request until its answer arrives; the answer's payload.

        Args:
            kind: of request.
            payload: at most as long as the device takes.
            silence_s: give up when so long no frame at all of the device arrived.
        """
        answer = self._ask(kind, payload, TRIES, silence_s)
        if answer is None:
            raise self._unanswered()
        return answer

    def _transfer(self, kind: Type, payload: bytes) -> bytes | None:
        """An answer's payload; None when the frames were too long for this line, and are shorter now."""
        if self._payload == LEAST_PAYLOAD:
            return self.request(kind, payload)
        answer = self._ask(kind, payload, TRIES_BEFORE_SHORTER, SILENCE_S)
        if answer is None:
            self._payload = max(LEAST_PAYLOAD, self._payload // 2)
        else:
            self._payload = min(self._most, self._payload + GROWTH)
        return answer

    def _ask(self, kind: Type, payload: bytes, tries: int, silence_s: float) -> bytes | None:
        frame = Frame(kind, self._next(), payload)
        wire = encode(frame)
        retry_s = RETRY_S + 10 * (len(wire) + MAX_FRAME) / self._port.baudrate
        last_sign = time.monotonic()
        for attempt in range(tries):
            self._send(wire, again=attempt > 0)
            answer, heard = self._await(frame, retry_s, last_sign + silence_s)
            if answer is not None:
                return answer
            last_sign = time.monotonic() if heard else last_sign
            if time.monotonic() - last_sign >= silence_s:
                raise self._unanswered()
        return None

    def _next(self) -> int:
        self._sequence = (self._sequence + 1) % 0xFFFF
        return self._sequence

    def _send(self, wire: bytes, again: bool) -> None:
        self.counts.sent += 1
        self.counts.again += again
        try:
            self._port.write(wire)
        except (OSError, serial.SerialException) as error:
            raise _unplugged(error) from error

    def _await(self, frame: Frame, retry_s: float, give_up: float) -> tuple[bytes | None, bool]:
        """An answer's payload or None, and whether anything of the device arrived."""
        deadline = min(time.monotonic() + retry_s, give_up)
        heard = False
        while time.monotonic() < deadline:
            for found in self._receive():
                if isinstance(found, Damaged):
                    self._garbage = (self._garbage + found.data)[-_SHOWN:]
                    if frame.type == Type.HELLO or heard:
                        continue  # text from before this connection
                    self.counts.damaged += 1
                    return None, False
                heard = True
                if found.type == Type.ALIVE:
                    deadline = time.monotonic() + retry_s
                answer = _answer(frame, found)
                if answer is not None:
                    return answer, True
                if found.type == Type.NAK:
                    return None, True
        return None, heard

    def _receive(self) -> list[Frame | Damaged]:
        try:
            data = self._port.read(4096)
        except (OSError, serial.SerialException) as error:
            raise _unplugged(error) from error
        return list(self._receiver.take(data))

    def _unanswered(self) -> DeviceError:
        if self._garbage:
            shown = bytes(self._garbage).decode("ascii", "replace")
            return Garbage(
                f"something answers, but not in frames: {shown!r}",
                hint="a wrong baud rate (--baud), another firmware, or a very bad line",
            )
        return NoAnswer(
            f"the board does not answer at {self._port.baudrate} baud",
            hint="is it powered and flashed? is this its port? try a reset, or another --baud",
        )


def _answer(request: Frame, found: Frame) -> bytes | None:
    """The payload, when a frame answers a request."""
    if found.type == Type.FAULT:
        fault = messages.unpack_fault(found.payload)
        if fault is not None:
            raise Faulted(fault)
    if found.sequence != request.sequence:
        return None  # of an earlier copy
    if found.type == Type.ERROR:
        code = messages.ERRORS.get(found.payload[0] if found.payload else 0, "unknown reason")
        raise Refused(f"the board refused a request: {code}")
    return found.payload if found.type == request.type | ANSWER else None


def _unplugged(error: BaseException) -> Unplugged:
    return Unplugged(f"the port has gone: {error}", hint="was the board unplugged?")
