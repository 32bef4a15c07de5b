"""Frames of the link, as templates/board/console/app_frames.c.j2 has them: COBS around a header and a CRC.

    00 COBS( type u8, version u8, sequence u16, length u16, payload, crc32 u32 ) 00      little-endian

A zero byte appears only around frames. Any damage costs the frame that it hits, and no other.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from targets.errors import UsageError

VERSION = 1
MAX_FRAME = 1024  # bytes on the line, delimiters included
_HEADER = struct.Struct("<BBHH")
_CRC = struct.Struct("<I")
OVERHEAD = _HEADER.size + _CRC.size
_GROUP = 254  # the most bytes of a COBS group
# Two delimiters, and one byte for each group that is begun.
MAX_PAYLOAD = MAX_FRAME - OVERHEAD - 2 - (MAX_FRAME // _GROUP + 1)


@dataclass(frozen=True, slots=True)
class Frame:
    """A message on the line: its type, the number that an answer repeats, and its payload."""

    type: int
    sequence: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Damaged:
    """Bytes between two delimiters that are no frame, as they came."""

    data: bytes


def encode(frame: Frame) -> bytes:
    """A frame as it goes over the line.

    Raises:
        UsageError: the payload is longer than MAX_PAYLOAD.
    """
    if len(frame.payload) > MAX_PAYLOAD:
        raise UsageError(f"a payload of {len(frame.payload)} bytes; frames take {MAX_PAYLOAD}")
    head = _HEADER.pack(frame.type, VERSION, frame.sequence, len(frame.payload))
    body = head + frame.payload
    return b"\0" + stuff(body + _CRC.pack(zlib.crc32(body))) + b"\0"


def decode(data: bytes) -> Frame | None:
    """The frame between two delimiters, or None when it is damaged."""
    body = unstuff(data)
    if body is None or len(body) < OVERHEAD:
        return None
    kind, version, sequence, length = _HEADER.unpack_from(body)
    (crc,) = _CRC.unpack(body[-_CRC.size :])
    whole = version == VERSION and length == len(body) - OVERHEAD
    if not whole or crc != zlib.crc32(body[: -_CRC.size]):
        return None
    return Frame(kind, sequence, body[_HEADER.size : -_CRC.size])


def stuff(data: bytes) -> bytes:
    """COBS: the same without zero bytes, a little longer."""
    out = bytearray()
    start = 0
    while True:
        zero = data.find(b"\0", start, start + _GROUP)
        end = zero if zero >= 0 else min(start + _GROUP, len(data))
        out.append(end - start + 1)
        out += data[start:end]
        if end == len(data):
            return bytes(out)
        start = end + 1 if zero >= 0 else end


def unstuff(data: bytes) -> bytes | None:
    """What stuff() was given, or None: some group is cut short or holds a zero."""
    out = bytearray()
    at = 0
    while at < len(data):
        code = data[at]
        group = data[at + 1 : at + code]
        if code == 0 or len(group) != code - 1 or 0 in group:
            return None
        out += group
        at += code
        if code <= _GROUP and at < len(data):
            out.append(0)
    return bytes(out)


class Receiver:
    """Bytes from the line -> frames, and what else came between delimiters."""

    def __init__(self) -> None:
        """Between frames."""
        self._waiting = bytearray()

    def take(self, data: bytes) -> Iterator[Frame | Damaged]:
        """What the bytes complete, in order; a frame that has no end yet is kept."""
        *complete, rest = data.split(b"\0")
        for part in complete:
            whole = bytes(self._waiting) + part
            self._waiting.clear()
            if whole:
                yield decode(whole) or Damaged(whole)
        self._waiting += rest[: 2 * MAX_FRAME]
        if (
            len(self._waiting) > 2 * MAX_FRAME
        ):  # no frame of ours: a device that talks something else
            lost = bytes(self._waiting)
            self._waiting.clear()
            yield Damaged(lost)
