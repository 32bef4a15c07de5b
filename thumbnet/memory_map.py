"""The arena over time, as data: for --json and for the emulator's tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codegen import occupancy
from codegen.names import printable
from codegen.plan import Plan, Step
from emulator.shadow import Area, ArenaMap, StepAreas
from targets.errors import UsageError


def entries(planned: Plan) -> list[dict[str, Any]]:
    """Every place in the arena: what it is, where, in which steps, and what shares bytes with it.

    `overlaps` are the names of those that have bytes and a step in common with it.
    """
    return [
        {
            "name": place.slot.name,
            "kind": place.kind,
            "layer": place.layer,
            "offset": place.slot.offset,
            "size": place.slot.size,
            "first": place.slot.first,
            "last": place.slot.last,
            "overlaps": list(place.overlaps),
        }
        for place in occupancy.places(planned)
    ]


def accesses(planned: Plan, step: Step) -> dict[str, list[int]]:
    """What a step reads and writes, as indices into the memory map; its output comes first."""
    numbers = {place.slot: i for i, place in enumerate(occupancy.places(planned))}
    written = [slot for slot in (step.output, step.rings, step.scratch) if slot is not None]
    return {
        "reads": sorted({numbers[slot] for slot in step.inputs}),
        "writes": [numbers[slot] for slot in written],
    }


def arena_map(manifest: Mapping[str, Any]) -> ArenaMap:
    """What the emulator is to check every access against."""
    try:
        areas = tuple(
            Area(printable(e["name"]), e["offset"], e["size"]) for e in manifest["memory_map"]
        )
        steps = tuple(
            StepAreas(tuple(layer["reads"]), tuple(layer["writes"]), layer["writes"][0])
            for layer in manifest["layers"]
        )
        ports = [manifest[key] for key in ("inputs", "outputs")]
        inputs, outputs = (tuple(p["area"] for p in k if p["area"] is not None) for k in ports)
    except (KeyError, TypeError, IndexError) as error:
        raise UsageError(
            f"manifest.json: no memory map ({error})", hint="generate the project again"
        ) from error
    return ArenaMap(areas, steps, inputs, outputs)


def area_of(planned: Plan, tensor: str) -> int | None:
    """Index of a tensor in the memory map; None for an input that is streamed."""
    slot = planned.slots.get(tensor)
    if slot is None:
        return None
    return next(i for i, p in enumerate(occupancy.places(planned)) if p.slot == slot)
