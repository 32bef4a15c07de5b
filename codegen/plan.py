"""Quantized graph -> Plan: kernels, byte offsets and instances. Everything the C will say.

The flow is `make`: what lives when (codegen.arrange), layers that run as chains (codegen.tight),
candidates of each step, the choice among them (codegen.select), placement, steps and their functions.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from codegen import arrange, fused, tight
from codegen.arrange import Network, Slot
from codegen.chain import Source
from codegen.code_size import CALL, CALLS
from codegen.functions import Function, Functions
from codegen.fused import Chain
from codegen.ir import Graph
from codegen.kernel import Instance, Kernel, Layer, Order
from codegen.ops import KERNELS
from codegen.order import reordered
from codegen.select import Budget, Candidate, Objective, Placed, candidate, select
from targets.errors import DoesNotFit, UnsupportedModel, UsageError
from targets.target import Core
from targets.timing import FlashTiming


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One kernel call.

    Attributes:
        name: the layer's label, made unique within the network.
        inputs: the slots of its arena inputs, in order.
        rings: of a chain: tensors between its members, and sums.
        functions: indices into `Plan.functions`; a chain calls several.
        predicted: the variant with its predictions.
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
    predicted: Candidate

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
        arena: bytes that the tensors alone need.
        size: bytes of the arena with scratch: what the caller provides.
        bound: bytes that no placement of the tensors can go below.
        size_bound: bytes that no placement of tensors and scratch can go below.
        candidates: of each step, the variants that could run it.
        objective: what it was asked to save.
    """

    graph: Graph
    core: Core
    steps: tuple[Step, ...]
    functions: tuple[Function, ...]
    slots: Mapping[str, Slot]
    arena: int
    size: int
    bound: int
    size_bound: int
    candidates: tuple[tuple[Candidate, ...], ...]
    objective: Objective = "balanced"

    @property
    def source(self) -> Source | None:
        """The input that is pushed row by row into the first step; None where inputs lie in the arena."""
        chain = self.steps[0].chain if self.steps else None
        return None if chain is None else chain.source

    @property
    def predicted_cycles(self) -> float:
        """Cycles of a run, waits for flash included."""
        return sum(step.predicted.total for step in self.steps)

    @property
    def predicted_flash(self) -> int:
        """Bytes of constants and instructions."""
        constants = sum(step.predicted.constants + CALL for step in self.steps)
        code = {step.functions: step.predicted.code for step in self.steps}
        return CALLS + constants + sum(code.values())

    @property
    def scratch(self) -> int:
        """Bytes that kernels' scratch adds to the arena."""
        return self.size - self.arena

    def input_is_consumed(self, tensor: str) -> bool:
        """Whether inference overwrites a network input; a streamed one lies nowhere."""
        if tensor not in self.slots:
            return False
        mine = self.slots[tensor]
        others = (s for s in self.slots.values() if s.name != mine.name)
        return any(s.offset < mine.end and mine.offset < s.end for s in others)


def make(
    graph: Graph,
    core: Core,
    objective: Objective = "balanced",
    overrides: Mapping[str, str] | None = None,
    chains: Sequence[Sequence[str]] | None = None,
    budget: Budget | None = None,
    flash: FlashTiming | None = None,
    stream: bool = False,
) -> Plan:
    """The plan of a quantized graph for a core, in another order of operators if that needs less SRAM.

    Args:
        graph: a quantized graph.
        core: what the kernels may use.
        objective: what to save where variants differ.
        overrides: kernel variant by layer name, from a recipe.
        chains: names of the layers of every chain, from a recipe; None = the objective decides.
        budget: limits that the plan must keep.
        flash: of the board, for waits; None where there are none, or none are known.
        stream: whether the input arrives row by row and never exists whole.

    Raises:
        UsageError: a recipe names a layer or a kernel that does not exist or serve; the input cannot
            be streamed.
        UnsupportedModel: no kernel serves a layer.
        DoesNotFit: no choice of kernels keeps the budget.
    """
    wishes = Wishes(objective, overrides or {}, chains, budget or Budget(), flash, stream)
    given = _make(graph, core, wishes)
    other = reordered(graph)
    if other is graph or chains is not None:
        return given
    moved = _make(other, core, wishes)
    return moved if moved.size < given.size else given


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a plan is asked to be; see `make`."""

    objective: Objective = "balanced"
    overrides: Mapping[str, str] = field(default_factory=dict)
    chains: Sequence[Sequence[str]] | None = None
    budget: Budget = field(default_factory=Budget)
    flash: FlashTiming | None = None
    stream: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Steps, and for each the variants that could run it and the one that does."""

    network: Network
    table: list[list[Candidate]]
    picked: list[Candidate]


