"""Machine code -> the deepest stack that a call can reach: what every function takes, along the calls.

All code is read alike, as it will run: C of any compiler, kernels in assembly, the compiler's own library.
Frames are followed instruction by instruction along all branches. What cannot be bounded (recursion, calls
through pointers, a stack pointer from elsewhere) is refused, never guessed.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from emulator import elf
from emulator.timing.instruction import Instruction, decode
from targets.errors import ThumbnetError

_LONGEST = 4  # bytes of an instruction
_IMMEDIATE = re.compile(r"#(-?(?:0x[0-9a-f]+|\d+))")
_TABLE_HELPER = "__gnu_thumb1_case_"  # jumps by a table behind the call
_ENDS = frozenset(("udf", "bkpt"))


class Unbounded(ThumbnetError):
    """Code whose stack no bound could be found for."""


@dataclass(frozen=True, slots=True)
class StackBound:
    """The most that a call can take.

    Attributes:
        bytes: of the deepest path, from the stack pointer of the caller on.
        path: the functions on it, outermost first, each with the bytes it has in use there.
    """

    bytes: int
    path: tuple[tuple[str, int], ...] = ()


def bound(path: Path, functions: Sequence[str]) -> StackBound:
    """The largest bound of some functions of an ELF image; those that it lacks count nothing.

    Raises:
        Unbounded: their code does what no bound follows from.
    """
    code = _Code(path)
    found = (code.bound(address) for address in map(code.address, functions) if address is not None)
    return max(found, key=lambda b: b.bytes, default=StackBound(0))


@dataclass(frozen=True, slots=True)
class _Effect:
    """What an instruction does to the stack, and what runs after it.

    Attributes:
        grows: bytes that it takes; negative where it gives back.
        next: addresses that may follow.
        calls: address of a function that runs in between.
        jumps: whether it goes to where a table or a register says.
    """

    grows: int = 0
    next: tuple[int, ...] = ()
    calls: int | None = None
    jumps: bool = False


class _Code:
    """The functions of an image, bounded as they are asked for."""

    def __init__(self, path: Path) -> None:
        self._image = elf.read(path)
        self._starts = sorted({f.address for f in self._image.functions})
        self._ends = {f.address: f.address + f.size for f in self._image.functions if f.size}
        self._regions = _regions(path)
        self._conditional: set[int] = set()  # addresses in IT blocks
        self._known: dict[int, StackBound] = {}
        self._open: list[int] = []

    def address(self, name: str) -> int | None:
        """Where a function begins."""
        return self._image.symbols.get(name)

    def bound(self, entry: int) -> StackBound:
        """The bound of what a call of an address runs."""
        if entry in self._open:
            raise Unbounded(f"{self._name(entry)} calls itself: its stack has no bound")
        if entry not in self._known:
            self._open.append(entry)
            self._known[entry] = self._walk(entry)
            self._open.pop()
        return self._known[entry]

    def _walk(self, entry: int) -> StackBound:
        """Follows every branch of a function, with the depth of the stack at every instruction."""
        first, end = self._range(entry)
        depths = {entry: 0}
        pending = [entry]
        deepest = StackBound(0, ((self._name(entry), 0),))
        jumped: int | None = None  # depth at a jump by a table or a register
        while pending:
            at = pending.pop()
            effect = self._effect_at(at, depths[at])
            after = depths[at] + effect.grows
            paths = [self._with(entry, max(depths[at], after), effect.calls)]
            if effect.jumps:
                jumped = max(jumped or 0, after)
            for place in effect.next:
                if not first <= place < end:
                    paths.append(self._with(entry, after, place))
                elif self._is_new(place, after, depths):
                    depths[place] = after
                    pending.append(place)
            deepest = max(deepest, *paths, key=_bytes)
            if not pending and jumped is not None:
                pending = self._unreached(first, end, depths)[:1]
                depths.update(dict.fromkeys(pending, jumped))
        return deepest

    def _is_new(self, place: int, depth: int, depths: Mapping[int, int]) -> bool:
        """Whether an instruction was not reached before; all ways to it must take the same stack."""
        if depths.get(place, depth) != depth:
            raise self._strange(place, f"reached with {depths[place]} and {depth} bytes")
        return place not in depths

    def _effect_at(self, at: int, depth: int) -> _Effect:
        """The effect of an instruction, which may stand under an IT instruction."""
        instruction = self._instruction(at)
        effect = self._effect(at, instruction, depth)
        if instruction.kind == "it":
            self._conditional.update(self._block(at, instruction))
        if at not in self._conditional:
            return effect
        if effect.grows:
            raise self._strange(at, "a frame under a condition")
        return replace(effect, next=tuple({*effect.next, at + instruction.size}))

    def _block(self, at: int, it: Instruction) -> Iterator[int]:
        """Addresses of the instructions under an IT instruction."""
        at += it.size
        for _ in it.mnemonic[1:]:
            yield at
            at += self._instruction(at).size

    def _with(self, entry: int, depth: int, callee: int | None) -> StackBound:
        """A path that ends in a function, or goes on in another."""
        mine = ((self._name(entry), depth),)
        if callee is None:
            return StackBound(depth, mine)
        inner = self.bound(callee)
        return StackBound(depth + inner.bytes, mine + inner.path)

    def _unreached(self, first: int, end: int, depths: Mapping[int, int]) -> list[int]:
        """Starts of code in a function that only tables lead to: after what ends a path, or after data."""
        found = []
        reached = {at + i for at in depths for i in range(0, self._instruction(at).size, 2)}
        for start, stop in self._regions:
            free = [at for at in range(max(start, first), min(stop, end), 2) if at not in reached]
            found += [at for at in free if at - 2 in reached or at == max(start, first)]
        return [at for at in sorted(found) if not _is_padding(self._instruction(at))]

    def _effect(self, at: int, instruction: Instruction, depth: int) -> _Effect:
        after = at + instruction.size
        grows = self._growth(at, instruction)
        kind = instruction.kind
        if kind == "branch":
            target = _target(at, instruction)
            return _Effect(0, (target, after) if instruction.conditional else (target,))
        if kind == "call":
            if not instruction.operands.startswith("#"):
                raise self._strange(at, "a call through a pointer")
            callee = _target(at, instruction)
            by_table = self._name(callee).startswith(_TABLE_HELPER)
            return _Effect(0, () if by_table else (after,), callee, by_table)
        if kind == "branch_register":  # Armv6-M returns by way of a low register too
            returns = instruction.operands == "lr" or depth == 0
            return _Effect(jumps=not returns)
        if kind == "table_branch":
            return _Effect(jumps=True)
        if instruction.writes_pc:
            returns = kind == "load_multiple" or (kind == "load" and instruction.base == "sp")
            return _Effect(jumps=not returns)
        return _Effect(grows, () if instruction.mnemonic in _ENDS else (after,))

    def _growth(self, at: int, instruction: Instruction) -> int:
        """Bytes that an instruction takes of the stack."""
        if "sp" not in instruction.writes:
            return 0
        numbers = [int(text, 0) for text in _IMMEDIATE.findall(instruction.operands)]
        if instruction.kind in ("store_multiple", "load_multiple"):
            return 4 * instruction.words * (1 if instruction.kind == "store_multiple" else -1)
        if instruction.base == "sp" and numbers:
            return -numbers[-1]
        if instruction.mnemonic in ("sub", "subw") and numbers:
            return numbers[-1]
        if instruction.mnemonic in ("add", "addw") and numbers:
            return -numbers[-1]
        raise self._strange(at, "a stack pointer from elsewhere")

    def _instruction(self, at: int) -> Instruction:
        code = self._image.code(at, _LONGEST)
        if len(code) < 2:
            raise self._strange(at, "no code")
        return decode(code)[0] if len(code) == _LONGEST else decode(code[:2])[0]

    def _range(self, entry: int) -> tuple[int, int]:
        """First and end address of the function around an entry."""
        i = bisect_right(self._starts, entry)
        if not i:
            raise self._strange(entry, "no function")
        first = self._starts[i - 1]
        following = self._starts[i] if i < len(self._starts) else first + (1 << 20)
        return first, self._ends.get(first, following)

    def _name(self, address: int) -> str:
        return self._image.function_at(address) or f"0x{address:x}"

    def _strange(self, at: int, what: str) -> Unbounded:
        return Unbounded(f"no bound on the stack: {what} at 0x{at:x} in {self._name(at)}")


def _is_padding(instruction: Instruction) -> bool:
    return instruction.mnemonic == "nop" or instruction.operands == "r8, r8"


def _bytes(found: StackBound) -> int:
    return found.bytes


def _target(at: int, instruction: Instruction) -> int:
    """Where a branch leads, decoded as if it stood at address 0."""
    text = instruction.operands.rpartition("#")[2]
    return (at + int(text, 0)) & 0xFFFF_FFFE


def _regions(path: Path) -> tuple[tuple[int, int], ...]:
    """Where instructions lie, by the symbols with which assemblers tell them from data."""
    marks: dict[int, str] = {}
    with path.open("rb") as stream:
        image = ELFFile(stream)
        ends = [
            s["sh_addr"] + s["sh_size"] for s in image.iter_sections() if s["sh_flags"] & 4
        ]  # SHF_EXECINSTR
        for table in image.iter_sections():
            if isinstance(table, SymbolTableSection):
                for symbol in table.iter_symbols():
                    if symbol.name[:2] in ("$t", "$d"):
                        marks[symbol["st_value"] & ~1] = symbol.name[:2]
    ordered = [*sorted(marks.items()), (max(ends, default=0), "")]
    return tuple(
        (start, stop)
        for (start, kind), (stop, _) in pairwise(ordered)
        if kind == "$t" and start < stop
    )
