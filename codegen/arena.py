"""Arena placement: buffers with lifetimes and legal overlaps in, byte offsets and a lower bound out.

The problem: one base per buffer; two buffers that live at a common step must be disjoint, unless one
dies in the step that writes the other and the kernel's footprint allows the second to run over the
first (`Overlap`). The arena's size is to be minimal.

For a capacity, two searches look for a placement: bottom up (codegen.arena_search), then by corner
points (codegen.arena_corners). The first capacity is a lower bound (codegen.arena_bound): a placement
whose size equals its bound is proved optimal. Work is limited by counting, never by a clock: every
machine makes the same plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from codegen.arena_bound import proved_bound, step_bound
from codegen.arena_corners import corners
from codegen.arena_search import Bench, Search

LEAST_NODES = 200  # a search may place so many buffers, or twice as many as there are
THOROUGH = 10  # times as many for the last attempt at the bound
WORK = 400_000  # nodes times buffers of one search: what a node costs grows with the problem
MAX_BENCH = 1_000  # buffers; beyond it only corner points are tried
EXACT = 100  # buffers; beyond it the descent ends within 1/256 of the bound


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
    solver = _Solver(problem)
    bound = step_bound(problem)
    best = solver.fit(bound)
    if best is None:
        best = corners(problem, _total(problem), LEAST_NODES) or _stacked(problem)
        bound = proved_bound(problem, bound, _top(problem, best))
        best = solver.fit(bound, THOROUGH) or solver.descend(best, bound)
    return Placement(best, _top(problem, best), bound)


class _Solver:
    """The searches for one problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.bench = Bench(problem) if len(problem.buffers) <= MAX_BENCH else None
        self.preferences = self.bench.preferences() if self.bench else ()

    def fit(
        self, capacity: int, effort: int = 1, attempts: int | None = None
    ) -> dict[str, int] | None:
        """Bases within a capacity; None when none was found.

        Args:
            capacity: bytes.
            effort: how many times the usual number of nodes.
            attempts: how many orders of preference to try; None = all.
        """
        count = max(len(self.problem.buffers), 1)
        usual = max(LEAST_NODES, 2 * count)
        limit = max(usual, min(usual * effort, WORK // count))
        for preference in self.preferences[:attempts]:
            assert self.bench is not None
            search = Search(self.bench, capacity, preference, limit)
            if search.run() == "found":
                return search.named()
        if self.bench and not self.problem.overlaps:
            return None  # corner points add nothing where buffers are disjoint
        return corners(self.problem, capacity, limit)

    def descend(self, best: dict[str, int], bound: int) -> dict[str, int]:
        """The best placement that halving the interval between bound and best finds."""
        low, high = bound, _top(self.problem, best)
        enough = 1 if len(self.problem.buffers) <= EXACT else max(1, bound // 256)
        while high - low > enough:
            middle = (low + high) // 2
            found = self.fit(middle, attempts=2)
            if found is None:
                low = middle
            else:
                best, high = found, _top(self.problem, found)
        return best


def _total(problem: Problem) -> int:
    return sum(_aligned(b.size, problem.alignment) for b in problem.buffers)


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
