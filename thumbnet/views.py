"""Results -> tables, the same for a terminal, Markdown and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thumbnet.tables import Bar, Code, Share, Table, Value

Found = Mapping[str, Any]


def layers(found: Found, bars: bool = True) -> Table:
    """One row per layer; with cycles where they were counted, and a bar of them if wanted."""
    rows = found["layers"]
    counted = bool(rows) and rows[0].get("cycles") is not None
    headings = ["layer", "kernel", "output", "MACs", "weights B", "arena B"]
    headings += ["instructions", "cycles", "share"] if counted else []
    headings += [""] if counted and bars else []
    cells = []
    for layer in rows:
        cells.append(_layer(layer, rows, counted, bars))
        blank = len(headings) - len(cells[-1][:6])
        cells += [(*_member(member), *[None] * blank) for member in layer.get("members", ())]
    return Table(tuple(headings), cells)


def _layer(layer: Found, rows: Sequence[Found], counted: bool, bars: bool) -> tuple[Value, ...]:
    cells: list[Value] = [
        Code(layer["name"]),
        layer["kernel"].removesuffix(".portable"),
        "x".join(map(str, layer["output_shape"][1:])),
        layer["macs"] or None,
        layer["weight_bytes"] or None,
        layer["arena_bytes"],
    ]
    if counted:
        total = sum(row["cycles"] for row in rows) or 1
        most = max(row["cycles"] for row in rows) or 1
        cells += [layer["instructions"], layer["cycles"], Share(layer["cycles"] / total)]
        cells += [Bar(layer["cycles"] / most)] if bars else []
    return tuple(cells)


def _member(member: Found) -> tuple[Value, ...]:
    """A layer of a chain; its bytes of arena are those of its ring."""
    return (
        Code(f"  {member['name']}"),
        member["kernel"].removesuffix(".portable"),
        "x".join(map(str, member["output_shape"][1:])),
        member["macs"] or None,
        member["weight_bytes"] or None,
        member["ring_bytes"] or None,
    )


def models(found: Found) -> Table:
    """One row per model of a linked project that was emulated."""
    headings = ("model", "samples", "mismatched", "instructions", "cycles", "arena B", "weights B")
    rows = [
        (
            model["model"],
            model["samples"],
            model["mismatched_bytes"],
            model["instructions"],
            model["cycles"],
            model["arena_size"],
            model["flash"]["weights"],
        )
        for model in found["models"]
    ]
    return Table(headings, rows)


def boards(found: Found) -> Table:
    """The targets."""
    headings = ("name", "core", "MHz", "flash KiB", "RAM KiB", "flashed by", "QEMU", "validated")
    rows = [
        (
            board["name"],
            board["core"],
            board["clock_hz"] / 1e6,
            board["flash"] // 1024,
            board["total_ram"] // 1024,
            ", ".join(board["flash_methods"]) or "-",
            board["qemu"] or "-",
            f"±{board['validated']['error']:.0%}" if board["validated"] else "-",
        )
        for board in found["boards"]
    ]
    return Table(headings, rows)


def fits(found: Found) -> Table:
    """Which boards a model fits, what it takes there, and how long it is predicted to run."""
    rows = [
        (
            board["target"],
            "yes" if board["fits"] else "no",
            Share(board["ram_share"]),
            Share(board["flash_share"]),
            round(board["predicted_ms"], 3),
        )
        for board in found["boards"]
    ]
    return Table(("target", "fits", "RAM", "flash", "predicted ms"), rows)


def cell(cores: Mapping[str, str]) -> str:
    """Kinds of kernels by core, in words."""
    tuned = [core for core, kind in cores.items() if kind == "tuned"]
    if set(cores.values()) == {"none"}:
        return "stays int8"
    return f"tuned on {', '.join(tuned)}" if tuned else "portable"


def schemes(found: Found) -> Table:
    """Ways to store weights, and what runs them."""
    rows = []
    for scheme in found["schemes"]:
        cells = (cell(cores) for cores in scheme["kernels"].values())
        names = (scheme["scheme"], scheme["weights"], scheme["activations"])
        rows.append((*names, *cells, scheme["summary"]))
    operators = tuple(found["schemes"][0]["kernels"])
    return Table(("scheme", "weights", "activations", *operators, "what it is"), rows)


def operators(found: Found) -> Table:
    """The kernels of every operator."""
    rows = [
        (kind, ", ".join(kernels) or "no code: an alias")
        for kind, kernels in found["kernels"].items()
    ]
    return Table(("operator", "kernels"), rows)


def front(found: Found) -> Table:
    """The points of a Pareto front of `tune`."""
    from thumbnet import tuning_files

    return tuning_files.front(found)


def sensitivities(found: Found) -> Table:
    """What the outputs lose by each layer's weights alone, in each format."""
    rows = [
        (Code(layer["name"]), *(layer["formats"][name]["loss"] for name in found["formats"]))
        for layer in found["layers"]
    ]
    return Table(("layer", *(f"loss, {name}" for name in found["formats"])), rows)
