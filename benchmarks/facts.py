"""Boards' facts against where they come from: `python -m benchmarks.facts --sources DIR [BOARD ...]`.

DIR holds git clones of the repositories that [[sources]] of targets/boards/*.toml name, as DIR/OWNER/NAME
or DIR/OWNER+NAME/repo. Each file is read at its commit and never kept; every fact that a board claims
from it is compared. Ends with 1 when one differs.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from targets import family, load, names
from targets.errors import ThumbnetError, UsageError
from targets.hardware import Source
from targets.target import Region, Target

Read = Callable[[Source], str]
Memory = list[tuple[int, int]]  # first address, and the first one behind


@dataclass(frozen=True)
class Finding:
    """One fact of one board: what the source says, and whether the board agrees."""

    board: str
    fact: str
    source: Source
    said: str
    agrees: bool


def check(board: Target, read: Read) -> Iterator[Finding]:
    """Compares all facts of a board with their sources."""
    for source in board.sources:
        text = read(source)
        for fact in source.facts:
            if fact in FACTS:
                said, agrees = FACTS[fact](board, source, text)
            elif fact in {region.name for region in board.regions}:  # one bank of memory
                said, agrees = _within(board, source, text, (fact,))
            else:
                raise UsageError(f"{board.name}: nothing checks the fact '{fact}'")
            yield Finding(board.name, fact, source, said, agrees)


def _within(board: Target, source: Source, text: str, wanted: tuple[str, ...]) -> tuple[str, bool]:
    """Every bank of these names lies within memory that the source has."""
    memory = _joined(_memory(source, text))
    banks = [region for region in board.regions if region.name in wanted]
    said = " ".join(f"{start:#x}..{end:#x}" for start, end in memory)
    return said, all(_inside(bank, memory) for bank in banks)


def _regions(board: Target, source: Source, text: str) -> tuple[str, bool]:
    return _within(board, source, text, tuple(region.name for region in board.regions))


def _ram(board: Target, source: Source, text: str) -> tuple[str, bool]:
    return _within(board, source, text, tuple(r.name for r in board.regions if r.kind == "ram"))


def _memory(source: Source, text: str) -> Memory:
    if source.path.endswith(".ld"):
        pattern = r"ORIGIN\s*=\s*(0x[0-9a-fA-F]+)\s*,\s*LENGTH\s*=\s*(0x[0-9a-fA-F]+|\d+[kKM]?)"
        return [(int(m[1], 0), int(m[1], 0) + _size(m[2])) for m in re.finditer(pattern, text)]
    rows = json.loads(text)["memory"][0]
    return [(row["address"], row["address"] + row["size"]) for row in rows]


def _joined(memory: Memory) -> Memory:
    joined: Memory = []
    for start, end in sorted(memory):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _inside(bank: Region, memory: Memory) -> bool:
    return any(start <= bank.base and bank.end <= end for start, end in memory)


def _size(text: str) -> int:
    factor = {"k": 1024, "m": 1024**2}.get(text[-1].lower(), 1) if text[:2] != "0x" else 1
    return int(text[:-1]) * factor if factor > 1 else int(text, 0)


def _flash_size(board: Target, source: Source, text: str) -> tuple[str, bool]:
    found = re.search(r"FLASH_SIZE_BYTES \((\d+) \* 1024 \* 1024\)", text)
    said = int(found[1]) * 1024**2 if found else 0
    return f"{said:,} B", said == board.flash.size


def _console_base(board: Target, source: Source, text: str) -> tuple[str, bool]:
    said = _uart(board, source, text, "base")
    return f"{said:#x}", said == family.load(board.family).uart(board.console).base


def _console_irq(board: Target, source: Source, text: str) -> tuple[str, bool]:
    said = _uart(board, source, text, "irq")
    return str(said), said == family.load(board.family).uart(board.console).irq


def _pins(board: Target, source: Source, text: str) -> tuple[str, bool]:
    """The console's pins may carry it, by the function that the board names."""
    name, wiring = board.console.upper(), board.wiring
    (uart,) = (p for p in json.loads(text)["cores"][0]["peripherals"] if p["name"] == name)
    functions = {(row["pin"], row["signal"]): row.get("af") for row in uart["pins"]}
    said = {
        pin: functions.get((pin, signal)) for pin, signal in ((wiring.tx, "TX"), (wiring.rx, "RX"))
    }
    listed = " ".join(f"{pin}: {function}" for pin, function in said.items())
    return listed, set(said.values()) == {wiring.function}


