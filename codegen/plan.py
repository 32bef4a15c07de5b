"""Quantized graph -> Plan: kernels, byte offsets and instances. Everything the C will say.

The flow is `make`: aliases, steps with their kernels, lifetimes, legal overlaps, placement, scratch.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from codegen.arena import Buffer, Overlap, Problem, place
from codegen.ir import Graph, layer_names
from codegen.kernel import Footprint, Instance, Kernel, Layer, Order
from codegen.ops import KERNELS
from targets.errors import UnsupportedModel, UsageError
from targets.target import Core

Objective = Literal["speed", "sram", "flash", "balanced"]
CYCLES_PER_BYTE = 40  # that a byte of flash has to save at every inference, "balanced"
USUAL_CODE = 1_500  # bytes of instructions of a tuned kernel
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
class Step:
    """One kernel call.

    Attributes:
        name: the layer's label, made unique within the network.
        inputs: the slots of its arena inputs, in order.
        function: index into `Plan.functions`.
    """

    index: int
    name: str
    layer: Layer
    kernel: Kernel
    instance: Instance
    order: Order
    inputs: tuple[Slot, ...]
    output: Slot
    scratch: Slot | None
    function: int

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights in flash."""
        return sum(c.weight_bytes for c in self.instance.constants)

    @property
    def constant_bytes(self) -> int:
        """Bytes of biases, multipliers and tables in flash."""
        return sum(c.bytes - c.weight_bytes for c in self.instance.constants)

    @property
    def arena_bytes(self) -> int:
        """Bytes of the step's own tensors, overlaps counted once."""
        total, reached = 0, 0
        for slot in sorted({*self.inputs, self.output}, key=lambda s: s.offset):
            total += max(0, slot.end - max(slot.offset, reached))
            reached = max(reached, slot.end)
        return total


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A C function: one kernel variant with its constants, shared by the steps that need exactly it."""

    name: str
    kernel: Kernel
    order: Order
    instance: Instance
    inputs: int
    has_scratch: bool


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A network ready to be written as C.

    Attributes:
        slots: place of every tensor that has one; aliases (reshaped tensors) share their root's slot.
        arena: bytes up to the end of the highest tensor.
        size: bytes of the arena with scratch: what the caller provides.
        bound: bytes that no placement of the tensors can go below.
    """

    graph: Graph
    core: Core
    steps: tuple[Step, ...]
    functions: tuple[Function, ...]
    slots: Mapping[str, Slot]
    arena: int
    size: int
    bound: int

    @property
    def scratch(self) -> int:
        """Bytes that kernels' scratch adds to the arena."""
        return self.size - self.arena

    def input_is_consumed(self, tensor: str) -> bool:
        """Whether inference overwrites a network input."""
        mine = self.slots[tensor]
        others = (s for s in self.slots.values() if s.name != mine.name)
        return any(s.offset < mine.end and mine.offset < s.end for s in others)


