"""UF2: blocks of 512 bytes with 256 bytes of the image each, which boot loaders take as a dropped file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from targets.errors import UsageError
from targets.images.segments import ERASED, Segment, flatten

BLOCK = 512
PAYLOAD = 256
# Boot loaders erase sectors of this size. The image fills its last one: RP2040's leaves the pages of a
# sector that a file does not name unwritten only if none of them is (erratum RP2040-E14).
SECTOR = 4096
START = (0x0A324655, 0x9E5D5157)
END = 0x0AB16F30
FAMILY_PRESENT = 0x2000
_HEAD = struct.Struct("<8I")


@dataclass(frozen=True, slots=True)
class Block:
    """One block: which of how many, where its bytes belong, and for which parts."""

    number: int
    count: int
    family: int
    address: int
    data: bytes


def encode(segments: tuple[Segment, ...], family: int) -> bytes:
    """The file of an image.

    Args:
        segments: the image.
        family: the id that the boot loader looks for.
    """
    image = flatten(segments)
    before = image.address % SECTOR
    behind = -(before + len(image.data)) % SECTOR
    data = bytes((ERASED,)) * before + image.data + bytes((ERASED,)) * behind
    base, count = image.address - before, len(data) // PAYLOAD
    return b"".join(
        _block(number, count, family, base, data[number * PAYLOAD : (number + 1) * PAYLOAD])
        for number in range(count)
    )


def decode(data: bytes) -> Iterator[Block]:
    """The blocks of a file.

    Raises:
        UsageError: the file is no UF2, or a block is damaged.
    """
    if not data or len(data) % BLOCK:
        raise UsageError("the file is no UF2: it does not consist of blocks of 512 bytes")
    for at in range(0, len(data), BLOCK):
        first, second, flags, address, size, number, count, family = _HEAD.unpack_from(data, at)
        (end,) = struct.unpack_from("<I", data, at + BLOCK - 4)
        whole = (first, second) == START and end == END and size <= BLOCK - _HEAD.size - 4
        if not whole or not flags & FAMILY_PRESENT:
            raise UsageError(f"block {at // BLOCK} is no UF2 block with a family")
        start = at + _HEAD.size
        yield Block(number, count, family, address, data[start : start + size])


def _block(number: int, count: int, family: int, base: int, payload: bytes) -> bytes:
    address = base + number * PAYLOAD
    head = _HEAD.pack(*START, FAMILY_PRESENT, address, PAYLOAD, number, count, family)
    return (head + payload).ljust(BLOCK - 4, b"\0") + struct.pack("<I", END)
