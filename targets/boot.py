"""What boot ROMs and boot loaders want to find in flash before, or beside, the vector table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BootArea:
    """Bytes at the start of flash that belong to the boot ROM.

    Attributes:
        vectors: offset of the vector table from the start of flash.
        description: what lies before or behind it.
    """

    vectors: int
    description: str


# The code and the tables themselves are templates/board/boot_<name>.j2; "loader" has none.
AREAS: Mapping[str, BootArea] = {
    "rp2040": BootArea(0x100, "a second stage of 256 bytes with a CRC, which maps the flash"),
    "rp2350": BootArea(0, "a block of five words in the first 4 KiB, which says what this is"),
    "loader": BootArea(0, "nothing: a boot loader below the start of flash jumps to the table"),
    "imxrt": BootArea(0x2000, "the flash's configuration, and a table that names the entry"),
}
