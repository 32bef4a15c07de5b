"""Corner-point search for a placement within a capacity: the half of codegen.arena that overlaps need.

In a tightest packing every buffer touches the floor, the ceiling or another buffer, so only such bases
are tried, in a fixed order of buffers. Unlike the bottom-up search it may put a buffer below one that is
already placed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codegen.arena import Buffer, Overlap, Problem


def corners(problem: Problem, capacity: int, limit: int) -> dict[str, int] | None:
    """Bases within `capacity`, trying a few orders of placement; None when none was found.

    Args:
        problem: what is to be placed.
        capacity: bytes.
        limit: of bases tried, for each order.
    """
    orders = (
        sorted(problem.buffers, key=lambda b: (b.first, -b.size, b.name)),
        sorted(problem.buffers, key=lambda b: (-b.size, b.first, b.name)),
        sorted(problem.buffers, key=lambda b: (b.first - b.last, -b.size, b.name)),
    )
    related = {(o.dying, o.born): o for o in problem.overlaps}
    related |= {(o.born, o.dying): o for o in problem.overlaps}
    for order in orders:
        search = _Search(problem, capacity, order, related, limit)
        if search.run():
            return search.bases
    return None


@dataclass(slots=True)
class _Search:
    problem: Problem
    capacity: int
    order: Sequence[Buffer]
    related: Mapping[tuple[str, str], Overlap]
    limit: int
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
            if self.nodes > self.limit:
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
        related = [q for q in neighbours if (buffer.name, q.name) in self.related]
        apart = [q for q in neighbours if (buffer.name, q.name) not in self.related]
        starts, stops = self.taken(buffer, apart)
        kept = []
        for base in tried:
            before = bisect_right(starts, base) - 1
            free = before < 0 or base >= stops[before]
            if free and 0 <= base <= self.capacity - buffer.size:
                kept.append(base)
        return sorted(
            (b for b in kept if all(self.legal(buffer, b, q) for q in related)), reverse=True
        )

    def taken(self, buffer: Buffer, apart: Sequence[Buffer]) -> tuple[list[int], list[int]]:
        """Bases at which a buffer would lie over one of the others, as disjoint runs: starts and stops."""
        runs = sorted(
            (self.bases[q.name] - buffer.size + 1, self.bases[q.name] + q.size) for q in apart
        )
        starts: list[int] = []
        stops: list[int] = []
        for start, stop in runs:
            if stops and start <= stops[-1]:
                stops[-1] = max(stops[-1], stop)
            else:
                starts.append(start)
                stops.append(stop)
        return starts, stops

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


def _aligned(value: int, step: int) -> int:
    return -(-value // step) * step
