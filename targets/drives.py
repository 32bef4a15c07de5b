"""Drives that boards show to take firmware as a copied file."""

from __future__ import annotations

import re
import string
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

INFO_FILES = {"INFO_UF2.TXT": "uf2", "DETAILS.TXT": "daplink"}
# Where systems mount drives; patterns below them.
MOUNTS = ("/media/*", "/media/*/*", "/run/media/*/*", "/mnt/*", "/Volumes/*")


@dataclass(frozen=True, slots=True)
class Drive:
    """A mounted drive of a board.

    Attributes:
        path: where it is mounted.
        kind: "uf2" or "daplink".
        board: what it says it is: Board-ID of a UF2 boot loader, first four digits of a DAPLink's id.
    """

    path: Path
    kind: str
    board: str


def mounted(folders: tuple[Path, ...] | None = None) -> tuple[Drive, ...]:
    """The drives of boards among some folders; by default among all places where drives are mounted."""
    places = _places() if folders is None else iter(folders)
    found = (read(folder) for folder in places)
    return tuple(drive for drive in found if drive is not None)


def read(folder: Path) -> Drive | None:
    """The drive mounted at a folder, if it is a board's."""
    for name, kind in INFO_FILES.items():
        try:
            text = (folder / name).read_text(errors="replace")
        except OSError:
            continue
        pattern = r"^Board-ID:\s*(\S+)" if kind == "uf2" else r"^Unique ID:\s*(\w{4})"
        said = re.search(pattern, text, re.MULTILINE)
        return Drive(folder, kind, said[1] if said else "")
    return None


def _places() -> Iterator[Path]:
    if sys.platform == "win32":
        yield from (Path(f"{letter}:/") for letter in string.ascii_uppercase[3:])
        return
    for pattern in MOUNTS:
        yield from sorted(Path("/").glob(pattern[1:]))
