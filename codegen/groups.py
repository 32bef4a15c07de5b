"""Which runs of layers become chains: the partition with the smallest peak, then the fewest fused boundaries.

The cost of a run is what lives during it: tensors that pass by, input and output with the best overlap,
rings (docs/memory.md). A run's cost is exact, but placement may need more than the largest cost, so several
partitions are offered: one per limit of the length.

A streamed input never exists whole: the first run, of one layer or more, reads it from a ring of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from codegen.arena import Buffer
from codegen.chain import Source
from codegen.fused import Link, footprint, rings_bytes, run, source_of

Groups = tuple[tuple[int, int], ...]
"""Runs of layers: first, end (exclusive); in order, disjoint, at least two layers each; one if it streams."""

LENGTHS = (2, 3, 4, 6, 1_000)
NO_GROUPS: Groups = ()
NEVER = 1 << 60  # bytes of what cannot be


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """What the choice rests on.

    Attributes:
        links: per layer its form as a member, None where it has none.
        buffers: the tensors' lifetimes, in steps of layers.
        outputs: roots of the network's outputs.
        alone: bytes that live while a layer runs by itself, with its best overlap.
        streamed: root of the network input that arrives row by row; None where inputs are whole.
    """

    links: tuple[Link | None, ...]
    buffers: Mapping[str, Buffer]
    outputs: frozenset[str]
    alone: tuple[int, ...]
    streamed: str | None = None

    def source(self, first: int, end: int) -> Source | None:
        """The input that a run streams; None where it streams none, or its members read other rows."""
        links = [link for link in self.links[first:end] if link is not None]
        if self.streamed is None or first > 0:
            return None
        return source_of(links, self.streamed)

    def least_length(self, first: int) -> int:
        """Layers that a chain from here on has at least."""
        return 1 if self.streamed is not None and first == 0 else 2


class Costs:
    """Bytes of runs, computed when asked for and kept."""

    def __init__(self, network: Network) -> None:
        """Nothing computed yet."""
        self.network = network
        self._known: dict[tuple[int, int], int | None] = {}
        self._spans = [_spans(link) for link in network.links]

    def exact(self, first: int, end: int) -> int | None:
        """Bytes that live during a run; None where it is no chain."""
        if self.is_single(first, end):
            return self.network.alone[first]
        if (first, end) not in self._known:
            self._known[first, end] = self._chain(first, end)
        return self._known[first, end]

    def least(self, first: int, end: int) -> int | None:
        """A bound below `exact` that needs no simulation; None where the run is no chain."""
        if self.is_single(first, end):
            return self.network.alone[first]
        if not is_chain(self.network, first, end):
            return None
        middle = self._middle(first, end)
        passing = self._passing(first, end, middle)
        out = self.network.links[end - 1]
        assert out is not None
        spans: dict[str, int] = {}
        for index in range(first, end):
            for name, size in self._spans[index]:
                spans[name] = max(spans.get(name, 0), size)
        return sum(passing.values()) + sum(spans.get(name, 0) for name in middle)

    def is_single(self, first: int, end: int) -> bool:
        """Whether a run is a layer by itself, and no chain."""
        return end - first < self.network.least_length(first)

    def _middle(self, first: int, end: int) -> set[str]:
        members = self.network.links[first : end - 1]
        found = {link.output for link in members if link is not None}
        if self.network.streamed is not None and first == 0:
            found.add(self.network.streamed)
        return found

    def _passing(self, first: int, end: int, middle: set[str]) -> dict[str, int]:
        """Sizes of the tensors from outside that live during a run; not its output."""
        return {
            b.name: b.size
            for b in self.network.buffers.values()
            if b.first < end
            and b.last >= first
            and b.name not in middle
            and b.name != _output(self.network, end)
        }

    def _chain(self, first: int, end: int) -> int | None:
        if not is_chain(self.network, first, end):
            return None
        links = [link for link in self.network.links[first:end] if link is not None]
        source = self.network.source(first, end)
        found = run(links, source)
        passing = self._passing(first, end, self._middle(first, end))
        out = self.network.buffers[links[-1].output]
        saved = 0
        for name, traffic in found.traffic.items():
            buffer = self.network.buffers[name]
            if buffer.last < end and name not in self.network.outputs:
                channels = _channels(links, name)
                events = footprint(traffic, channels, links[-1].pixel.layer.output.shape[-1])
                saved = max(saved, _saved(buffer.size, out.size, events.ascending_distance()))
        return sum(passing.values()) + out.size - saved + rings_bytes(links, found, source)


def _output(network: Network, end: int) -> str:
    link = network.links[end - 1]
    assert link is not None
    return link.output


def _channels(links: Sequence[Link], name: str) -> int:
    return next(
        tensor.shape[-1]
        for one in links
        for operand, tensor in zip(one.operands, one.pixel.layer.activations, strict=True)
        if operand == name
    )


def _saved(dying: int, born: int, distance: int) -> int:
    """Bytes that an ascending overlap saves."""
    together = max(dying + distance, born) if distance >= 0 else max(dying, born - distance)
    return max(0, dying + born - together)


def _spans(link: Link | None) -> list[tuple[str, int]]:
    """Per operand the least bytes of a ring for this reader alone."""
    if link is None:
        return []
    pairs = zip(link.member.reads, link.pixel.layer.activations, strict=True)
    return [(reads.tensor, reads.span() * tensor.shape[-1]) for reads, tensor in pairs]


def is_chain(network: Network, first: int, end: int) -> bool:
    """Whether layers may be fused: all have a pixel form, and inner tensors are read inside only."""
    links = network.links[first:end]
    if end - first < network.least_length(first) or any(link is None for link in links):
        return False
    known = [link for link in links if link is not None]
    if network.streamed is not None and first == 0 and not _streams(network, end):
        return False
    if any(link.pixel.collects for link in known[:-1]):
        return False
    return all(
        network.buffers[link.output].last < end
        and link.output not in network.outputs
        and _is_read_as_written(link, known)
        for link in known[:-1]
    )


def _streams(network: Network, end: int) -> bool:
    """Whether a run from the first layer on is all that reads the streamed input, row by row."""
    name = network.streamed
    assert name is not None
    inside = network.buffers[name].last < end and name not in network.outputs
    return inside and network.source(0, end) is not None


def _is_read_as_written(link: Link, readers: Sequence[Link]) -> bool:
    """Whether some member reads a tensor, and all see its pixels as its writer does."""
    channels = link.pixel.layer.output.shape[-1]
    seen = [
        tensor.shape[-1] == channels
        for reader in readers
        for name, tensor in zip(reader.operands, reader.pixel.layer.activations, strict=True)
        if name == link.output
    ]
    return bool(seen) and all(seen)


def offered(network: Network) -> Iterator[Groups]:
    """Partitions worth placing, none first, then by growing length of chains; each one once.

    With a streamed input there is a chain in each; where none can stream it, nothing is offered.
    """
    if network.streamed is None:
        yield NO_GROUPS
    costs = Costs(network)
    seen = {NO_GROUPS}
    for longest in LENGTHS:
        peak = _least_peak(costs, len(network.links), longest)
        if peak >= NEVER:
            continue
        groups = _fewest_fused(costs, len(network.links), longest, peak)
        if groups not in seen:
            seen.add(groups)
            yield groups


def _least_peak(costs: Costs, count: int, longest: int) -> int:
    """The smallest peak of any partition with runs of at most `longest` layers."""
    best = [0]
    for end in range(1, count + 1):
        peak = NEVER
        if costs.is_single(end - 1, end):
            peak = max(best[end - 1], costs.network.alone[end - 1])
        for first in range(end - 1, max(end - longest, 0) - 1, -1):
            if not costs.is_single(first, end):
                peak = min(peak, _peak(costs, first, end, best[first], peak))
        best.append(peak)
    return best[count]


def _peak(costs: Costs, first: int, end: int, before: int, known: int) -> int:
    """The peak with a run at the end, or `known` if that is no better."""
    least = costs.least(first, end)
    if least is None or max(before, least) >= known:
        return known
    cost = costs.exact(first, end)
    return known if cost is None else max(before, cost)


def _fewest_fused(costs: Costs, count: int, longest: int, peak: int) -> Groups:
    """The partition within a peak that fuses the fewest boundaries."""
    best: list[tuple[int, Groups] | None] = [(0, ())]
    for end in range(1, count + 1):
        found: tuple[int, Groups] | None = None
        for first in range(end - 1, max(end - longest, 0) - 1, -1):
            before = best[first]
            if before is None:
                continue
            fused = before[0] + end - first - 1
            if (found is None or fused < found[0]) and _fits(
                costs.least, costs.exact, first, end, peak
            ):
                single = costs.is_single(first, end)
                runs = before[1] if single else (*before[1], (first, end))
                found = fused, runs
        best.append(found)
    chosen = best[count]
    return NO_GROUPS if chosen is None else chosen[1]


_Cost = Callable[[int, int], int | None]


def _fits(least: _Cost, exact: _Cost, first: int, end: int, peak: int) -> bool:
    for cost in (least, exact):
        size = cost(first, end)
        if size is None or size > peak:
            return False
    return True
