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
class Symbol:
    """What lies where: a function's code, or a variable."""

    address: int
    size: int
    name: str


@dataclass(frozen=True, slots=True)
class Image:
    """A firmware image. Addresses of functions carry no Thumb bit."""

    segments: tuple[Segment, ...]
    symbols: Mapping[str, int]
    functions: tuple[Symbol, ...]  # sorted by address
    objects: tuple[Symbol, ...] = ()  # variables, sorted by address

    def code(self, address: int, size: int) -> bytes:
        """Loaded bytes by run address; fewer where there are no more."""
        for s in self.segments:
            if s.address <= address < s.address + len(s.data):
                return s.data[address - s.address :][:size]
        return b""

    def object_before(self, address: int) -> Symbol | None:
        """The variable at an address, or the nearest one before it."""
        i = bisect_right(self.objects, address, key=lambda o: o.address)
        return self.objects[i - 1] if i else None

    def function_at(self, address: int) -> str:
        """Name of the function around an address, or an empty string."""
        i = bisect_right(self.functions, address, key=lambda f: f.address)
        if not i:
            return ""
        found = self.functions[i - 1]
        return found.name if address < found.address + max(found.size, 2) else ""


def read_or_raw(path: Path, base: int) -> Image:
    """An ELF file, or a raw binary as one segment at a base address."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if data.startswith(b"\x7fELF"):
        return read(path)
    if len(data) < 8:
        raise UsageError(f"{path} is too short for a firmware image")
    return Image((Segment(base, base, len(data), data),), {}, ())


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


_Sorted = tuple[Symbol, ...]


def _symbols(elf: ELFFile) -> tuple[Mapping[str, int], _Sorted, _Sorted]:
    symbols: dict[str, int] = {}
    functions: list[Symbol] = []
    objects: list[Symbol] = []
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
                functions.append(Symbol(address, s["st_size"], s.name))
            elif s["st_info"]["type"] == "STT_OBJECT":
                objects.append(Symbol(address, s["st_size"], s.name))
    return symbols, _sorted(functions), _sorted(objects)


def _sorted(found: list[Symbol]) -> _Sorted:
    return tuple(sorted(found, key=lambda f: (f.address, f.size, f.name)))
