"""Quantized graph -> Plan: kernels, byte offsets and instances. Everything the C will say.

The flow is `make`: aliases, steps with their kernels, lifetimes, legal overlaps, placement, scratch.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from codegen import tight
from codegen.arena import Overlap
from codegen.functions import Function, Functions
from codegen.fused import Chain
from codegen.ir import Graph
from codegen.kernel import Instance, Kernel, Layer, Order
from codegen.ops import KERNELS
from codegen.problem import Slot, layout, ring_name
from targets.errors import UnsupportedModel, UsageError
from targets.target import Core

Objective = Literal["speed", "sram", "flash", "balanced"]
CYCLES_PER_BYTE = 40  # that a byte of flash has to save at every inference, "balanced"
USUAL_CODE = 1_500  # bytes of instructions of a tuned kernel


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One kernel call.

    Attributes:
        name: the layer's label, made unique within the network.
        inputs: the slots of its arena inputs, in order.
        rings: of a chain: tensors between its members, and sums.
        functions: indices into `Plan.functions`; a chain calls several.
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
    rings: Slot | None
    functions: tuple[int, ...]

    @property
    def function(self) -> int:
        """The function of a step that calls one."""
        (index,) = self.functions
        return index

    @property
    def chain(self) -> Chain | None:
        """The layers that the step runs pixel by pixel; None for a single layer."""
        op = self.layer.node.op
        return op if isinstance(op, Chain) else None

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
        """Bytes of the step's own tensors and rings, overlaps counted once."""
        total, reached = 0, 0
        own = {*self.inputs, self.output, *([self.rings] if self.rings else [])}
        for slot in sorted(own, key=lambda s: s.offset):
            total += max(0, slot.end - max(slot.offset, reached))
            reached = max(reached, slot.end)
        return total


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
    chains: Sequence[Sequence[str]] | None = None,
) -> Plan:
    """The plan of a quantized graph for a core.

    Args:
        graph: a quantized graph.
        core: what the kernels may use.
        objective: what to save where variants differ.
        overrides: kernel variant by layer name, from a recipe.
        chains: names of the layers of every chain, from a recipe; None = the objective decides.
    """
    roots = _aliases(graph)
    layers = [
        Layer(node, tuple(graph.tensors[i] for i in node.inputs), graph.tensors[node.output], core)
        for node in graph.nodes
        if node.op.kind != "reshape"
    ]
    names = _layer_names(layers)
    wanted = _checked_overrides(names, overrides or {})
    network = tight.Network(graph, tuple(layers), tuple(names), roots, wanted)
    chosen = _chosen(network, objective, chains)
    found = layout(graph, chosen.layers, chosen.kernels, roots)
    rows = [
        Row(name, layer, kernel, _order(layer, found.overlaps, found.slots), scratch)
        for name, layer, kernel, scratch in zip(
            chosen.names, chosen.layers, chosen.kernels, found.scratch, strict=True
        )
    ]
    steps, functions = _steps(graph, rows, found.slots, roots)
    placed = {name: found.slots[root] for name, root in roots.items() if root in found.slots}
    return Plan(
        graph=graph,
        core=core,
        steps=steps,
        functions=functions,
        slots=placed | {s.rings.name: s.rings for s in steps if s.rings is not None},
        arena=found.arena,
        size=found.size,
        bound=found.placement.bound,
    )


def _chosen(
    network: tight.Network, objective: Objective, chains: Sequence[Sequence[str]] | None
) -> tight.Choice:
    """Chains and kernels: the recipe's, else those that save the most where SRAM is the objective."""

    def choice(layer: Layer, wanted: str | None) -> Kernel:
        return choose(layer, objective, wanted)

    if chains is not None:
        return tight.with_groups(network, tight.named_groups(network, chains), choice)
    if objective == "sram":
        return tight.smallest(network, choice)
    return tight.with_groups(network, (), choice)


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


def _layer_names(layers: list[Layer]) -> list[str]:
    """Labels made unique: the second layer of an ONNX node is called "node#2"."""
    seen: dict[str, int] = {}
    names = []
    for layer in layers:
        seen[layer.label] = seen.get(layer.label, 0) + 1
        number = seen[layer.label]
        names.append(layer.label if number == 1 else f"{layer.label}#{number}")
    return names


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


def _order(layer: Layer, overlaps: Sequence[Overlap], slots: Mapping[str, Slot]) -> Order:
    """The order in which a step's kernel may run where its tensors were placed."""
    for overlap in overlaps:
        if overlap.born != layer.output.name:
            continue
        dying, born = slots[overlap.dying], slots[overlap.born]
        if dying.offset >= born.end or born.offset >= dying.end:
            continue
        ascending = overlap.ascending
        if ascending is None or dying.offset - born.offset < ascending:
            return "descending"
    return "ascending"


class Row(NamedTuple):
    """A step before its functions are known."""

    name: str
    layer: Layer
    kernel: Kernel
    order: Order
    scratch: Slot | None


def _steps(
    graph: Graph, rows: Sequence[Row], slots: Mapping[str, Slot], roots: Mapping[str, str]
) -> tuple[tuple[Step, ...], tuple[Function, ...]]:
    functions = Functions(graph.name)
    steps = []
    for index, row in enumerate(rows):
        instance = row.kernel.instance(row.layer)
        if isinstance(row.layer.node.op, Chain):
            called = functions.of_chain(row.layer.node.op)
        else:
            called = (functions.add(row.layer, row.kernel, instance, row.order),)
        steps.append(
            Step(
                index=index,
                name=row.name,
                layer=row.layer,
                kernel=row.kernel,
                instance=instance,
                order=row.order,
                inputs=tuple(slots[roots[tensor.name]] for tensor in row.layer.activations),
                output=slots[row.layer.output.name],
                scratch=row.scratch,
                rings=slots.get(ring_name(graph, row.layer)),
                functions=called,
            )
        )
    return tuple(steps), functions.found
