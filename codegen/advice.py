"""Which step needs the most SRAM, and what would need less: every alternative is planned, none guessed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from codegen import arrange
from codegen.arena import Problem
from codegen.kernel import Kernel
from codegen.memory import lay_out
from codegen.occupancy import covered, live
from codegen.ops import KERNELS
from codegen.plan import Plan, Step, make, partitions
from targets.errors import UsageError

Kind = Literal["objective", "kernel", "input", "stream", "chains"]
MOST = 4  # pieces of advice
PARTITIONS = 3  # into chains that are planned: the ones with the shortest chains


@dataclass(frozen=True, slots=True)
class Advice:
    """A way to a smaller arena.

    Attributes:
        text: what to do.
        size: bytes of the arena then, scratch included.
        saves: bytes less than now.
        cycles: predicted cycles more per inference; None where the network itself would change.
        kernels: (layer, kernel) for recipe.toml: what differs from the plan.
        chains: layers of every chain, for recipe.toml.
    """

    kind: Kind
    text: str
    size: int
    saves: int
    cycles: int | None
    kernels: tuple[tuple[str, str], ...] = ()
    chains: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Peak:
    """The step that uses the most bytes of the arena.

    Attributes:
        bytes: of its live tensors and its scratch, shared ones counted once.
        tensors: names of what lives, the largest first.
        advice: what would lower the arena, the best first.
    """

    step: int
    layer: str
    bytes: int
    tensors: tuple[str, ...]
    advice: tuple[Advice, ...]


def peak(plan: Plan) -> Peak | None:
    """The peak of a plan; None when it has no steps."""
    if not plan.steps:
        return None
    step = max(plan.steps, key=lambda s: (covered(live(plan, s)), -s.index))
    slots = sorted(live(plan, step), key=lambda s: (-s.size, s.name))
    found = (
        *_other_options(plan),
        *_fused(plan),
        *_other_kernels(plan, step),
        *_less_input(plan, step),
    )
    names = tuple(slot.name for slot in slots)
    return Peak(step.index, step.name, covered(slots), names, tuple(_useful(found))[:MOST])


def enough(advice: Iterable[Advice], limit: int) -> list[Advice]:
    """What reaches a limit of bytes, the fewest cycles first."""
    able = [a for a in advice if a.size <= limit]
    return sorted(able, key=lambda a: (a.cycles is None, a.cycles or 0))


def in_words(advice: Advice) -> str:
    """One line: what to do, what it saves, what it costs."""
    cost = ""
    if advice.cycles:
        more = "more" if advice.cycles > 0 else "fewer"
        cost = f", {abs(advice.cycles):,} cycles {more}"
    return f"{advice.text}: saves {advice.saves:,} B{cost}"


def _useful(found: Iterable[Advice]) -> list[Advice]:
    """What saves bytes and is not beaten in bytes and cycles alike; fewest cycles per byte first."""
    saving = [a for a in found if a.saves > 0]
    best: list[Advice] = []
    for a in sorted(saving, key=lambda a: (a.size, a.cycles or 0)):
        if a.cycles is None or all(b.cycles is None or a.cycles < b.cycles for b in best):
            best.append(a)
    return sorted(best, key=lambda a: (a.cycles is None, (a.cycles or 0) / a.saves))


def _other_options(plan: Plan) -> Iterator[Advice]:
    """Other options of the command line: least SRAM, the input in rows, both."""
    streams = plan.source is not None
    smallest = make(plan.graph, plan.core, "sram", stream=streams)
    yield _planned(plan, "objective", "--optimize sram", smallest)
    if streams:
        return
    try:
        both = make(plan.graph, plan.core, "sram", stream=True)
    except UsageError:  # several inputs, or none that a chain can start at
        return
    if plan.objective == "sram":
        yield _planned(plan, "stream", "--stream-input", both)
        return
    rows = make(plan.graph, plan.core, plan.objective, stream=True)
    yield _planned(plan, "stream", "--stream-input", rows)
    yield _planned(plan, "stream", "--optimize sram --stream-input", both)


def _fused(plan: Plan) -> Iterator[Advice]:
    """Runs of layers as chains, where the plan has none; other kernels stay a matter of the objective."""
    if any(step.chain is not None for step in plan.steps):
        return
    for chains in islice(partitions(plan.graph, plan.core), PARTITIONS):
        fused = make(plan.graph, plan.core, plan.objective, chains=chains)
        first = chains[0]
        others = len(chains) - 1
        more = f" and {others} other run{'s' if others > 1 else ''}" if others else ""
        text = f"fuse layers {first[0]} .. {first[-1]}{more} (chains in recipe.toml)"
        yield replace(_planned(plan, "chains", text, fused), chains=chains)


def _planned(plan: Plan, kind: Kind, text: str, other: Plan) -> Advice:
    """Another plan as advice."""
    cycles = other.predicted_cycles - plan.predicted_cycles
    return Advice(kind, text, other.size, plan.size - other.size, round(cycles))


def _other_kernels(plan: Plan, peak: Step) -> Iterator[Advice]:
    """Every other variant of the peak's kernel, for its layer alone and for all that run the same."""
    for kernel in KERNELS.get(peak.layer.node.op.kind, ()):  # none: a chain
        if kernel == peak.kernel or not kernel.serves(peak.layer):
            continue
        alone = [kernel if step is peak else step.kernel for step in plan.steps]
        text = f"kernel {kernel.name} for layer {peak.name} (recipe.toml)"
        yield _advice(plan, "kernel", text, alone)
        everywhere = [
            kernel if step.kernel == peak.kernel and kernel.serves(step.layer) else step.kernel
            for step in plan.steps
        ]
        if everywhere != alone:
            text = (
                f"kernel {kernel.name} for every layer that runs {peak.kernel.name} (recipe.toml)"
            )
            yield _advice(plan, "kernel", text, everywhere)


