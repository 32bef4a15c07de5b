"""ELF file -> what to load where, and what is called what."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from targets.errors import UsageError


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes to load, and the memory that they, or zeros, take at run time."""

    load_address: int
    address: int
    size: int  # in memory; data may be shorter
    data: bytes


@dataclass(frozen=True, slots=True)
class Function:
    """A function's code."""

    address: int
    size: int
    name: str


@dataclass(frozen=True, slots=True)
class Image:
    """A firmware image. Addresses of functions carry no Thumb bit."""

    segments: tuple[Segment, ...]
    symbols: Mapping[str, int]
    functions: tuple[Function, ...]  # sorted by address

    def function_at(self, address: int) -> str:
        """Name of the function around an address, or an empty string."""
        i = bisect_right(self.functions, address, key=lambda f: f.address)
        if not i:
            return ""
        found = self.functions[i - 1]
        return found.name if address < found.address + max(found.size, 2) else ""


def read(path: Path) -> Image:
    """Reads an image."""
    try:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            if elf["e_machine"] != "EM_ARM":
                raise UsageError(f"{path} is not for Arm")
            return Image(_segments(elf), *_symbols(elf))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ELFError as error:
        raise UsageError(f"{path} is no ELF file: {error}") from error


def _segments(elf: ELFFile) -> tuple[Segment, ...]:
    return tuple(
        Segment(s["p_paddr"], s["p_vaddr"], s["p_memsz"], s.data())
        for s in elf.iter_segments("PT_LOAD")
        if s["p_memsz"]
    )


def _symbols(elf: ELFFile) -> tuple[Mapping[str, int], tuple[Function, ...]]:
    symbols: dict[str, int] = {}
    functions: list[Function] = []
    for table in elf.iter_sections():
        if not isinstance(table, SymbolTableSection):
            continue
        for s in table.iter_symbols():
            if s["st_shndx"] == "SHN_UNDEF" or not s.name or s.name.startswith("$"):
                continue
            is_function = s["st_info"]["type"] == "STT_FUNC"
            address = s["st_value"] & ~1 if is_function else s["st_value"]
            if s["st_info"]["bind"] != "STB_LOCAL":
                symbols[s.name] = address
            if is_function:
                functions.append(Function(address, s["st_size"], s.name))
    return symbols, tuple(sorted(functions, key=lambda f: (f.address, f.size, f.name)))
