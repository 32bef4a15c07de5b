"""The host's side of qemu_counter.c: the plugin for the installed QEMU, and its table of blocks."""

from __future__ import annotations

import mmap
import platform
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from emulator import native
from emulator.blocks import BlockCount
from targets.errors import ThumbnetError

SOURCE = Path(__file__).with_name("qemu_counter.c")
CAPACITY = 1 << 16  # blocks
_HEADER = 4  # words: capacity, used, last, forgotten
_BLOCK = 5  # words: address, size, instructions, executions, taken
_FIRST_RELEASE_OF_API_2 = (9, 0)


@cache
def plugin(release: tuple[int, int]) -> Path | None:
    """The plugin for a QEMU release, compiled once per user; None where it cannot be had."""
    return native.compiled(SOURCE, plugin_options(release))


def plugin_options(release: tuple[int, int]) -> tuple[str, ...]:
    """How to compile a plugin for a QEMU release."""
    api = 2 if release >= _FIRST_RELEASE_OF_API_2 else 1
    # QEMU itself defines what the plugin calls. macOS wants that said, and some linkers elsewhere.
    darwin = platform.system() == "Darwin"
    undefined = "-Wl,-undefined,dynamic_lookup" if darwin else "-Wl,-z,undefs"
    return (f"-DPLUGIN_API={api}", "-fvisibility=hidden", undefined)


class QemuCounter:
    """Counts from its making on; read it only while the core stands still."""

    def __init__(self, path: Path) -> None:
        """Makes the file that the plugin is told to map."""
        size = 8 * (_HEADER + _BLOCK * CAPACITY)
        with path.open("w+b") as file:
            file.truncate(size)  # sparse: only pages in use take room
            words = np.frombuffer(mmap.mmap(file.fileno(), size), np.uint64)
        self._header = words[:_HEADER]
        self._blocks = words[_HEADER:].reshape(CAPACITY, _BLOCK)
        self._header[0] = CAPACITY

    @property
    def instructions(self) -> int:
        """Executed since the last take(), as QEMU itself decodes them."""
        used = self._blocks[: int(self._header[1])]
        return int(used[:, 2] @ used[:, 3])

    def finish(self, address: int) -> None:
        """Ends a run that arrived at an address."""
        last = int(self._header[2])
        if last:
            block = self._blocks[last - 1]
            block[4] += int(block[0] + block[1]) != address
        self._header[2] = 0

    def take(self) -> tuple[BlockCount, ...]:
        """All counts since the last call, joined and sorted by address."""
        if self._header[3]:
            raise ThumbnetError(f"the image has more than {CAPACITY:,} blocks to count")
        used = self._blocks[: int(self._header[1])]
        counts = sorted(
            BlockCount(address, size, executions, taken)
            for address, size, _, executions, taken in used[used[:, 3] > 0].tolist()
        )
        used[:, 3:] = 0
        self._header[2] = 0
        return joined(counts)


def joined(blocks: Sequence[BlockCount]) -> tuple[BlockCount, ...]:
    """The blocks, sorted by address, with those made one that QEMU cut at a page or a breakpoint.

    Two are one when the first always went on to what lies behind it, and that ran as often.
    """
    starts = Counter(block.address for block in blocks)
    by_start = {block.address: block for block in blocks}
    found: list[BlockCount] = []
    swallowed: set[int] = set()
    for block in blocks:
        if block.address in swallowed:
            continue
        whole = block
        while not whole.taken and starts[end := whole.address + whole.size] == 1:
            rest = by_start[end]
            if rest.executions != whole.executions:
                break
            swallowed.add(end)
            whole = BlockCount(whole.address, whole.size + rest.size, rest.executions, rest.taken)
        found.append(whole)
    return tuple(found)
