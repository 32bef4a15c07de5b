"""Firmware -> bytes taken by the model. The linker script keeps the board's own code elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from targets.errors import UsageError


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes per section: the model, its kernels and the runtime helpers that they call."""

    code: int  # .text
    constants: int  # .rodata, weights included
    data: int
    bss: int


def sizes(elf: Path) -> Sizes:
    """Measures a firmware image."""
    try:
        with elf.open("rb") as stream:
            found = {s.name: int(s["sh_size"]) for s in ELFFile(stream).iter_sections()}
    except OSError as error:
        raise UsageError(f"cannot read {elf}: {error.strerror}") from error
    except ELFError as error:
        raise UsageError(f"{elf} is no ELF file: {error}") from error
    return Sizes(*(found.get(name, 0) for name in (".text", ".rodata", ".data", ".bss")))
