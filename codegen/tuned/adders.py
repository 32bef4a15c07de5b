"""Carry-save adders: how words of bits that differ are counted with few instructions.

A register of weight 2**l holds 32 one-bit counts of 2**l each. A full adder makes of three of one weight one
of that weight and one of the next; loads, and what three registers become, are decided here, for every
number of words. The registers at hand bound the words that one count can have (a chunk); the
sums of a byte's eight counts, at most 8 * words, must fit a byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOST_CHUNK = 31  # words whose counts of a byte fit a byte
POOL = tuple(f"r{i}" for i in range(2, 12))
SPARE = 3


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to registers: "load" (register, word) pairs, "differ" (x, w), "full" or "half" adders."""

    kind: str
    registers: tuple[str, ...]
    word: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """Registers that are counted together: bits of `low`, and twice those of `high`, times 2**shift."""

    low: str
    high: str | None
    shift: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Words that are counted together.

    Attributes:
        steps: in order.
        groups: registers that are left; the first has no shift.
        spare: three registers that are free in the end.
    """

    steps: tuple[Step, ...]
    groups: tuple[Group, ...]
    spare: tuple[str, ...]

    @property
    def registers(self) -> tuple[str, ...]:
        """All registers that are left."""
        found = (r for group in self.groups for r in (group.low, group.high))
        return tuple(r for r in found if r is not None)

    @property
    def counting(self) -> int:
        """Instructions that adders and the last counts take."""
        adders = sum({"full": 5, "half": 2}.get(step.kind, 0) for step in self.steps)
        joined = sum(group.high is not None for group in self.groups)
        return adders + 5 * len(self.registers) + 4 * len(self.groups) + joined


class _Adders:
    """Registers of every weight, and the adders that keep them few."""

    def __init__(self, pool: Sequence[str]) -> None:
        self.free = list(pool)
        self.levels: list[list[str]] = [[]]
        self.steps: list[Step] = []

    def take(self) -> str:
        if not self.free:
            raise ValueError("a chunk has too many words for its registers")
        return self.free.pop(0)

    def add(self, first: int, count: int) -> None:
        """One or two words: loaded together, for loads that follow loads are cheap."""
        pairs = [(self.take(), self.take()) for _ in range(count)]
        for index, (x, w) in enumerate(pairs):
            self.steps.append(Step("load", (x, w), first + index))
        for x, w in pairs:
            self.steps.append(Step("differ", (x, w)))
            self.free.append(w)
            self.levels[0].append(x)
        self._reduce(3, "full")

    def finish(self, halves: bool) -> Chunk:
        """What is left to count: half adders leave one register of each weight, else up to two are left."""
        if halves:
            self._reduce(2, "half")
        groups = []
        for bank in range(max(map(len, self.levels))):
            for low in range(0, len(self.levels), 2):
                pair = [level[bank:][:1] for level in self.levels[low : low + 2]]
                found = [register for held in pair for register in held]
                if found:
                    shift = low if pair[0] else low + 1
                    groups.append(Group(found[0], found[1] if len(found) > 1 else None, shift))
        return Chunk(tuple(self.steps), tuple(groups), tuple(self.free[:3]))

    def _reduce(self, size: int, kind: str) -> None:
        level = 0
        while level < len(self.levels):
            held = self.levels[level]
            while len(held) >= size:
                if level + 1 == len(self.levels):
                    self.levels.append([])
                adder = "full" if len(held) > 2 else kind
                self.levels[level + 1].append(self._adder(held, adder))
            level += 1

    def _adder(self, held: list[str], kind: str) -> str:
        """Adds the last registers of a weight up; the carry's register."""
        if kind == "half":
            carry = self.take()
            y = held.pop()
            self.steps.append(Step("half", (held[0], y, carry)))
            self.free.append(y)
            return carry
        u, v = self.take(), self.take()
        z, y = held.pop(), held.pop()
        self.steps.append(Step("full", (held[-1], y, z, u, v)))
        self.free += [u, v, z]
        return y


def chunk(first: int, words: int, pool: Sequence[str] = POOL) -> Chunk:
    """The plan for words `first` and on. ValueError where there are too few registers."""
    if words > MOST_CHUNK:
        raise ValueError("the counts of a byte would not fit a byte")
    found = []
    for halves in (False, True):
        adders = _Adders(pool)
        for at in range(0, words, 2):
            adders.add(first + at, min(2, words - at))
        found.append(adders.finish(halves))
    return min((one for one in found if len(one.spare) == SPARE), key=lambda one: one.counting)


def longest(pool: Sequence[str] = POOL) -> int:
    """Most words of a chunk."""
    words = 0
    try:
        while True:
            chunk(0, words + 1, pool)
            words += 1
    except ValueError:
        return words


def chunks(words: int, most: int) -> list[tuple[int, int]]:
    """First word and number of words of every chunk: as few as possible, all but the last of even length."""
    count = -(-words // most)
    size = -(-words // count)
    size = min(most, size + size % 2)
    return [(at, min(size, words - at)) for at in range(0, words, size)]


MOST = longest()
