"""Lower bounds of an arena: what no placement can go below, proved by propagation.

Two buffers that live at a common step must satisfy one of a few alternatives, each of the form
base(after) >= base(before) + distance. For a capacity, every base has an earliest and a latest value.
An alternative that cannot hold within them is dead; the last one alive is forced and moves them. When
a pair has none left, the capacity is refuted. The least capacity that is not refuted is a bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codegen.arena import Buffer, Overlap, Problem

MAX_ROUNDS = 200
MAX_BUFFERS = 400  # beyond it the bound per step has to do


@dataclass(frozen=True, slots=True)
class _Edge:
    """base(after) >= base(before) + distance."""

    before: str
    after: str
    distance: int


def proved_bound(problem: Problem, low: int, high: int) -> int:
    """The least capacity between `low` (a bound already) and `high` (a placement) not refuted."""
    if len(problem.buffers) > MAX_BUFFERS:
        return low
    pairs = _alternatives(problem)
    while low < high:
        middle = (low + high) // 2
        if _refuted(problem, pairs, middle):
            low = middle + 1
        else:
            high = middle
    return low


def _alternatives(problem: Problem) -> list[Sequence[_Edge]]:
    related: Mapping[tuple[str, str], Overlap] = {(o.dying, o.born): o for o in problem.overlaps}
    pairs: list[Sequence[_Edge]] = []
    for a, b in combinations(problem.buffers, 2):
        if a.first > b.last or b.first > a.last:
            continue
        edges = [_Edge(a.name, b.name, a.size), _Edge(b.name, a.name, b.size)]
        for dying, born in ((a, b), (b, a)):
            overlap = related.get((dying.name, born.name))
            if overlap is not None and overlap.ascending is not None:
                edges.append(_Edge(born.name, dying.name, overlap.ascending))
            if overlap is not None and overlap.descending is not None:
                edges.append(_Edge(dying.name, born.name, overlap.descending))
        pairs.append(edges)
    return pairs


def _refuted(problem: Problem, pairs: list[Sequence[_Edge]], capacity: int) -> bool:
    step = problem.alignment
    earliest = {b.name: 0 for b in problem.buffers}
    latest = {b.name: _down(capacity - b.size, step) for b in problem.buffers}
    if min(latest.values(), default=0) < 0:
        return True
    for _ in range(MAX_ROUNDS):
        changed = False
        for edges in pairs:
            alive = [e for e in edges if earliest[e.before] + e.distance <= latest[e.after]]
            if not alive:
                return True
            if len(alive) > 1:
                continue
            edge = alive[0]
            first = -_down(-(earliest[edge.before] + edge.distance), step)
            last = _down(latest[edge.after] - edge.distance, step)
            if first > earliest[edge.after]:
                earliest[edge.after], changed = first, True
            if last < latest[edge.before]:
                latest[edge.before], changed = last, True
        if any(earliest[name] > latest[name] for name in earliest):
            return True
        if not changed:
            return False
    return False


def _down(value: int, step: int) -> int:
    return value // step * step


def step_bound(problem: Problem) -> int:
    """Largest, over the steps, of the live bytes with every legal overlap taken in full."""
    relations: dict[str, list[Overlap]] = {}
    for overlap in problem.overlaps:
        relations.setdefault(overlap.born, []).append(overlap)
    steps = sorted({b.first for b in problem.buffers})
    return max((_live_bytes(problem, relations, step) for step in steps), default=0)


def _live_bytes(problem: Problem, relations: Mapping[str, Sequence[Overlap]], step: int) -> int:
    """Bytes that a step needs, in whole units of the alignment but for the end of the topmost buffer."""
    unit = problem.alignment
    live: dict[str, Buffer] = {b.name: b for b in problem.buffers if b.first <= step <= b.last}
    sizes = {name: _up(b.size, unit) for name, b in live.items()}
    total = sum(sizes.values())
    for born in (name for name, b in live.items() if b.first == step):
        pairs = [o for o in relations.get(born, ()) if o.dying in live]
        if len(pairs) == 1:
            dying = pairs[0].dying
            total -= (
                sizes[dying] + sizes[born] - _pair_bytes(sizes[dying], sizes[born], pairs[0], unit)
            )
        elif pairs:
            total -= min(sizes[born], sum(sizes[o.dying] for o in pairs))
    return total - max((sizes[name] - b.size for name, b in live.items()), default=0)


def _pair_bytes(dying: int, born: int, overlap: Overlap, unit: int) -> int:
    """Bytes of two overlapping buffers alone; as their bases are, so are the distances rounded."""
    best = dying + born
    if overlap.ascending is not None:
        best = min(best, max(dying + _up(max(overlap.ascending, 0), unit), born))
    if overlap.descending is not None:
        best = min(best, max(born + _up(max(overlap.descending, 0), unit), dying))
    return best


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
