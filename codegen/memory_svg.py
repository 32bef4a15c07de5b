"""The arena of a plan as a picture: memory.svg, one rectangle per tensor, steps from left to right."""

from __future__ import annotations

from collections.abc import Mapping

from codegen.emit import render
from codegen.names import printable
from codegen.occupancy import Place, places
from codegen.plan import Plan

LEFT, TOP, RIGHT_MARGIN, BOTTOM_MARGIN = 64, 48, 16, 40
HEIGHT = 420  # of the arena
LEAST_WIDTH, MOST_WIDTH, STEP_WIDTH = 480, 1600, 48
MOST_BOXES = 200  # keeps the file below 60 kB; the smallest are left out
LETTER = 6  # about the width of one
TICKS = 4
KINDS = ("input", "tensor", "output", "rings", "scratch")


def draw(plan: Plan) -> str:
    """An SVG file with hover titles, for light and dark backgrounds."""
    count = max(len(plan.steps), 1)
    width = min(max(LEAST_WIDTH, STEP_WIDTH * count), MOST_WIDTH)
    unit = width / count
    found = sorted(places(plan), key=lambda p: -p.slot.size * (p.slot.last - p.slot.first + 1))
    shown = sorted(found[:MOST_BOXES], key=lambda p: (p.slot.first, p.slot.offset, p.slot.name))
    left_out = len(found) - len(shown)
    every = max(1, round(24 / unit))  # steps per number on the axis
    picture = {
        "title": f"{plan.graph.name}: arena of {plan.size:,} B, {count} steps",
        "width": LEFT + width + RIGHT_MARGIN,
        "height": TOP + HEIGHT + BOTTOM_MARGIN,
        "left": LEFT,
        "top": TOP,
        "right": LEFT + width,
        "bottom": TOP + HEIGHT,
        "legend": [{"kind": kind, "x": LEFT + 80 * i} for i, kind in enumerate(KINDS)],
        "ticks": [_tick(plan, i) for i in range(TICKS + 1)],
        "boxes": [_box(plan, place, unit) for place in shown],
        "steps": [
            {
                "index": step.index,
                "x": round(LEFT + (step.index + 0.5) * unit, 1),
                "title": printable(step.name),
            }
            for step in plan.steps[::every]
        ],
        "bound": f"bound {plan.size_bound:,} B",
        "bound_y": _y(plan, plan.size_bound),
        "note": "steps" + (f"; {left_out} small places are not shown" if left_out else ""),
    }
    return render("memory.svg.j2", picture=picture)


def _tick(plan: Plan, number: int) -> Mapping[str, object]:
    offset = plan.size * number // TICKS
    return {"y": _y(plan, offset), "text": f"{offset:,}"}


def _box(plan: Plan, place: Place, unit: float) -> Mapping[str, object]:
    slot, name = place.slot, printable(place.slot.name)
    y, width = _y(plan, slot.end), round((slot.last - slot.first + 1) * unit, 1)
    height = round(_y(plan, slot.offset) - y, 1)
    when = f"step {slot.first}" if slot.first == slot.last else f"steps {slot.first} to {slot.last}"
    lines = [
        f"{name} ({place.kind})",
        f"{slot.size:,} B at {slot.offset:,} to {slot.end:,}, {when}",
    ]
    if place.layer is not None:
        lines.append(f"written by {printable(place.layer)}")
    if place.overlaps:
        lines.append("shares bytes with " + ", ".join(printable(o) for o in place.overlaps[:4]))
    fits = height >= 15 and LETTER * len(name) + 6 <= width
    return {
        "kind": place.kind,
        "x": round(LEFT + slot.first * unit, 1),
        "y": y,
        "width": width,
        "height": max(height, 0.5),
        "title": "\n".join(lines),
        "label": name if fits else "",
    }


def _y(plan: Plan, offset: int) -> float:
    return round(TOP + HEIGHT * (1 - offset / max(plan.size, 1)), 1)
