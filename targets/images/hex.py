"""Intel HEX: lines of up to 16 bytes with their address and a checksum."""

from __future__ import annotations

from collections.abc import Iterator

from targets.errors import UsageError
from targets.images.segments import Segment

ROW = 16
BANK = 1 << 16  # an upper half of addresses, set by a record of its own
DATA, END, UPPER = 0x00, 0x01, 0x04  # types of records


def encode(segments: tuple[Segment, ...]) -> bytes:
    """The file of an image."""
    return "".join(f"{record}\r\n" for record in _records(segments)).encode()


def decode(text: bytes) -> tuple[Segment, ...]:
    """What a file of data, end and upper-address records holds; neighbours are joined.

    Raises:
        UsageError: a record is damaged, of another type, or the end is missing.
    """
    found: list[Segment] = []
    upper = 0
    for number, line in enumerate(text.decode("ascii", "replace").split(), 1):
        kind, low, data = _parse(line, number)
        if kind == END:
            return tuple(found)
        if kind == UPPER and len(data) == 2:
            upper = int.from_bytes(data, "big") << 16
        elif kind != DATA:
            raise UsageError(f"line {number}: record type {kind} is not supported")
        elif found and found[-1].end == upper + low:
            found[-1] = Segment(found[-1].address, found[-1].data + data)
        else:
            found.append(Segment(upper + low, data))
    raise UsageError("the file has no end record")


def _records(segments: tuple[Segment, ...]) -> Iterator[str]:
    bank = 0
    for segment in segments:
        at = segment.address
        while at < segment.end:
            if at // BANK != bank:
                bank = at // BANK
                yield _record(0, UPPER, bank.to_bytes(2, "big"))
            # No row crosses into the next bank, whose address another record sets.
            end = min(at + ROW, segment.end, (bank + 1) * BANK)
            yield _record(
                at % BANK, DATA, segment.data[at - segment.address : end - segment.address]
            )
            at = end
    yield _record(0, END, b"")


def _record(low: int, kind: int, data: bytes) -> str:
    body = bytes((len(data), low >> 8, low & 0xFF, kind)) + data
    return f":{(body + bytes((-sum(body) & 0xFF,))).hex().upper()}"


def _parse(line: str, number: int) -> tuple[int, int, bytes]:
    """The type, the low half of the address and the data of a record."""
    try:
        body = bytes.fromhex(line[1:])
    except ValueError:
        body = b""
    whole = line.startswith(":") and len(body) >= 5 and len(body) == body[0] + 5
    if not whole or sum(body) & 0xFF:
        raise UsageError(f"line {number} is no Intel HEX record, or is damaged")
    return body[3], int.from_bytes(body[1:3], "big"), body[4:-1]