def _less_input(plan: Plan, peak: Step) -> Iterator[Advice]:
    """What remains where the inputs that live at the peak do not exist: the most that less of them saves."""
    ports = {plan.slots[p.tensor] for p in plan.graph.inputs if p.tensor in plan.slots}
    at_peak = [slot for slot in live(plan, peak) if slot in ports]
    if not at_peak or peak.output in ports:
        return
    network, kernels = _network(plan), [step.kernel for step in plan.steps]
    problem = _without(arrange.problem(network, kernels), {slot.name for slot in at_peak})
    size = lay_out(problem, arrange.scratch_sizes(network, kernels)).size
    taken = sum(slot.size for slot in at_peak)
    text = f"a smaller input: it takes {taken:,} B of the peak; at best"
    yield Advice("input", text, size, plan.size - size, None)


def _advice(plan: Plan, kind: Kind, text: str, kernels: list[Kernel]) -> Advice:
    layers = [step.layer for step in plan.steps]
    size = arrange.arranged(_network(plan), kernels).size
    before = sum(step.kernel.cycles(step.layer) for step in plan.steps)
    after = sum(kernel.cycles(layer) for kernel, layer in zip(kernels, layers, strict=True))
    changed = tuple(
        (step.name, kernel.name)
        for step, kernel in zip(plan.steps, kernels, strict=True)
        if kernel != step.kernel
    )
    return Advice(kind, text, size, plan.size - size, round(after - before), changed)


def _network(plan: Plan) -> arrange.Network:
    layers, names = [step.layer for step in plan.steps], [step.name for step in plan.steps]
    return arrange.of_layers(plan.graph, layers, names)


def _without(problem: Problem, names: set[str]) -> Problem:
    return replace(
        problem,
        buffers=tuple(b for b in problem.buffers if b.name not in names),
        overlaps=tuple(o for o in problem.overlaps if not {o.dying, o.born} & names),
    )