def make(
    graph: Graph,
    core: Core,
    objective: Objective = "balanced",
    overrides: Mapping[str, str] | None = None,
) -> Plan:
    """The plan of a quantized graph for a core.

    Args:
        graph: a quantized graph.
        core: what the kernels may use.
        objective: what to save where variants differ.
        overrides: kernel variant by layer name, from a recipe.
    """
    roots = _aliases(graph)
    layers = [
        Layer(node, tuple(graph.tensors[i] for i in node.inputs), graph.tensors[node.output], core)
        for node in graph.nodes
        if node.op.kind != "reshape"
    ]
    names = layer_names([layer.node for layer in layers])
    wanted = _checked_overrides(names, overrides or {})
    kernels = [
        choose(layer, objective, wanted.get(name))
        for layer, name in zip(layers, names, strict=True)
    ]
    buffers = _lifetimes(graph, layers, roots)
    overlaps = _overlaps(graph, layers, kernels, buffers, roots)
    problem = Problem(buffers, overlaps, ALIGNMENT)
    placement = place(problem)
    slots = {
        b.name: Slot(b.name, placement.bases[b.name], b.size, b.first, b.last) for b in buffers
    }
    scratch = _place_scratch(layers, kernels, tuple(slots.values()))
    orders = [
        _order([o for o in overlaps if o.born == layer.output.name], slots) for layer in layers
    ]
    steps, functions = _steps(
        graph.name, list(zip(names, layers, kernels, orders, scratch, strict=True)), slots, roots
    )
    top = max([placement.size, *(s.end for s in scratch if s is not None)])
    return Plan(
        graph=graph,
        core=core,
        steps=steps,
        functions=functions,
        slots={name: slots[root] for name, root in roots.items()},
        arena=placement.size,
        size=-(-top // ALIGNMENT) * ALIGNMENT,
        bound=placement.bound,
    )


def choose(layer: Layer, objective: Objective = "balanced", wanted: str | None = None) -> Kernel:
    """The cheapest variant that serves a layer, or the one that a recipe wants.

    "speed" saves cycles. "balanced" too, but flash beyond the usual has to save `CYCLES_PER_BYTE`. "sram"
    prefers kernels in C that run in both orders: they overlap best, and need little scratch. "flash"
    prefers kernels in C: unrolled assembly is fast but long.
    """
    variants = KERNELS[layer.node.op.kind]
    serving = [k for k in variants if k.serves(layer) and wanted in (None, k.name)]
    if not serving and wanted:
        able = ", ".join(k.name for k in variants if k.serves(layer))
        raise UsageError(
            f"recipe: layer {layer.label!r} cannot run kernel {wanted!r}", hint=f"able: {able}"
        )
    if not serving:
        raise UnsupportedModel(
            f"{layer.label}: no {layer.node.op.kind} kernel serves this layer", node=layer.label
        )
    if objective == "sram":
        return min(serving, key=lambda k: (len(k.orders) == 1, bool(k.assembly), k.cycles(layer)))
    if objective == "flash":
        return min(serving, key=lambda k: (k.assembly is not None, k.cycles(layer)))
    if objective == "balanced":
        return min(
            serving, key=lambda k: k.cycles(layer) + CYCLES_PER_BYTE * _extra_flash(k, layer)
        )
    return min(serving, key=lambda kernel: kernel.cycles(layer))


def _extra_flash(kernel: Kernel, layer: Layer) -> int:
    """Predicted bytes of flash beyond weights as they are and a usual function."""
    if kernel.flash is None:
        return 0
    weights = sum(t.size for t in layer.inputs if t.data is not None)
    return max(0, kernel.flash(layer) - weights - USUAL_CODE)


def _checked_overrides(names: list[str], overrides: Mapping[str, str]) -> Mapping[str, str]:
    for name in overrides:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {close[0]!r}?" if close else "see the layers of recipe.toml"
            raise UsageError(f"recipe: the model has no layer {name!r}", hint=hint)
    return overrides


def _aliases(graph: Graph) -> dict[str, str]:
    """Root of every activation: reshaping moves no byte, so its output is its input."""
    roots = {port.tensor: port.tensor for port in graph.inputs}
    for node in graph.nodes:
        is_alias = node.op.kind == "reshape"
        roots[node.output] = roots[node.inputs[0]] if is_alias else node.output
    return roots


def _lifetimes(graph: Graph, layers: list[Layer], roots: Mapping[str, str]) -> tuple[Buffer, ...]:
    last_step = max(len(layers) - 1, 0)
    first = {roots[port.tensor]: 0 for port in graph.inputs}
    last = dict.fromkeys(first, 0)
    for index, layer in enumerate(layers):
        for tensor in layer.activations:
            last[roots[tensor.name]] = index
        first[layer.output.name] = last[layer.output.name] = index
    last |= {roots[port.tensor]: last_step for port in graph.outputs}
    return tuple(Buffer(name, graph.tensors[name].size, first[name], last[name]) for name in first)


def _overlaps(
    graph: Graph,
    layers: list[Layer],
    kernels: list[Kernel],
    buffers: tuple[Buffer, ...],
    roots: Mapping[str, str],
) -> tuple[Overlap, ...]:
    """What each kernel's footprints allow between a dying input and the output."""
    lives = {buffer.name: buffer for buffer in buffers}
    outputs = {roots[port.tensor] for port in graph.outputs}
    found = []
    for index, (layer, kernel) in enumerate(zip(layers, kernels, strict=True)):
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


def _place_scratch(
    layers: list[Layer], kernels: list[Kernel], slots: tuple[Slot, ...]
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


Row = tuple[str, Layer, Kernel, Order, Slot | None]


def _steps(
    prefix: str, rows: list[Row], slots: Mapping[str, Slot], roots: Mapping[str, str]
) -> tuple[tuple[Step, ...], tuple[Function, ...]]:
    functions: dict[tuple[object, ...], Function] = {}
    indices: dict[tuple[object, ...], int] = {}
    steps = []
    for index, (own_name, layer, kernel, order, scratch) in enumerate(rows):
        instance = kernel.instance(layer)
        inputs = tuple(slots[roots[tensor.name]] for tensor in layer.activations)
        key = (
            kernel.template,
            order,
            tuple(sorted((k, repr(v)) for k, v in instance.params.items())),
            tuple((c.name, c.ctype) for c in instance.constants),
            len(inputs),
        )
        if key not in functions:
            taken = {function.name for function in functions.values()}
            way = "_down" if order == "descending" else ""
            name = _unique(f"{prefix}_{layer.node.op.kind}_{instance.label}{way}", taken)
            indices[key] = len(functions)
            has_scratch = scratch is not None
            functions[key] = Function(name, kernel, order, instance, len(inputs), has_scratch)
        steps.append(
            Step(
                index=index,
                name=own_name,
                layer=layer,
                kernel=kernel,
                instance=instance,
                order=order,
                inputs=inputs,
                output=slots[layer.output.name],
                scratch=scratch,
                function=indices[key],
            )
        )
    return tuple(steps), tuple(functions.values())


def _unique(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"
