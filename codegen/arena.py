"""Arena placement: buffers with lifetimes and legal overlaps in, byte offsets and a lower bound out.

The problem: one base per buffer; two buffers that live at a common step must be disjoint, unless one
dies in the step that writes the other and the kernel's footprint allows the second to run over the
first (`Overlap`). The arena's size is to be minimal. Corner-point depth-first search: in a tightest
packing every buffer touches the floor, the ceiling or another buffer, so only such bases are tried.
A placement whose size equals its bound (codegen.arena_bound) is proved optimal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from codegen.arena_bound import proved_bound, step_bound

NODE_LIMIT = 5_000


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that live from step `first` to step `last`, both included."""

    name: str
    size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """How `born` may overlap `dying` in the step that reads the one last and writes the other.

    Attributes:
        ascending: least base(dying) - base(born) when the kernel writes from the first byte up.
        descending: least base(born) - base(dying) when it writes from the last byte down.
    """

    dying: str
    born: str
    ascending: int | None = None
    descending: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be placed. Bases are multiples of `alignment`."""

    buffers: tuple[Buffer, ...]
    overlaps: tuple[Overlap, ...] = ()
    alignment: int = 4


@dataclass(frozen=True, slots=True)
class Placement:
    """The answer: base of every buffer, total bytes, and bytes below which no placement can go."""

    bases: Mapping[str, int]
    size: int
    bound: int


def place(problem: Problem) -> Placement:
    """The smallest placement found; optimal for sure when its size equals its bound."""
    low = bound = step_bound(problem)
    best = _fit(problem, low)
    if best is None:
        best = _fit(problem, sum(_aligned(b.size, problem.alignment) for b in problem.buffers))
        best = best or _stacked(problem)
    high = _top(problem, best)
    while high - low > problem.alignment:
        middle = (low + high) // 2
        found = _fit(problem, middle)
        if found is None:
            low = middle
        else:
            best, high = found, _top(problem, found)
    return Placement(best, high, proved_bound(problem, min(bound, high), high))


@dataclass(slots=True)
class _Search:
    problem: Problem
    capacity: int
    order: list[Buffer]
    related: Mapping[tuple[str, str], Overlap]
    nodes: int = 0
    bases: dict[str, int] = field(default_factory=dict)
    placed: list[Buffer] = field(default_factory=list)

    def run(self) -> bool:
        """Places all of `order`; False when nothing fits or the limit of tried bases is reached."""
        choices = [self.candidates(self.order[0])] if self.order else []
        while choices:
            if not choices[-1]:
                choices.pop()
                if self.placed:
                    del self.bases[self.placed.pop().name]
                continue
            self.nodes += 1
            if self.nodes > NODE_LIMIT:
                return False
            buffer = self.order[len(self.placed)]
            self.bases[buffer.name] = choices[-1].pop()
            self.placed.append(buffer)
            if len(self.placed) == len(self.order):
                return True
            choices.append(self.candidates(self.order[len(self.placed)]))
        return not self.order

    def candidates(self, buffer: Buffer) -> list[int]:
        """Bases worth trying, lowest last: those that touch something and break no rule."""
        step = self.problem.alignment
        neighbours = [q for q in self.placed if q.first <= buffer.last and buffer.first <= q.last]
        tried = {0, (self.capacity - buffer.size) // step * step}
        for q in neighbours:
            tried.update(self.touching(buffer, q))
        kept = (
            base
            for base in tried
            if 0 <= base <= self.capacity - buffer.size
            and all(self.legal(buffer, base, q) for q in neighbours)
        )
        return sorted(kept, reverse=True)

    def touching(self, buffer: Buffer, q: Buffer) -> Iterator[int]:
        step, at = self.problem.alignment, self.bases[q.name]
        yield _aligned(at + q.size, step)
        yield (at - buffer.size) // step * step
        relation = self.related.get((buffer.name, q.name))
        if relation is None:
            return
        # Distances are from dying to born; the sign says which of the two is being placed.
        sign = 1 if relation.dying == buffer.name else -1
        if relation.ascending is not None:
            exact = at + sign * relation.ascending
            yield _aligned(exact, step) if sign > 0 else exact // step * step
        if relation.descending is not None:
            exact = at - sign * relation.descending
            yield exact // step * step if sign > 0 else _aligned(exact, step)

    def legal(self, buffer: Buffer, base: int, q: Buffer) -> bool:
        at = self.bases[q.name]
        if base + buffer.size <= at or at + q.size <= base:
            return True
        relation = self.related.get((buffer.name, q.name))
        if relation is None:
            return False
        dying, born = (base, at) if relation.dying == buffer.name else (at, base)
        if relation.ascending is not None and dying - born >= relation.ascending:
            return True
        return relation.descending is not None and born - dying >= relation.descending


def _fit(problem: Problem, capacity: int) -> dict[str, int] | None:
    """Bases within `capacity`, trying a few orders of placement; None when none was found."""
    orders = (
        sorted(problem.buffers, key=lambda b: (b.first, -b.size, b.name)),
        sorted(problem.buffers, key=lambda b: (-b.size, b.first, b.name)),
        sorted(problem.buffers, key=lambda b: (b.first - b.last, -b.size, b.name)),
    )
    related = {(o.dying, o.born): o for o in problem.overlaps}
    related |= {(o.born, o.dying): o for o in problem.overlaps}
    for order in orders:
        search = _Search(problem, capacity, order, related)
        if search.run():
            return search.bases
    return None


def _stacked(problem: Problem) -> dict[str, int]:
    """Every buffer on top of the one before: always legal."""
    bases, top = {}, 0
    for buffer in problem.buffers:
        bases[buffer.name] = top
        top = _aligned(top + buffer.size, problem.alignment)
    return bases


def _top(problem: Problem, bases: Mapping[str, int]) -> int:
    return max((bases[b.name] + b.size for b in problem.buffers), default=0)


def _aligned(value: int, step: int) -> int:
    return -(-value // step) * step
