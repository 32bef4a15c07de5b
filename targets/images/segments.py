"""What an image puts into flash: bytes at addresses."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from targets.errors import DoesNotFit, UsageError
from targets.target import Target

ERASED = 0xFF  # what flash holds where nothing was written


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes at an address."""

    address: int
    data: bytes

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + len(self.data)


def read_elf(path: Path, target: Target) -> tuple[Segment, ...]:
    """What a flasher would write of an ELF file, by rising address.

    Raises:
        UsageError: the file cannot be read.
        DoesNotFit: it holds bytes outside the flash that code runs from.
    """
    try:
        with path.open("rb") as stream:
            loaded = [s for s in ELFFile(stream).iter_segments("PT_LOAD") if s["p_filesz"]]
            found = [Segment(int(s["p_paddr"]), bytes(s.data())) for s in loaded]
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ELFError as error:
        raise UsageError(f"{path} is no ELF file: {error}") from error
    segments = tuple(sorted(found, key=lambda s: s.address))
    flash = target.flash
    for segment in segments:
        if not flash.base <= segment.address <= segment.end <= flash.end:
            raise DoesNotFit(
                f"{path} holds 0x{segment.address:08x}..0x{segment.end:08x}, "
                f"outside the flash of {target.name}"
            )
    return segments


def flatten(segments: tuple[Segment, ...], fill: int = ERASED) -> Segment:
    """All segments as one, with what lies between them filled.

    Raises:
        UsageError: there are none, or two overlap.
    """
    if not segments:
        raise UsageError("the image holds nothing")
    ordered = sorted(segments, key=lambda s: s.address)
    parts = [ordered[0].data]
    for low, high in pairwise(ordered):
        if low.end > high.address:
            raise UsageError(f"the image has two contents at 0x{high.address:08x}")
        parts += [bytes((fill,)) * (high.address - low.end), high.data]
    return Segment(ordered[0].address, b"".join(parts))
