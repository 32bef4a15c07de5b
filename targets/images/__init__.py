"""Firmware in the formats that flashers take, from the ELF file: Intel HEX, raw binary, UF2."""

from __future__ import annotations

import os
from pathlib import Path

from targets.errors import BuildFailed, UsageError
from targets.images import bin as raw
from targets.images import hex as intel
from targets.images import uf2
from targets.images.segments import Segment, read_elf
from targets.target import Target

FORMATS = ("elf", "hex", "bin", "uf2")

__all__ = ["FORMATS", "Segment", "convert", "read_elf"]


def convert(elf: Path, form: str, target: Target) -> Path:
    """Writes an image beside its ELF file, whole or not at all; returns the file's path.

    Args:
        elf: the linked image.
        form: "elf", "hex", "bin" or "uf2".
        target: the board that it is for.
    """
    if form == "elf":
        return elf
    segments = read_elf(elf, target)
    if form == "hex":
        data = intel.encode(segments)
    elif form == "bin":
        data = raw.encode(segments)
    elif form == "uf2":
        data = uf2.encode(segments, _family(target))
    else:
        raise UsageError(f"unknown format '{form}'", hint="known: " + ", ".join(FORMATS))
    output = elf.with_suffix(f".{form}")
    fresh = output.with_name(f".{output.name}.new")
    try:
        fresh.write_bytes(data)
        os.replace(fresh, output)
    except OSError as error:
        raise BuildFailed(f"cannot write {output}: {error.strerror}") from error
    return output


def _family(target: Target) -> int:
    family = target.hardware.uf2_family
    if family is None:
        raise UsageError(
            f"{target.name} has no boot loader that takes UF2 files",
            hint="use --format hex or --format bin",
        )
    return family
