"""What the link's frames say: types, and the layout of payloads. docs/serial.md has the table."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

PROTOCOL = 1
ANSWER = 0x80  # added to a request's type
_HELLO = struct.Struct("<BBbBIHHI32sBB")
_NAME_BYTES = 64
_RESULT = struct.Struct("<iIQ")
_FAULT = struct.Struct("<9Ii")


class Type(IntEnum):
    """Types of frames: requests, and what a device says unasked."""

    HELLO = 1
    WRITE = 2
    RUN = 3
    READ = 4
    CHECK = 5
    ECHO = 6
    LEAVE = 7
    NAK = 0xF0
    ERROR = 0xF1
    FAULT = 0xF2
    ALIVE = 0xF3


class Area(IntEnum):
    """What READ reads."""

    OUTPUT = 0
    CYCLES = 1
    ARENA = 2


COUNTERS = {0: "none", 1: "DWT", 2: "SysTick", 3: "timer"}
ERRORS = {1: "bad request", 2: "out of range", 3: "unknown request"}


@dataclass(frozen=True, slots=True)
class Hello:
    """What a board says of itself.

    Attributes:
        counter: what layers are timed with.
        status: of the model's init; 0 is well.
        clock_hz: of the core.
        max_payload: bytes that its frames take.
        steps: layers of the model.
        arena_size: bytes.
        build_id: SHA-256 of the sources, in hex.
        inputs: bytes of each.
        outputs: bytes of each.
        model: its name.
        target: the board that it was generated for.
    """

    counter: str
    status: int
    clock_hz: int
    max_payload: int
    steps: int
    arena_size: int
    build_id: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    model: str
    target: str

    def pack(self) -> bytes:
        """As a payload. The device itself fills in counter and status."""
        ports = (*self.inputs, *self.outputs)
        head = _HELLO.pack(
            PROTOCOL,
            0,
            0,
            0,
            self.clock_hz,
            self.max_payload,
            self.steps,
            self.arena_size,
            bytes.fromhex(self.build_id),
            len(self.inputs),
            len(self.outputs),
        )
        names = b"".join(name.encode()[:_NAME_BYTES] + b"\0" for name in (self.model, self.target))
        return head + struct.pack(f"<{len(ports)}I", *ports) + names


def unpack_hello(payload: bytes) -> Hello | None:
    """What a board says of itself; None when it speaks another version."""
    if len(payload) < _HELLO.size or payload[0] != PROTOCOL:
        return None
    _, counter, status, _, clock, most, steps, arena, build, inputs, outputs = _HELLO.unpack_from(
        payload
    )
    end = _HELLO.size + 4 * (inputs + outputs)
    names = payload[end:].split(b"\0")
    if len(payload) < end or len(names) != 3:
        return None
    sizes = struct.unpack(f"<{inputs + outputs}I", payload[_HELLO.size : end])
    return Hello(
        counter=COUNTERS.get(counter, "unknown"),
        status=status,
        clock_hz=clock,
        max_payload=most,
        steps=steps,
        arena_size=arena,
        build_id=build.hex(),
        inputs=sizes[:inputs],
        outputs=sizes[inputs:],
        model=names[0].decode("ascii", "replace"),
        target=names[1].decode("ascii", "replace"),
    )


@dataclass(frozen=True, slots=True)
class Ran:
    """The answer to RUN: the model's status, bytes of stack, cycles of all the steps asked for."""

    status: int
    stack: int
    cycles: int


def unpack_ran(payload: bytes) -> Ran | None:
    """The answer to RUN; None when the payload has another size."""
    return Ran(*_RESULT.unpack(payload)) if len(payload) == _RESULT.size else None


@dataclass(frozen=True, slots=True)
class DeviceFault:
    """What a board's fault handler saw. `cfsr` to `bfar` are 0 on Armv6-M; `step` is -1 outside the model."""

    pc: int
    lr: int
    xpsr: int
    sp: int
    cfsr: int
    hfsr: int
    mmfar: int
    bfar: int
    exception: int
    step: int

    @property
    def cause(self) -> str:
        """In words, as far as the registers tell."""
        name = {3: "hard fault", 4: "memory fault", 5: "bus fault", 6: "usage fault"}
        causes = [text for bit, text in _CAUSES.items() if self.cfsr >> bit & 1]
        if self.cfsr >> 15 & 1:
            causes.append(f"address 0x{self.bfar:08x}")
        if self.cfsr >> 7 & 1:
            causes.append(f"address 0x{self.mmfar:08x}")
        found = name.get(self.exception, f"exception {self.exception}")
        return f"{found} ({', '.join(causes)})" if causes else found


_CAUSES = {  # bits of CFSR
    0: "instruction access violation",
    1: "data access violation",
    4: "stack overflow, registers lost",
    8: "instruction fetch error",
    9: "precise data bus error",
    10: "imprecise data bus error",
    12: "stacking error",
    16: "undefined instruction",
    17: "invalid state",
    18: "invalid return",
    19: "no coprocessor",
    20: "stack overflow",
    24: "unaligned access",
    25: "division by zero",
}


def unpack_fault(payload: bytes) -> DeviceFault | None:
    """What a board's fault handler saw; None when the payload has another size."""
    return DeviceFault(*_FAULT.unpack(payload)) if len(payload) == _FAULT.size else None


def write(index: int, offset: int, data: bytes) -> bytes:
    """The payload of WRITE: bytes of an input."""
    return struct.pack("<B3xI", index, offset) + data


WRITE_OVERHEAD = 8


def run(first: int, end: int) -> bytes:
    """The payload of RUN: steps first to end - 1."""
    return struct.pack("<HH", first, end)


def read(area: Area, index: int, size: int, offset: int) -> bytes:
    """The payload of READ."""
    return struct.pack("<BBHI", area, index, size, offset)
