"""Layers and kernels -> what has to be placed: lifetimes, legal overlaps, rings, scratch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codegen.arena import Buffer, Overlap, Placement, Problem, place
from codegen.ir import Graph
from codegen.kernel import Footprint, Kernel, Layer

ALIGNMENT = 4  # word loads of kernels, and the arena itself


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the arena: bytes `offset` up to `offset + size`, from step `first` to step `last`."""

    name: str
    offset: int
    size: int
    first: int
    last: int

    @property
    def end(self) -> int:
        """First byte after the slot."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where everything lies.

    Attributes:
        slots: of every tensor that has one, by name; and of rings, by `ring_name`.
        scratch: per step.
        size: bytes of the arena with scratch: what the caller provides.
    """

    placement: Placement
    overlaps: tuple[Overlap, ...]
    slots: Mapping[str, Slot]
    scratch: tuple[Slot | None, ...]
    size: int

    @property
    def arena(self) -> int:
        """Bytes up to the end of the highest tensor or ring."""
        return self.placement.size


def layout(
    graph: Graph, layers: Sequence[Layer], kernels: Sequence[Kernel], roots: Mapping[str, str]
) -> Layout:
    """Places the tensors and rings of these steps, then their scratch."""
    buffers = lifetimes(graph, layers, roots)
    rings = tuple(
        Buffer(ring_name(graph, layer), kernel.rings(layer), index, index)
        for index, (layer, kernel) in enumerate(zip(layers, kernels, strict=True))
        if kernel.rings(layer)
    )
    steps = dict(enumerate(zip(layers, kernels, strict=True)))
    found = overlaps(graph, steps, buffers, roots)
    placement = place(Problem((*buffers, *rings), found, ALIGNMENT))
    slots = {
        b.name: Slot(b.name, placement.bases[b.name], b.size, b.first, b.last)
        for b in (*buffers, *rings)
    }
    scratch = place_scratch(layers, kernels, tuple(slots.values()))
    top = max([placement.size, *(s.end for s in scratch if s is not None)])
    return Layout(placement, found, slots, tuple(scratch), -(-top // ALIGNMENT) * ALIGNMENT)


def ring_name(graph: Graph, layer: Layer) -> str:
    """What the rings of a step are called; no tensor has that name."""
    name = f"rings of {layer.output.name}"
    while name in graph.tensors:
        name += "'"
    return name


def lifetimes(
    graph: Graph, layers: Sequence[Layer], roots: Mapping[str, str]
) -> tuple[Buffer, ...]:
    """Every tensor in the arena, from the step that writes it to the last one that reads it."""
    last_step = max(len(layers) - 1, 0)
    first = {roots[port.tensor]: 0 for port in graph.inputs}
    last = dict.fromkeys(first, 0)
    for index, layer in enumerate(layers):
        for tensor in layer.activations:
            last[roots[tensor.name]] = index
        first[layer.output.name] = last[layer.output.name] = index
    last |= {roots[port.tensor]: last_step for port in graph.outputs}
    return tuple(Buffer(name, graph.tensors[name].size, first[name], last[name]) for name in first)


def overlaps(
    graph: Graph,
    steps: Mapping[int, tuple[Layer, Kernel]],
    buffers: tuple[Buffer, ...],
    roots: Mapping[str, str],
) -> tuple[Overlap, ...]:
    """What each kernel's footprints allow between a dying input and the output, for steps by index."""
    lives = {buffer.name: buffer for buffer in buffers}
    outputs = {roots[port.tensor] for port in graph.outputs}
    found = []
    for index, (layer, kernel) in steps.items():
        born = lives[layer.output.name]
        allowed: dict[str, list[Footprint | None]] = {}
        for tensor, footprint in zip(layer.activations, kernel.footprints(layer), strict=True):
            allowed.setdefault(roots[tensor.name], []).append(footprint)
        for root, footprints in allowed.items():
            dies = lives[root].last == index and root not in outputs
            if dies and all(footprint is not None for footprint in footprints):
                known = [footprint for footprint in footprints if footprint is not None]
                found.append(_overlap(lives[root], born, known, kernel))
    return tuple(found)


def _overlap(dying: Buffer, born: Buffer, footprints: list[Footprint], kernel: Kernel) -> Overlap:
    """Least distances for every order that the kernel can be rendered in."""
    limit = -max(born.size, dying.size)  # beyond it the two are disjoint anyway
    distances: dict[str, int | None] = {"ascending": None, "descending": None}
    if "ascending" in kernel.orders:
        distances["ascending"] = max(limit, *(f.ascending_distance() for f in footprints))
    if "descending" in kernel.orders:
        backwards = (f.reversed().descending_distance() for f in footprints)
        distances["descending"] = max(limit, *backwards)
    return Overlap(dying.name, born.name, **distances)


def place_scratch(
    layers: Sequence[Layer], kernels: Sequence[Kernel], slots: tuple[Slot, ...]
) -> list[Slot | None]:
    """Scratch of each step: the lowest gap between the tensors that live at it."""
    placed: list[Slot | None] = []
    for index, (layer, kernel) in enumerate(zip(layers, kernels, strict=True)):
        size = kernel.scratch(layer)
        if size == 0:
            placed.append(None)
            continue
        offset = 0
        for slot in sorted(slots, key=lambda s: s.offset):
            if slot.first <= index <= slot.last and offset + size > slot.offset:
                offset = max(offset, -(-slot.end // ALIGNMENT) * ALIGNMENT)
        placed.append(Slot(f"scratch{index}", offset, size, index, index))
    return placed