def _make(graph: Graph, core: Core, wishes: Wishes) -> Plan:
    """The plan of a graph as it stands."""
    chosen = _chosen(arrange.network(graph, core), wishes)
    network, picked = chosen.network, chosen.picked
    space = arrange.arranged(network, [one.kernel for one in picked])
    orders = arrange.orders(network, space)
    rows = list(zip(network.names, network.layers, picked, orders, space.scratch, strict=True))
    steps, functions = _steps(graph, rows, space.slots, network.roots)
    slots = {n: space.slots[root] for n, root in network.roots.items() if root in space.slots}
    return Plan(
        graph=graph,
        core=core,
        steps=steps,
        functions=functions,
        slots=slots | {s.rings.name: s.rings for s in steps if s.rings is not None},
        arena=space.arena,
        size=space.size,
        bound=space.bound,
        size_bound=space.size_bound,
        candidates=tuple(tuple(row) for row in chosen.table),
        objective=wishes.objective,
    )


def _chosen(network: Network, wishes: Wishes) -> Selection:
    """Chains and kernels: the recipe's chains, else some where SRAM is the objective or nothing else fits."""
    wanted = _checked_overrides(network.names, wishes.overrides)
    whole = _whole(network, wanted, wishes.stream)
    if wishes.chains is not None:
        groups = tight.named_groups(whole, wishes.chains)
        return _selected(_fused(network, tight.with_groups(whole, groups, _overlapping)), wishes)
    if wishes.objective == "sram":
        smallest = _pinned(network, tight.smallest(whole, _overlapping), wishes)
        if _keeps(smallest, wishes.budget):
            return smallest
    try:
        if wishes.stream:
            shortest = tight.with_groups(whole, tight.streaming(whole), _overlapping)
            return _selected(_fused(network, shortest), wishes)
        return _selected(network, wishes)
    except DoesNotFit:
        smallest = _pinned(network, tight.smallest(whole, _overlapping), wishes)
        if _keeps(smallest, wishes.budget):
            return smallest
        raise


def _whole(network: Network, wanted: Mapping[str, str], stream: bool = False) -> tight.Network:
    streamed = tight.streamed(network) if stream else None
    layers, names = tuple(network.layers), tuple(network.names)
    return tight.Network(network.graph, layers, names, network.roots, wanted, streamed)


def _overlapping(layer: Layer, name: str | None) -> Kernel:
    return tight.overlapping(serving(layer, name), layer)


def partitions(graph: Graph, core: Core) -> Iterator[tuple[tuple[str, ...], ...]]:
    """Runs of layers that save SRAM as chains, by name: one partition per length, the shortest first."""
    return tight.partitions(_whole(arrange.network(graph, core), {}), _overlapping)


def _fused(network: Network, choice: tight.Choice) -> Network:
    return arrange.of_layers(network.graph, choice.layers, choice.names)


def _selected(network: Network, wishes: Wishes) -> Selection:
    """The best kernels for an objective, under its budget."""
    table = _table(network, wishes)
    verdict = lambda row: _sizes(network, row)  # noqa: E731
    chosen = select(table, wishes.objective, wishes.budget, verdict)
    return Selection(network, table, [row[i] for row, i in zip(table, chosen, strict=True)])


def _pinned(network: Network, choice: tight.Choice, wishes: Wishes) -> Selection:
    """Steps whose kernels are chosen already."""
    steps = _fused(network, choice)
    table = _table(steps, wishes)
    picked = [
        next(one for one in row if one.kernel is kernel)
        for row, kernel in zip(table, choice.kernels, strict=True)
    ]
    return Selection(steps, table, picked)


