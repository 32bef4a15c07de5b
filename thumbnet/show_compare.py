"""Two builds side by side: for a terminal, a pull request or a spreadsheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from thumbnet import show, tables
from thumbnet.compare import LAYERED, TOTALS
from thumbnet.tables import Code, Share, Table, Value

Found = Mapping[str, Any]
HEADINGS = {"latency_ms": "latency ms", "sram": "SRAM B", "flash": "flash B", "sqnr_db": "SQNR dB"}
MARKS = {"added": "+", "removed": "-", "changed": "~", "same": ""}


def totals(found: Found) -> Table:
    """One row per figure that both builds have."""
    rows = [
        (HEADINGS.get(name, name), *_cells(found["totals"][name]))
        for name in TOTALS
        if found["totals"][name] is not None
    ]
    return Table(("total", "A", "B", "change", "%"), rows)


def layers(found: Found, only_moved: bool = False) -> Table:
    """One row per layer; a kernel that was replaced shows both names."""
    known = [name for name in LAYERED if any(layer[name] for layer in found["layers"])]
    headings = ["", "layer", "kernel"]
    for name in known:
        headings += [HEADINGS.get(name, name), "%" if name == "cycles" else "change"]
    rows = [
        _layer_row(layer, known)
        for layer in found["layers"]
        if not only_moved or layer["status"] != "same"
    ]
    return Table(tuple(headings), rows)


def _layer_row(layer: Found, known: Sequence[str]) -> tuple[Value, ...]:
    cells: list[Value] = [MARKS[layer["status"]], Code(layer["name"]), _kernel(layer["kernel"])]
    for name in known:
        change = layer[name]
        cells.append(change["b"] if change else None)
        if name == "cycles":
            cells.append(_share(change))
        else:
            cells.append(change["delta"] or None if change else None)
    return tuple(cells)


def _cells(change: Found) -> tuple[Value, ...]:
    return change["a"], change["b"], change["delta"] or None, _share(change)


def _share(change: Found | None) -> Value:
    if not change or not change["relative"]:
        return None
    return Share(change["relative"], signed=True)


def _kernel(kernels: Found) -> str:
    before, after = (kernels[side] and kernels[side].removesuffix(".portable") for side in "ab")
    if before and after and before != after:
        return f"{before} -> {after}"
    return str(after or before)


def compared(found: Found) -> None:
    """Both tables on the terminal."""
    sides = (f"{found[side]['model']} for {found[side]['target']}" for side in "ab")
    show.out.print("A: {}\nB: {}".format(*sides), soft_wrap=True)
    for note in found["notes"]:
        show.out.print(Text(f"note: {note}", "yellow"), soft_wrap=True)
    show.table(totals(found))
    show.table(layers(found))


def verdicts(found: Found) -> list[str]:
    """One sentence per limit; those that are exceeded name the layer that moved most."""
    return [_verdict(limit) for limit in found["limits"]]


def _verdict(limit: Found) -> str:
    share = limit["relative"]
    moved = f"{limit['delta']:+,.6g}" if share is None else f"{share:+.2%}"
    text = f"{limit['limit']}: {limit['metric']} moved by {moved}"
    if not limit["exceeded"]:
        return f"ok    {text}"
    layer = limit["layer"]
    if layer is None:
        return f"FAIL  {text}; no single layer accounts for it"
    name = tables.printable(layer["name"])
    of_layer = "new" if layer["relative"] is None else f"{layer['relative']:+.2%}"
    return (
        f"FAIL  {text}; most in layer '{name}' ({layer['delta']:+,} {layer['metric']}, {of_layer})"
    )


def markdown(found: Found) -> str:
    """A comment for a pull request: totals and verdict open, layers folded."""
    model, target = found["b"]["model"], found["b"]["target"]
    parts = [f"### thumbnet: {model} on {target}\n", tables.markdown(totals(found))]
    parts += [f"> {note}\n" for note in found["notes"]]
    if found["limits"]:
        lines = [f"- {'✅' if not x['exceeded'] else '❌'} {_md(x)}" for x in found["limits"]]
        parts.append("\n".join(lines) + "\n")
    moved = [layer for layer in found["layers"] if layer["status"] != "same"]
    if not moved:
        return "\n".join([*parts, "No layer changed.\n"])
    summary = f"<summary>{len(moved)} of {len(found['layers'])} layers changed</summary>"
    table = tables.markdown(layers(found, only_moved=True))
    return "\n".join([*parts, f"<details>{summary}\n", table, "</details>\n"])


def _md(limit: Mapping[str, Any]) -> str:
    layer = limit["layer"]
    text = _verdict({**limit, "layer": None, "exceeded": False}).removeprefix("ok    ")
    if layer is None:
        return text
    name = tables.code_span(layer["name"])
    return f"{text}; most in {name} ({layer['delta']:+,} {layer['metric']})"


def as_csv(found: Found) -> str:
    """Every layer, then the totals as a last row of its own kind, in one table."""
    headings = ["layer", "status", "kernel_a", "kernel_b"]
    headings += [f"{name}_{side}" for name in (*LAYERED, "accuracy") for side in "ab"]
    rows: list[tuple[Value, ...]] = [
        (
            Code(layer["name"]),
            layer["status"],
            layer["kernel"]["a"],
            layer["kernel"]["b"],
            *_sides(layer),
        )
        for layer in found["layers"]
    ]
    rows.append(("TOTAL", None, None, None, *_sides(found["totals"])))
    return tables.as_csv(Table(tuple(headings), rows))


def _sides(figures: Found) -> list[Value]:
    cells: list[Value] = []
    for name in (*LAYERED, "accuracy"):
        change = figures.get(name) or {"a": None, "b": None}
        cells += [change["a"], change["b"]]
    return cells
