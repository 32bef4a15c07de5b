"""Layers over time and space: when tensors live, how they may overlap, and where everything is put."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from codegen.arena import Buffer, Overlap, Problem
from codegen.fused import Chain
from codegen.ir import Graph, layer_names
from codegen.kernel import Footprint, Kernel, Layer, Order
from codegen.memory import lay_out
from targets.target import Core

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
class Network:
    """Layers, and when their tensors live; `roots` names the tensor whose bytes each one has."""

    graph: Graph
    layers: list[Layer]
    names: list[str]
    roots: Mapping[str, str]
    buffers: tuple[Buffer, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """Where everything lies for a choice of kernels.

    Attributes:
        slots: of every tensor by name, and of rings by `ring_name`.
        scratch: per step.
        arena: bytes that tensors and rings alone need.
        size: bytes with scratch: what the caller provides.
    """

    slots: Mapping[str, Slot]
    scratch: list[Slot | None]
    overlaps: tuple[Overlap, ...]
    arena: int
    bound: int
    size: int
    size_bound: int


def network(graph: Graph, core: Core) -> Network:
    """The layers of a quantized graph; reshaping is none, for it moves no byte."""
    layers = [
        Layer(node, tuple(graph.tensors[i] for i in node.inputs), graph.tensors[node.output], core)
        for node in graph.nodes
        if node.op.kind != "reshape"
    ]
    return of_layers(graph, layers, layer_names([layer.node for layer in layers]))


def of_layers(graph: Graph, layers: Sequence[Layer], names: Sequence[str]) -> Network:
    """A graph as these layers, some of which may be chains."""
    roots = _aliases(graph)
    return Network(graph, list(layers), list(names), roots, _lifetimes(graph, layers, roots))


def problem(network: Network, kernels: Sequence[Kernel]) -> Problem:
    """The tensors and rings to be placed if these kernels run the layers."""
    found = (
        overlap
        for index, kernel in enumerate(kernels)
        for overlap in overlaps(network, index, kernel)
    )
    rings = tuple(
        Buffer(ring_name(network.graph, layer), kernel.rings(layer), index, index)
        for index, (layer, kernel) in enumerate(zip(network.layers, kernels, strict=True))
        if kernel.rings(layer)
    )
    return Problem((*network.buffers, *rings), tuple(found), ALIGNMENT)


def ring_name(graph: Graph, layer: Layer) -> str:
    """What the rings of a step are called; no tensor has that name."""
    name = f"rings of {layer.output.name}"
    while name in graph.tensors:
        name += "'"
    return name


def scratch_sizes(network: Network, kernels: Sequence[Kernel]) -> dict[int, int]:
    """Bytes of scratch by step, of the steps that need some."""
    sizes = (kernel.scratch(layer) for layer, kernel in zip(network.layers, kernels, strict=True))
    return {index: size for index, size in enumerate(sizes) if size}


def arranged(network: Network, kernels: Sequence[Kernel]) -> Space:
    """Places tensors and scratch."""
    tensors, needed = problem(network, kernels), scratch_sizes(network, kernels)
    memory = lay_out(tensors, needed)
    slots = {
        b.name: Slot(b.name, memory.bases[b.name], b.size, b.first, b.last) for b in tensors.buffers
    }
    scratch = [
        Slot(f"scratch{i}", memory.scratch[i], needed[i], i, i) if i in needed else None
        for i in range(len(kernels))
    ]
    return Space(
        slots=slots,
        scratch=scratch,
        overlaps=tensors.overlaps,
        arena=memory.arena,
        bound=memory.bound,
        size=memory.size,
        size_bound=memory.size_bound,
    )


def orders(network: Network, space: Space) -> list[Order]:
    """The order in which each layer's kernel may run where its tensors were placed."""
    return [
        _order([o for o in space.overlaps if o.born == layer.output.name], space.slots)
        for layer in network.layers
    ]


def live(network: Network, index: int, kernel: Kernel) -> int:
    """Bytes of the tensors that live at a step, as far as its kernel lets them overlap."""
    size = {b.name: -(-b.size // ALIGNMENT) * ALIGNMENT for b in network.buffers}
    alive = sum(size[b.name] for b in network.buffers if b.first <= index <= b.last)
    saved = (
        size[o.dying] + size[o.born] - _union(size[o.dying], size[o.born], o)
        for o in overlaps(network, index, kernel)
    )
    return alive - max(saved, default=0)


def _union(dying: int, born: int, overlap: Overlap) -> int:
    """Least bytes of two tensors that may overlap."""
    least = dying + born
    if overlap.ascending is not None:
        least = min(least, max(born, max(0, overlap.ascending) + dying))
    if overlap.descending is not None:
        least = min(least, max(dying, max(0, overlap.descending) + born))
    return least


def _aliases(graph: Graph) -> dict[str, str]:
    """Root of every activation: reshaping moves no byte, so its output is its input."""
    roots = {port.tensor: port.tensor for port in graph.inputs}
    for node in graph.nodes:
        is_alias = node.op.kind == "reshape"
        roots[node.output] = roots[node.inputs[0]] if is_alias else node.output
    return roots


def _lifetimes(
    graph: Graph, layers: Sequence[Layer], roots: Mapping[str, str]
) -> tuple[Buffer, ...]:
    last_step = max(len(layers) - 1, 0)
    first = {roots[port.tensor]: 0 for port in graph.inputs}
    last = dict.fromkeys(first, 0)
    for index, layer in enumerate(layers):
        for tensor in layer.activations:
            last[roots[tensor.name]] = index
        first[layer.output.name] = last[layer.output.name] = index
    last |= {roots[name]: last_step for name in kept(graph)}
    streamed = {
        layer.node.op.source.tensor
        for layer in layers
        if isinstance(layer.node.op, Chain) and layer.node.op.source is not None
    }
    return tuple(
        Buffer(name, graph.tensors[name].bytes, first[name], last[name])
        for name in first
        if name not in streamed
    )


def kept(graph: Graph) -> tuple[str, ...]:
    """Tensors that live to the end: outputs, and inputs that take a state over to the next run."""
    states = (graph.inputs[index].tensor for _, index in graph.states)
    return (*(port.tensor for port in graph.outputs), *states)


def overlaps(network: Network, index: int, kernel: Kernel) -> Iterator[Overlap]:
    """What a kernel's footprints allow between dying inputs of its step and the output."""
    layer, roots = network.layers[index], network.roots
    lives = {buffer.name: buffer for buffer in network.buffers}
    outputs = {roots[name] for name in kept(network.graph)}
    born = lives[layer.output.name]
    allowed: dict[str, list[Footprint | None]] = {}
    for tensor, footprint in zip(layer.activations, kernel.footprints(layer), strict=True):
        allowed.setdefault(roots[tensor.name], []).append(footprint)
    for root, footprints in allowed.items():
        dies = lives[root].last == index and root not in outputs
        known = [footprint for footprint in footprints if footprint is not None]
        if dies and len(known) == len(footprints):
            yield _overlap(lives[root], born, known, kernel)


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


def _order(step_overlaps: list[Overlap], slots: Mapping[str, Slot]) -> Order:
    """The order in which a step's kernel may run where its tensors were placed."""
    for overlap in step_overlaps:
        dying, born = slots[overlap.dying], slots[overlap.born]
        if dying.offset >= born.end or born.offset >= dying.end:
            continue
        ascending = overlap.ascending
        if ascending is None or dying.offset - born.offset < ascending:
            return "descending"
    return "ascending"
