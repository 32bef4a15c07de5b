"""What `tune` found, on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from thumbnet import show, tables, views

MOST_ROWS = 16
Found = Mapping[str, Any]


def tuned(found: Found, folder: Path) -> None:
    """The recommended point, some of the front, and what each layer loses."""
    points, chosen = found["front"], found["recommended"]
    show.out.print(Text(f"{tables.printable(found['model'])} on {found['target']}", "bold"))
    show.table(views.sensitivities(found))
    kept = {0, chosen, len(points) - 1, *(i for i, p in enumerate(points) if p["verified"])}
    every = max(1, len(points) // MOST_ROWS)
    kept |= set(range(0, len(points), every))
    whole = views.front(found)
    show.table(tables.Table(whole.headings, [row for i, row in enumerate(whole.rows) if i in kept]))
    left = len(points) - len(kept)
    if left:
        show.out.print(f"{left} more points in pareto.md, pareto.csv and pareto.svg")
    one, seconds = points[chosen], found["seconds"]
    show.out.print(
        f"recommended: point {chosen}, {one['flash']:,} B of flash, {one['cycles']:,} cycles, predicted; "
        f"{found['solved']} searches of {seconds['solve'] * 1e3:.0f} ms; {seconds['total']:.0f} s in all"
    )
    show.out.print(f"wrote {folder}/ - next: thumbnet generate MODEL --recipe {folder}/recipe.toml")
