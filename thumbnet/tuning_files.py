"""What `tune` leaves behind: recipes, and the front as JSON, CSV, Markdown and a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import floor, log10
from typing import Any

from codegen.emit import render
from codegen.names import printable
from thumbnet import tables
from thumbnet.tables import Share, Table, Value

MARKER = "pareto.json"
LEFT, TOP, RIGHT, BOTTOM = 70, 50, 690, 390
LEAST_LOSS = 1e-6  # at the bottom of the picture at most

Found = Mapping[str, Any]


def files(found: Found, recipes: Mapping[int, str]) -> dict[str, bytes]:
    """The files by name.

    Args:
        found: the JSON object of `tune`.
        recipes: of the points that were measured, by number, the recommended one among them.
    """
    table = front(found)
    written = {
        MARKER: json.dumps(found, indent=2) + "\n",
        "pareto.csv": tables.as_csv(table),
        "pareto.md": tables.markdown(table),
        "pareto.svg": picture(found),
        "recipe.toml": recipes[found["recommended"]],
    }
    written |= {f"recipes/{number:03}.toml": text for number, text in recipes.items()}
    return {name: text.encode() for name, text in written.items()}


def front(found: Found) -> Table:
    """One row per point of the front."""
    headings = (
        "point",
        "bits",
        "loss",
        "all together",
        "changed",
        "flash B",
        "cycles",
        "step SRAM B",
    )
    measured = ("accuracy", "flash B, built", "cycles, run", "SRAM B")
    rows: list[tuple[Value, ...]] = []
    for number, point in enumerate(found["front"]):
        mark = " *" if number == found["recommended"] else ""
        rows.append(
            (
                f"{number}{mark}",
                bits(point),
                point["loss"],
                point["combined_loss"],
                Share(point["changed"]),
                point["flash"],
                point["cycles"],
                point["step_sram"],
                *_measured(point["verified"]),
            )
        )
    return Table((*headings, *measured), rows)


def _measured(verified: Found | None) -> tuple[Value, ...]:
    if verified is None or "failed" in verified:
        return (None,) * 4
    accuracy = verified["accuracy"]
    return (
        None if accuracy is None else accuracy["device"],
        verified["flash"]["total"],
        verified["cycles"],
        verified["sram"],
    )


def bits(point: Found) -> str:
    """Formats of the layers in order, as short as they can be: 8 4 3v."""
    short = []
    for layer in point["layers"].values():
        weights, _, scheme = layer.get("weights", "").partition(":")
        if weights:
            number = weights.removeprefix("int") if weights.startswith("int") else weights[:1]
            short.append(number + scheme[:1])
    return " ".join(short)


def picture(found: Found) -> str:
    """Flash and loss of all points as SVG, with titles to hover; one shade per band of cycles."""
    points = found["front"]
    shown = [*points, *found["uniform"]]
    flash = _Scale([point["flash"] / 1024 for point in shown], LEFT, RIGHT)
    loss = _Scale([_decades(point["combined_loss"]) for point in shown], BOTTOM, TOP)
    fewest = min(point["cycles"] for point in points)
    dots = [
        _dot(point, flash, loss)
        | {
            "kind": _band(point["cycles"] / fewest),
            "chosen": number == found["recommended"],
            "title": printable(
                f"point {number}: {bits(point)}; {point['flash']:,} B, {point['cycles']:,} cycles, "
                f"loss {point['combined_loss']:.3g}"
            ),
        }
        for number, point in enumerate(points)
    ]
    crosses = [
        _dot(one, flash, loss) | {"title": f"all {one['format']}", "label": one["format"]}
        for one in found["uniform"]
    ]
    return render(
        "pareto.svg.j2",
        picture={
            "title": printable(f"{found['model']} on {found['target']}: weights per layer"),
            "left": LEFT,
            "top": TOP,
            "right": RIGHT,
            "bottom": BOTTOM,
            "dots": dots,
            "crosses": crosses,
            "x_ticks": [{"at": flash.at(v), "text": f"{v:g}"} for v in flash.ticks()],
            "y_ticks": [
                {"at": loss.at(v), "text": f"1e{v:g}"}
                for v in range(floor(loss.low), floor(loss.high) + 1)
                if v >= loss.low
            ],
        },
    )


def _dot(point: Found, flash: _Scale, loss: _Scale) -> dict[str, Any]:
    x, y = flash.at(point["flash"] / 1024), loss.at(_decades(point["combined_loss"]))
    return {"x": x, "y": y}


def _decades(loss: float) -> float:
    return log10(max(loss, LEAST_LOSS))


def _band(share: float) -> str:
    """How many cycles, beside the fewest."""
    return "fast" if share <= 1.2 else "middle" if share <= 3 else "slow"


class _Scale:
    """A linear axis."""

    def __init__(self, values: Sequence[float], start: float, end: float):
        self.low, self.high = min(values), max(values)
        self.start, self.end = start, end

    def at(self, value: float) -> float:
        """The place of a value, in pixels."""
        span = (self.high - self.low) or 1.0
        return round(self.start + (value - self.low) / span * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Some five round numbers."""
        rough = max((self.high - self.low) / 5, 1e-9)
        step = 10 ** floor(log10(rough))
        step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= rough)
        first = -(-self.low // step)
        return [(first + i) * step for i in range(12) if (first + i) * step <= self.high]
