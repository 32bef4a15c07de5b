"""A chain of layers run pixel by pixel, simulated: ring sizes, and what is read when the output is written.

The order is demand-driven: to make its next pixel, a member first asks the producers of its inputs for
every pixel that its window sees. No pixel is computed twice. A tensor between members exists only as a
ring of its newest pixels; the slowest reader sets the ring's size (docs/memory.md).

A streamed input is the output of a member without operands, whose every firing makes one row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from codegen.ir import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Reads:
    """Which pixels of a tensor each firing of a member reads: `first` up to `end`, exclusive."""

    tensor: str
    first: IntArray
    end: IntArray

    def still_read(self) -> IntArray:
        """For every firing the first pixel that it or a later one reads."""
        found: IntArray = np.minimum.accumulate(self.first[::-1])[::-1]
        return found

    def span(self) -> int:
        """Most pixels from the first that is still read to the last that was read: a ring's least size."""
        return int((np.maximum.accumulate(self.end) - self.still_read()).max())


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A layer of a chain.

    Attributes:
        output: the tensor that it writes.
        reads: per operand in the arena.
        firings: how often it fires. Each firing writes the next `step` pixels, unless `collects`.
        collects: whether only the last firing writes: one pixel, the average of all.
        asks: outputs of members that make as many pixels before it fires: shortcuts, which run early so that
            what they read need not wait for the layers beside them.
    """

    output: str
    reads: tuple[Reads, ...]
    firings: int
    step: int = 1
    collects: bool = False
    asks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A network input that arrives row by row and exists only as a ring of rows.

    Attributes:
        tensor: its name.
        rows, columns, depth: of the whole image; depth in bytes.
        ring: pixels that exist at a time, whole rows; 0 before the chain was simulated.
    """

    tensor: str
    rows: int
    columns: int
    depth: int
    ring: int = 0

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, as they are pushed."""
        return self.columns * self.depth

    @property
    def member(self) -> Member:
        """What makes the rows, as the simulation sees it."""
        return Member(self.tensor, (), self.rows, self.columns)


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Of an outside tensor, per pixel of the chain's output: pixels read since the pixel before was written.

    Where none was read, `first` is beyond the tensor and `end` is 0.
    """

    first: IntArray
    end: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """What a run of a chain needs.

    Attributes:
        rings: pixels of each tensor between members, a multiple of its writer's step.
        traffic: of each tensor from outside.
    """

    rings: Mapping[str, int]
    traffic: Mapping[str, Traffic]


BEYOND = 1 << 40


class _Run:
    """The state of a simulated run; lists of plain integers, for speed."""

    def __init__(self, members: tuple[Member, ...]) -> None:
        self.members = members
        self.producer = {member.output: i for i, member in enumerate(members)}
        self.fired = [0] * len(members)
        self.rings = dict.fromkeys((member.output for member in members[:-1]), 0)
        self.ends = [[reads.end.tolist() for reads in member.reads] for member in members]
        self.firsts = [[reads.first.tolist() for reads in member.reads] for member in members]
        self.readers: dict[str, list[tuple[int, list[int]]]] = {name: [] for name in self.rings}
        self.seen: dict[str, list[int]] = {}
        for i, member in enumerate(members):
            for reads in member.reads:
                if reads.tensor in self.producer:
                    later = [*reads.still_read().tolist(), BEYOND]
                    self.readers[reads.tensor].append((i, later))
                else:
                    self.seen[reads.tensor] = [BEYOND, 0]

    def until(self, i: int, count: int) -> None:
        """Fires a member until it has made so many pixels."""
        step = self.members[i].step
        while self.fired[i] * step < count:
            self.fire(i)

    def fire(self, i: int) -> None:
        """Makes the next pixels of a member, after what it needs."""
        pixel, step = self.fired[i], self.members[i].step
        for operand, reads in enumerate(self.members[i].reads):
            end = self.ends[i][operand][pixel]
            source = self.producer.get(reads.tensor)
            if source is None:
                seen = self.seen[reads.tensor]
                seen[0] = min(seen[0], self.firsts[i][operand][pixel])
                seen[1] = max(seen[1], end)
                continue
            self.until(source, end)
        for name in self.members[i].asks:
            self.until(self.producer[name], (pixel + 1) * step)
        output = self.members[i].output
        if output in self.rings:
            # These pixels are being written while every reader still holds what its next firing reads.
            needed = min(later[self.fired[reader]] for reader, later in self.readers[output])
            alive = -(-((pixel + 1) * step - needed) // step) * step
            self.rings[output] = max(self.rings[output], alive)
        self.fired[i] = pixel + 1


def simulate(members: tuple[Member, ...]) -> Simulation:
    """Runs a chain. Members stand in execution order; the last one writes the output.

    Args:
        members: every output but the last is read by later members, and by nobody else. The last one's
            step is 1. A streamed input's stands first.
    """
    run = _Run(members)
    last = len(members) - 1
    traffic: dict[str, list[tuple[int, int]]] = {name: [] for name in run.seen}
    for firing in range(members[last].firings):
        run.fire(last)
        if members[last].collects and firing + 1 < members[last].firings:
            continue
        for name, seen in run.seen.items():
            traffic[name].append((seen[0], seen[1]))
            seen[:] = BEYOND, 0
    events = {name: np.array(pairs, np.int64).T for name, pairs in traffic.items()}
    return Simulation(
        run.rings, {name: Traffic(first, end) for name, (first, end) in events.items()}
    )
