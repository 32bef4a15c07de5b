"""ELF file -> which source line each instruction comes from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.dwarfinfo import DWARFInfo
from elftools.elf.elffile import ELFFile

_FIRST_OF_VERSION_5 = 5  # which numbers files from 0, earlier versions from 1


@dataclass(frozen=True, slots=True)
class Line:
    """A place in a source file; line 0 = unknown."""

    file: str  # name without folders
    line: int


UNKNOWN = Line("", 0)


@dataclass(frozen=True, slots=True)
class LineTable:
    """Lines by address. Empty for an image without debug information."""

    addresses: tuple[int, ...]  # sorted; each line holds up to the next address
    lines: tuple[Line, ...]

    def at(self, address: int) -> Line:
        """The line of an instruction."""
        i = bisect_right(self.addresses, address)
        return self.lines[i - 1] if i else UNKNOWN


def read(path: Path) -> LineTable:
    """Reads the line table of an image."""
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        if not elf.has_dwarf_info():
            return LineTable((), ())
        dwarf = elf.get_dwarf_info()
        rows: dict[int, Line] = {}
        for unit in dwarf.iter_CUs():
            for address, line in _rows(dwarf, unit):
                # Where one sequence ends and another begins, the one that begins counts.
                if line is not UNKNOWN or address not in rows:
                    rows[address] = line
    ordered = sorted(rows.items())
    return LineTable(tuple(a for a, _ in ordered), tuple(line for _, line in ordered))


def _rows(dwarf: DWARFInfo, unit: CompileUnit) -> Iterator[tuple[int, Line]]:
    program = dwarf.line_program_for_CU(unit)
    if program is None:
        return
    first = 0 if program["version"] >= _FIRST_OF_VERSION_5 else 1
    files = [
        PurePosixPath(entry.name.decode(errors="replace")).name for entry in program["file_entry"]
    ]
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        number = state.file - first
        if state.end_sequence or not 0 <= number < len(files):
            yield state.address, UNKNOWN
        else:
            yield state.address, Line(files[number], state.line)