def _uart(board: Target, source: Source, text: str, what: str) -> int:
    """The base address or the interrupt of the console's UART; -1: the source has none."""
    name = board.console.upper()
    if source.path.endswith(".svd"):
        return _uart_of_svd(name, text, what)
    if source.path.endswith(".h"):
        address = rf"\w*\b(?:IMXRT_)?{name}_(?:BASE|ADDRESS)\s+(?:_u\()?(0x[0-9a-fA-F]+)"
        irq = rf"\b(?:IRQ_{name}\s*=|{name}_IRQ)\s*(\d+)"
        found = re.search(address if what == "base" else irq, text)
        return int(found[1], 0) if found else -1
    core = json.loads(text)["cores"][0]
    (uart,) = (p for p in core["peripherals"] if p["name"] == name)
    if what == "base":
        return int(uart["address"])
    (line,) = {i["interrupt"] for i in uart["interrupts"] if i["signal"] == "GLOBAL"}
    (number,) = (i["number"] for i in core["interrupts"] if i["name"] == line)
    return int(number)


def _uart_of_svd(name: str, text: str, what: str) -> int:
    for peripheral in ElementTree.fromstring(text).iter("peripheral"):
        if peripheral.findtext("name") == name:
            tag = "baseAddress" if what == "base" else "interrupt/value"
            return int(peripheral.findtext(tag, "-1"), 0)
    return -1


def _clock(board: Target, source: Source, text: str) -> tuple[str, bool]:
    said = int(json.loads(text)["build"]["f_cpu"].rstrip("L"))
    return f"{said:,} Hz", said == board.clock_hz


def _usb(board: Target, source: Source, text: str) -> tuple[str, bool]:
    ids = {f"{vid[2:]}:{pid[2:]}".lower() for vid, pid in json.loads(text)["build"]["hwids"]}
    return " ".join(sorted(ids)), ids == {str(known) for known in board.hardware.usb}


def _board_ids(board: Target, source: Source, text: str) -> tuple[str, bool]:
    said = _mbed(board, text)
    return " ".join(said), len(said) == len(board.hardware.board_ids) > 0


def _pyocd(board: Target, source: Source, text: str) -> tuple[str, bool]:
    said = set(_mbed(board, text).values())
    return " ".join(sorted(said)), said == {board.hardware.flashers["pyocd"]}


def _mbed(board: Target, text: str) -> Mapping[str, str]:
    """Those of a board's ids that are registered, with pyOCD's name of the part."""
    rows = re.findall(r'"(\w{4})":\s*BoardInfo\(\s*"[^"]*",\s*"([^"]*)"', text)
    return {number: part for number, part in rows if number in board.hardware.board_ids}


def _uf2(board: Target, source: Source, text: str) -> tuple[str, bool]:
    wanted = {"rp2040": "RP2040", "rp2350": "RP2350_ARM_S"}[board.family]
    (said,) = (int(row["id"], 0) for row in json.loads(text) if row["short_name"] == wanted)
    return f"{said:#x}", said == board.hardware.uf2_family


FACTS: Mapping[str, Callable[[Target, Source, str], tuple[str, bool]]] = {
    "regions": _regions,
    "ram": _ram,
    "flash_size": _flash_size,
    "console_base": _console_base,
    "console_irq": _console_irq,
    "pins": _pins,
    "clock_hz": _clock,
    "usb": _usb,
    "board_ids": _board_ids,
    "pyocd": _pyocd,
    "uf2_family": _uf2,
}


def clones(folder: Path) -> Read:
    """A function that reads a source from git clones below a folder."""

    def read(source: Source) -> str:
        plus = folder / source.repository.replace("/", "+") / "repo"
        clone = plus if plus.is_dir() else folder / source.repository
        command = ("git", "-C", str(clone), "show", f"{source.commit}:{source.path}")
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            message = done.stderr.decode(errors="replace").strip()
            raise UsageError(f"cannot read {source.repository} {source.path}: {message}")
        return done.stdout.decode()

    return read


def main() -> int:
    """Prints what agrees and what differs; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sources", type=Path, required=True, metavar="DIR")
    parser.add_argument("boards", nargs="*", metavar="BOARD")
    options = parser.parse_args()
    read = clones(options.sources)
    try:
        boards = [load(name) for name in options.boards or names()]
        found = [finding for board in boards for finding in check(board, read)]
    except ThumbnetError as error:
        print(f"error: {error.message}")
        return error.exit_code
    for finding in found:
        mark = "ok     " if finding.agrees else "DIFFERS"
        print(f"{mark} {finding.board:18} {finding.fact:12} {finding.source.path}: {finding.said}")
    wrong = sum(not finding.agrees for finding in found)
    sourced = len({finding.board for finding in found})
    print(
        f"{len(found) - wrong} of {len(found)} facts of {sourced} boards agree with their sources"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
