"""Quantized graph -> Plan: kernels, byte offsets and instances. Everything the C will say.

The flow is `make`: what lives when (codegen.arrange), candidates of each layer, the choice among them
(codegen.select), placement, steps and their functions.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from codegen import arrange
from codegen.arrange import Network, Slot
from codegen.code_size import CALL, CALLS
from codegen.ir import Graph
from codegen.kernel import Instance, Kernel, Layer, Order
from codegen.ops import KERNELS
from codegen.order import reordered
from codegen.select import Budget, Candidate, Objective, Placed, candidate, function_key, select
from targets.errors import UnsupportedModel, UsageError
from targets.target import Core
from targets.timing import FlashTiming


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One kernel call.

    Attributes:
        name: the layer's label, made unique within the network.
        inputs: the slots of its arena inputs, in order.
        function: index into `Plan.functions`.
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
    function: int
    predicted: Candidate

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
        arena: bytes that the tensors alone need.
        size: bytes of the arena with scratch: what the caller provides.
        bound: bytes that no placement of the tensors can go below.
        size_bound: bytes that no placement of tensors and scratch can go below.
        candidates: of each step, the variants that could run it.
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

    @property
    def predicted_cycles(self) -> float:
        """Cycles of a run, waits for flash included."""
        return sum(step.predicted.total for step in self.steps)

    @property
    def predicted_flash(self) -> int:
        """Bytes of constants and instructions."""
        constants = sum(step.predicted.constants + CALL for step in self.steps)
        code = {step.function: step.predicted.code for step in self.steps}
        return CALLS + constants + sum(code.values())

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
    budget: Budget | None = None,
    flash: FlashTiming | None = None,
) -> Plan:
    """The plan of a quantized graph for a core, in another order of operators if that needs less SRAM.

    Args:
        graph: a quantized graph.
        core: what the kernels may use.
        objective: what to save where variants differ.
        overrides: kernel variant by layer name, from a recipe.
        budget: limits that the plan must keep.
        flash: of the board, for waits; None where there are none, or none are known.

    Raises:
        UsageError: a recipe names a layer or a kernel that does not exist or serve.
        UnsupportedModel: no kernel serves a layer.
        DoesNotFit: no choice of kernels keeps the budget.
    """
    chosen = overrides or {}, budget or Budget(), flash
    given = _make(graph, core, objective, *chosen)
    other = reordered(graph)
    if other is graph:
        return given
    moved = _make(other, core, objective, *chosen)
    return moved if moved.size < given.size else given


def _make(
    graph: Graph,
    core: Core,
    objective: Objective,
    overrides: Mapping[str, str],
    budget: Budget,
    flash: FlashTiming | None,
) -> Plan:
    """The plan of a graph as it stands."""
    network = arrange.network(graph, core)
    wanted = _checked_overrides(network.names, overrides)
    table = [
        _candidates(network, index, wanted.get(name), flash)
        for index, name in enumerate(network.names)
    ]
    chosen = select(table, objective, budget, lambda row: _sizes(network, row))
    picked = [row[index] for row, index in zip(table, chosen, strict=True)]
    space = arrange.arranged(network, [one.kernel for one in picked])
    orders = arrange.orders(network, space)
    rows = list(zip(network.names, network.layers, picked, orders, space.scratch, strict=True))
    steps, functions = _steps(graph.name, rows, space.slots, network.roots)
    return Plan(
        graph=graph,
        core=core,
        steps=steps,
        functions=functions,
        slots={name: space.slots[root] for name, root in network.roots.items()},
        arena=space.arena,
        size=space.size,
        bound=space.bound,
        size_bound=space.size_bound,
        candidates=tuple(tuple(row) for row in table),
    )


def _sizes(network: Network, picked: list[Candidate]) -> Placed:
    """SRAM and predicted flash of a choice: functions of both orders count twice."""
    space = arrange.arranged(network, [one.kernel for one in picked])
    functions = {
        (one.function, order): one.code
        for one, order in zip(picked, arrange.orders(network, space), strict=True)
    }
    flash = sum(one.constants + CALL for one in picked) + sum(functions.values())
    return Placed(space.size, flash + CALLS, tuple(s.end if s else 0 for s in space.scratch))


def _candidates(
    network: Network, index: int, wanted: str | None, flash: FlashTiming | None
) -> list[Candidate]:
    """The variants that serve a layer, or the one that a recipe wants."""
    layer = network.layers[index]
    return [
        candidate(kernel, layer, arrange.live(network, index, kernel), flash)
        for kernel in serving(layer, wanted)
    ]


def serving(layer: Layer, wanted: str | None = None) -> list[Kernel]:
    """The variants that can run a layer, or the one that a recipe wants."""
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
    prefix: str, rows: list[Row], slots: Mapping[str, Slot], roots: Mapping[str, str]
) -> tuple[tuple[Step, ...], tuple[Function, ...]]:
    functions: dict[tuple[object, ...], Function] = {}
    indices: dict[tuple[object, ...], int] = {}
    steps = []
    for index, (own_name, layer, chosen, order, scratch) in enumerate(rows):
        kernel, instance = chosen.kernel, chosen.instance
        inputs = tuple(slots[roots[tensor.name]] for tensor in layer.activations)
        key = (function_key(kernel, instance), order, len(inputs))
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
                predicted=chosen,
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
