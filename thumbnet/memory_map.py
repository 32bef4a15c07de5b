"""The arena over time, as data: for --json, for the emulator's tags, for memory.svg."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codegen.plan import Plan, Slot, Step
from emulator.shadow import Area, ArenaMap, StepAreas
from targets.errors import UsageError


def entries(planned: Plan) -> list[dict[str, Any]]:
    """Every place in the arena: what it is, where, in which steps, and what shares bytes with it.

    `overlaps` are the names of those that have bytes and a step in common with it.
    """
    rows = _rows(planned)
    makers = {step.output: step for step in planned.steps}
    makers |= {step.scratch: step for step in planned.steps if step.scratch}
    return [
        {
            "name": slot.name,
            "kind": kind,
            "layer": makers[slot].name if slot in makers else None,
            "offset": slot.offset,
            "size": slot.size,
            "first": slot.first,
            "last": slot.last,
            "overlaps": [other.name for other, _ in rows if _share(slot, other)],
        }
        for slot, kind in rows
    ]


def accesses(planned: Plan, step: Step) -> dict[str, list[int]]:
    """What a step reads and writes, as indices into the memory map; its output comes first."""
    numbers = {slot: i for i, (slot, _) in enumerate(_rows(planned))}
    written = [step.output] if step.scratch is None else [step.output, step.scratch]
    return {
        "reads": sorted({numbers[slot] for slot in step.inputs}),
        "writes": [numbers[slot] for slot in written],
    }


def arena_map(manifest: Mapping[str, Any]) -> ArenaMap:
    """What the emulator is to check every access against."""
    try:
        areas = tuple(
            Area(_printable(e["name"]), e["offset"], e["size"]) for e in manifest["memory_map"]
        )
        steps = tuple(
            StepAreas(tuple(layer["reads"]), tuple(layer["writes"]), layer["writes"][0])
            for layer in manifest["layers"]
        )
        inputs, outputs = (tuple(p["area"] for p in manifest[k]) for k in ("inputs", "outputs"))
    except (KeyError, TypeError, IndexError) as error:
        raise UsageError(
            f"manifest.json: no memory map ({error})", hint="generate the project again"
        ) from error
    return ArenaMap(areas, steps, inputs, outputs)


def area_of(planned: Plan, tensor: str) -> int:
    """Index of a tensor in the memory map."""
    slot = planned.slots[tensor]
    return next(i for i, (other, _) in enumerate(_rows(planned)) if other == slot)


def _rows(planned: Plan) -> list[tuple[Slot, str]]:
    slots = list(dict.fromkeys(planned.slots.values()))
    inputs = {planned.slots[port.tensor] for port in planned.graph.inputs}
    outputs = {planned.slots[port.tensor] for port in planned.graph.outputs}
    rows = [(slot, _kind(slot, inputs, outputs)) for slot in slots]
    return rows + [(step.scratch, "scratch") for step in planned.steps if step.scratch]


def _kind(slot: Slot, inputs: set[Slot], outputs: set[Slot]) -> str:
    if slot in inputs:
        return "input"
    return "output" if slot in outputs else "tensor"


def _share(a: Slot, b: Slot) -> bool:
    together = a.first <= b.last and b.first <= a.last
    return a != b and together and a.offset < b.end and b.offset < a.end


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)
