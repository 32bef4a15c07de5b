"""Bottom-up search for a placement within a capacity: the exact half of codegen.arena.

Buffers are placed in canonical order: no base is below the one before, and each buffer lies as low as
what is already placed allows. Three prunings (they are those of MiniMalloc, ASPLOS 2023):

* per step: its floor (the least base that any buffer still missing there can have) plus the bytes still
  missing there must not exceed the capacity;
* dominance: no buffer starts at or above the lowest possible end of another that is still missing;
* every buffer must fit above its own floor.

Without overlaps the canonical order loses nothing: an exhausted search proves that nothing fits. With
overlaps a buffer may have to leave room below itself, so exhaustion proves nothing there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from codegen.arena import Buffer, Overlap, Problem

Verdict = Literal["found", "exhausted", "limit"]


@dataclass(frozen=True, slots=True)
class Relation:
    """Bases that a buffer may have besides those above the end of a placed one, relative to its base.

    Attributes:
        most: at most so far above it; None = no such choice.
        least: at least so far above it.
    """

    most: int | None
    least: int


class Bench:
    """A problem in the form that the search wants: numbers instead of names. Made once, used often."""

    def __init__(self, problem: Problem) -> None:
        """Finds who meets whom, and what each step holds."""
        self.problem = problem
        self.buffers: Sequence[Buffer] = problem.buffers
        self.sizes = [b.size for b in self.buffers]
        self.step = problem.alignment
        steps = sorted({b.first for b in self.buffers})
        self.members = [
            [i for i, b in enumerate(self.buffers) if b.first <= s <= b.last] for s in steps
        ]
        related = {(o.dying, o.born): o for o in problem.overlaps}
        self.relations = self._relations(related)
        self.partners: list[list[int]] = [[] for _ in self.buffers]
        for placing, placed in self.relations:
            self.partners[placing].append(placed)
        met: list[set[int]] = [set() for _ in self.buffers]
        for group in self.members:
            for i in group:
                met[i].update(group)
        self.neighbours = [sorted(others - {i}) for i, others in enumerate(met)]
        self.pairs = [
            [(b, d) for b in group for d in group if self._names(d, b) in related]
            for group in self.members
        ]

    def preferences(self) -> tuple[Sequence[int], ...]:
        """Orders of preference, the most successful first: by the fullest step, span, area, size."""
        sizes, buffers = self.sizes, self.buffers
        fullest = [0] * len(sizes)
        for group in self.members:
            load = sum(sizes[i] for i in group)
            for i in group:
                fullest[i] = max(fullest[i], load)
        spans = [b.last - b.first + 1 for b in buffers]
        keys: tuple[Callable[[int], tuple[int, ...]], ...] = (
            lambda i: (-fullest[i], -spans[i]),
            lambda i: (-sizes[i] * spans[i],),
            lambda i: (-spans[i], -sizes[i]),
            lambda i: (-fullest[i], -sizes[i]),
            lambda i: (buffers[i].first, -sizes[i]),
            lambda i: (-sizes[i],),
        )
        return tuple(sorted(range(len(sizes)), key=key) for key in keys)

    def _names(self, dying: int, born: int) -> tuple[str, str]:
        return self.buffers[dying].name, self.buffers[born].name

    def _relations(
        self, related: Mapping[tuple[str, str], Overlap]
    ) -> dict[tuple[int, int], Relation]:
        """By (buffer being placed, buffer placed below or beside it)."""
        index = {b.name: i for i, b in enumerate(self.buffers)}
        found = {}
        for (dying, born), overlap in related.items():
            d, b = index[dying], index[born]
            up, down = overlap.ascending, overlap.descending
            above = self.sizes[b] if up is None else min(self.sizes[b], up)
            found[d, b] = Relation(None if down is None else -down, above)
            above = self.sizes[d] if down is None else min(self.sizes[d], down)
            found[b, d] = Relation(None if up is None else -up, above)
        return found


class Search:
    """One run: a capacity, an order of preference, a limit of nodes."""

    def __init__(self, bench: Bench, capacity: int, preference: Sequence[int], limit: int) -> None:
        """Prepares a run.

        Args:
            bench: the problem.
            capacity: bytes.
            preference: every buffer's number, the ones to be tried first in front.
            limit: of buffers placed, over all branches.
        """
        self.bench, self.capacity, self.limit = bench, capacity, limit
        self.preference = preference
        self.nodes = 0
        self.bases: dict[int, int] = {}
        self.low = [0] * len(bench.sizes)
        self.missing = [True] * len(bench.sizes)

    def run(self) -> Verdict:
        """Searches; on "found" the bases are in `bases`."""
        count = len(self.bench.sizes)
        choices: list[list[tuple[int, int]]] = [self._choices(0)]
        undo: list[tuple[int, list[tuple[int, int]]]] = []
        while choices:
            if len(undo) == count:
                return "found"
            if not choices[-1]:
                choices.pop()
                if undo:
                    self._take_back(*undo.pop())
                continue
            self.nodes += 1
            if self.nodes > self.limit:
                return "limit"
            base, chosen = choices[-1].pop()
            undo.append((chosen, self._put(chosen, base)))
            choices.append(self._choices(base) if len(undo) < count else [])
        return "exhausted"

    def named(self) -> dict[str, int]:
        """The bases by name."""
        return {self.bench.buffers[i].name: base for i, base in self.bases.items()}

    def _put(self, chosen: int, base: int) -> list[tuple[int, int]]:
        """Places a buffer; what its neighbours' least bases were."""
        bench = self.bench
        self.bases[chosen] = base
        self.missing[chosen] = False
        end = -(-(base + bench.sizes[chosen]) // bench.step) * bench.step
        changed = []
        for other in bench.neighbours[chosen]:
            apart = self.missing[other] and (other, chosen) not in bench.relations
            if apart and self.low[other] < end:
                changed.append((other, self.low[other]))
                self.low[other] = end
        return changed

    def _take_back(self, chosen: int, changed: list[tuple[int, int]]) -> None:
        del self.bases[chosen]
        self.missing[chosen] = True
        for other, low in changed:
            self.low[other] = low

    def _choices(self, floor: int) -> list[tuple[int, int]]:
        """(base, buffer) worth trying next, best last; empty when this branch is dead."""
        least = self._least_bases(floor)
        if least is None or not self._steps_fit(least):
            return []
        sizes = self.bench.sizes
        lowest_end = min(base + sizes[i] for i, base in least.items())
        found = [(least[i], i) for i in self.preference if i in least and least[i] < lowest_end]
        found.sort(key=_base)  # stable: preference decides among equals
        found.reverse()
        return found

    def _least_bases(self, floor: int) -> dict[int, int] | None:
        """Least base of every missing buffer; None when one does not fit."""
        found = {}
        sizes, capacity = self.bench.sizes, self.capacity
        for i, missing in enumerate(self.missing):
            if missing:
                base = max(self.low[i], floor)
                base = self._legal(i, base) if self.bench.relations else base
                if base + sizes[i] > capacity:
                    return None
                found[i] = base
        return found

    def _legal(self, i: int, base: int) -> int:
        """The least base from `base` on that breaks no relation."""
        bench, moved = self.bench, True
        while moved:
            moved = False
            for other in bench.partners[i]:
                at = self.bases.get(other)
                if at is None:
                    continue
                relation = bench.relations[i, other]
                if relation.most is not None and base <= at + relation.most:
                    continue
                least = -(-(at + relation.least) // bench.step) * bench.step
                if base < least:
                    base, moved = least, True
        return base

    def _steps_fit(self, least: Mapping[int, int]) -> bool:
        sizes, missing = self.bench.sizes, self.missing
        for group, pairs in zip(self.bench.members, self.bench.pairs, strict=True):
            rest = [i for i in group if missing[i]]
            if rest:
                needed = min(least[i] for i in rest) + sum(sizes[i] for i in rest)
                if needed > self.capacity and needed - self._saved(pairs) > self.capacity:
                    return False
        return True

    def _saved(self, pairs: Sequence[tuple[int, int]]) -> int:
        """Most bytes that a step's overlaps between missing buffers can save."""
        sizes, missing = self.bench.sizes, self.missing
        dying: dict[int, int] = {}
        for b, d in pairs:
            if missing[b] and missing[d]:
                dying[b] = dying.get(b, 0) + sizes[d]
        return sum(min(sizes[b], size) for b, size in dying.items())


def _base(choice: tuple[int, int]) -> int:
    return choice[0]
