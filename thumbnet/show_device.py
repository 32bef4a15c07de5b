"""What `check` found, as tables for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from thumbnet import show, tables


def checked(found: dict[str, Any]) -> None:
    """What a board answered, beside what was predicted of it."""
    show.title(found)
    _layers(found)
    show.memory(found)
    clock = found["device_clock_hz"]
    cycles = found["device_cycles"]
    show.fact(
        "Board",
        f"{cycles:,} cycles by its {found['device_counter']}, "
        f"{cycles / clock * 1e3:.2f} ms at {clock / 1e6:g} MHz{_beside(found)}",
    )
    frames = found["frames"]
    show.fact(
        "Link",
        f"{frames['sent']:,} frames, {frames['again']:,} of them sent again, "
        f"{frames['damaged']:,} received damaged",
    )
    show.accuracy(found)
    show.verdict(found, f"on the board at {found['port']}")


def _beside(found: dict[str, Any]) -> str:
    guesses = [layer["predicted_cycles"] for layer in found["layers"]]
    if None in guesses or not sum(guesses):
        return ""
    return f"; predicted {sum(guesses):,} ({found['device_cycles'] / sum(guesses) - 1:+.1%})"


def _layers(found: dict[str, Any]) -> None:
    table = Table("layer", "kernel", box=None, pad_edge=False)
    for heading in ("board's cycles", "predicted", "difference"):
        table.add_column(heading, justify="right")
    for layer in found["layers"]:
        cycles, guess = layer["device_cycles"], layer["predicted_cycles"]
        table.add_row(
            Text(tables.printable(layer["name"])),
            layer["kernel"].removesuffix(".portable"),
            f"{cycles:,}",
            "" if guess is None else f"{guess:,}",
            f"{cycles / guess - 1:+.1%}" if guess else "",
        )
    show.out.print(table)
