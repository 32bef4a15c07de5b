"""What lies in the arena of a plan, when, and beside what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from codegen.arrange import Slot
from codegen.plan import Plan, Step

Kind = Literal["input", "output", "tensor", "rings", "scratch"]


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes of the arena over some steps.

    Attributes:
        slot: where and when.
        kind: an input that is also an output counts as an input.
        layer: name of the step that writes it; None for inputs.
        overlaps: names of the places that have bytes and a step in common with it.
    """

    slot: Slot
    kind: Kind
    layer: str | None
    overlaps: tuple[str, ...]


def places(plan: Plan) -> list[Place]:
    """Every place, tensors first, then scratch; each in the order of its steps."""
    slots = list(dict.fromkeys(plan.slots.values()))
    inputs = {plan.slots[p.tensor] for p in plan.graph.inputs if p.tensor in plan.slots}
    outputs = {plan.slots[port.tensor] for port in plan.graph.outputs}
    rings = {step.rings for step in plan.steps if step.rings}
    rows = [(s, "rings" if s in rings else _kind(s, inputs, outputs)) for s in slots]
    rows += [(step.scratch, "scratch") for step in plan.steps if step.scratch]
    makers = {step.output: step.name for step in plan.steps}
    makers |= {step.rings: step.name for step in plan.steps if step.rings}
    makers |= {step.scratch: step.name for step in plan.steps if step.scratch}
    return [
        Place(slot, kind, makers.get(slot), tuple(s.name for s, _ in rows if _share(slot, s)))
        for slot, kind in rows
    ]


def live(plan: Plan, step: Step) -> list[Slot]:
    """The tensors and the scratch that are in use in a step."""
    slots = dict.fromkeys(plan.slots.values())
    found = [slot for slot in slots if slot.first <= step.index <= slot.last]
    return found + ([step.scratch] if step.scratch else [])


def covered(slots: Iterable[Slot]) -> int:
    """Bytes of some slots, shared ones counted once."""
    total, reached = 0, 0
    for slot in sorted(slots, key=lambda s: s.offset):
        total += max(0, slot.end - max(slot.offset, reached))
        reached = max(reached, slot.end)
    return total


def _kind(slot: Slot, inputs: set[Slot], outputs: set[Slot]) -> Kind:
    if slot in inputs:
        return "input"
    return "output" if slot in outputs else "tensor"


def _share(a: Slot, b: Slot) -> bool:
    together = a.first <= b.last and b.first <= a.last
    return a != b and together and a.offset < b.end and b.offset < a.end