def _keeps(chosen: Selection, budget: Budget) -> bool:
    """Whether a choice is within all limits."""
    sizes = _sizes(chosen.network, chosen.picked)
    cycles = sum(one.total for one in chosen.picked)
    taken = ((sizes.sram, budget.sram), (sizes.flash, budget.flash), (cycles, budget.cycles))
    return all(limit is None or amount <= limit for amount, limit in taken)


def _table(network: Network, wishes: Wishes) -> list[list[Candidate]]:
    """The variants that serve each step, or the one that a recipe wants."""
    return [
        [
            candidate(kernel, layer, arrange.live(network, index, kernel), wishes.flash)
            for kernel in serving(layer, wishes.overrides.get(network.names[index]))
        ]
        for index, layer in enumerate(network.layers)
    ]


def _sizes(network: Network, picked: list[Candidate]) -> Placed:
    """SRAM and predicted flash of a choice: functions of both orders count twice."""
    space = arrange.arranged(network, [one.kernel for one in picked])
    functions = {
        (one.function, order): one.code
        for one, order in zip(picked, arrange.orders(network, space), strict=True)
    }
    flash = sum(one.constants + CALL for one in picked) + sum(functions.values())
    return Placed(space.size, flash + CALLS, tuple(s.end if s else 0 for s in space.scratch))


def serving(layer: Layer, wanted: str | None = None) -> list[Kernel]:
    """The variants that can run a layer, or the one that a recipe wants."""
    if isinstance(layer.node.op, Chain):
        return [fused.KERNEL]
    variants = KERNELS[layer.node.op.kind]
    able = [kernel for kernel in variants if kernel.serves(layer)]
    found = [kernel for kernel in able if wanted in (None, kernel.name)]
    if not found and wanted:
        raise UsageError(
            f"recipe: layer {layer.label!r} cannot run kernel {wanted!r}",
            hint=f"able: {', '.join(kernel.name for kernel in able)}",
        )
    if not found:
        raise UnsupportedModel(
            f"{layer.label}: no {layer.node.op.kind} kernel serves this layer", node=layer.label
        )
    return found


def choose(layer: Layer, objective: Objective = "balanced", wanted: str | None = None) -> Kernel:
    """The variant for a layer by itself."""
    row = [candidate(kernel, layer) for kernel in serving(layer, wanted)]
    (index,) = select([row], objective, Budget(), _alone)
    return row[index].kernel


def _alone(picked: list[Candidate]) -> Placed:
    (one,) = picked
    return Placed(one.live, one.constants + one.code + CALL + CALLS, (one.scratch,))


def _checked_overrides(names: list[str], overrides: Mapping[str, str]) -> Mapping[str, str]:
    for name in overrides:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {close[0]!r}?" if close else "see the layers of recipe.toml"
            raise UsageError(f"recipe: the model has no layer {name!r}", hint=hint)
    return overrides


Row = tuple[str, Layer, Candidate, Order, Slot | None]


def _steps(
    graph: Graph, rows: Sequence[Row], slots: Mapping[str, Slot], roots: Mapping[str, str]
) -> tuple[tuple[Step, ...], tuple[Function, ...]]:
    functions = Functions(graph.name)
    steps = []
    for index, (name, layer, chosen, order, scratch) in enumerate(rows):
        kernel, instance = chosen.kernel, chosen.instance
        if isinstance(layer.node.op, Chain):
            called = functions.of_chain(layer.node.op)
        else:
            called = (functions.add(layer, kernel, instance, order),)
        steps.append(
            Step(
                index=index,
                name=name,
                layer=layer,
                kernel=kernel,
                instance=instance,
                order=order,
                inputs=tuple(slots[roots[tensor.name]] for tensor in layer.activations),
                output=slots[layer.output.name],
                scratch=scratch,
                rings=slots.get(arrange.ring_name(graph, layer)),
                functions=called,
                predicted=chosen,
            )
        )
    return tuple(steps), functions.found
