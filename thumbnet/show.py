"""Results as tables for people: stdout; progress bars: stderr, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from thumbnet.compiler import silent

PIPED_WIDTH = 120  # when the output is no terminal
SHOWN_ROWS = 15  # of a profile
out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


@contextmanager
def progress(quiet: bool) -> Iterator[Callable[[str, int], Callable[[int], None]]]:
    """A function that starts progress bars: (text, total) -> advance(done)."""
    errors = Console(stderr=True)
    if quiet or not errors.is_terminal:
        yield silent
        return
    columns = (
        TextColumn("{task.description:>16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, transient=True) as bars:

        def start(text: str, total: int) -> Callable[[int], None]:
            task = bars.add_task(text, total=total)
            return lambda done: bars.advance(task, done)

        yield start


def generated(found: dict[str, Any], folder: Path) -> None:
    """What `generate` wrote."""
    title(found)
    _print_layers(found["layers"], with_cycles=False)
    memory(found)
    out.print(f"wrote {folder}/ - next: thumbnet build {folder}, thumbnet emulate {folder}")


def built(found: dict[str, Any]) -> None:
    """What `build` made."""
    flash = found["flash"]
    out.print(f"[bold]{found['model']}[/] for {found['target']}, {found['toolchain']}")
    out.print(f"code {flash['code']:,} B, weights and constants {flash['read_only']:,} B")
    out.print(f"wrote {found['elf']}", soft_wrap=True)


def checked(found: dict[str, Any], by: str = "layers") -> None:
    """What `emulate` and `run` found."""
    title(found)
    if by == "layers" or found["profile"] is None:
        _print_layers(found["layers"], with_cycles=found["cycles"] is not None)
    else:
        profile(found, by)
    memory(found)
    if found["cycles"] is not None:
        fact(
            "Inference",
            f"{found['instructions']:,} instructions, {found['cycles']:,} cycles "
            f"({found['cycles_model']})",
        )
        _latency(found)
    if found["not_counted"] is not None:
        fact("Inference", found["not_counted"])
    accuracy(found)
    verdict(found, "on the emulated core")


def _latency(found: dict[str, Any]) -> None:
    """What the board is predicted to take, and what that rests on."""
    timing, clock = found["timing"], found["clock_hz"] / 1e6
    states = timing["wait_states"]
    flash = "without wait states" if states is None else f"{states} wait states"
    band = "not validated" if timing["error"] is None else f"±{timing['error']:.0%}"
    fact(
        "Latency",
        f"{timing['latency_ms']:.2f} ms at {clock:g} MHz, {flash} ({band}): "
        f"{timing['cycles']:,} cycles ({timing['model']})",
    )
    for other in found["what_if"]:
        states = "" if other["wait_states"] is None else f", {other['wait_states']} wait states"
        fact(
            "What if",
            f"{other['latency_ms']:.2f} ms at {other['clock_hz'] / 1e6:g} MHz{states}: "
            f"{other['cycles']:,} cycles",
        )


def profile(found: dict[str, Any], by: str) -> None:
    """Where the cycles went: the first rows of one of the profile's tables."""
    rows = found["profile"][by][:SHOWN_ROWS]
    total = found["timing"]["cycles"]
    table = Table(by[:-1] if by != "mix" else "kind", box=None, pad_edge=False)
    for heading in ("instructions", "cycles", "share"):
        table.add_column(heading, justify="right")
    for row in rows:
        name = row.get("symbol") or row.get("kernel") or row.get("kind")
        place = f"{row['file']}:{row['line']}" if by == "lines" else name
        share = f"{row['cycles'] / total:.1%}"
        table.add_row(place, f"{row['instructions']:,}", f"{row['cycles']:,}", share)
    out.print(table)


def inspection(found: dict[str, Any]) -> None:
    """What `inspect` found."""
    title(found)
    for kind in ("inputs", "outputs"):
        for port in found[kind]:
            shape = "x".join(map(str, port["onnx_shape"]))
            fact(kind[:-1].capitalize(), f"{plain(port['name'])} {shape}")
    _print_layers(found["layers"], with_cycles=False)
    memory(found)
    table = Table("target", "fits", "RAM", "flash", box=None, pad_edge=False)
    for board in found["boards"]:
        verdict = Text("yes", "green") if board["fits"] else Text("no", "red")
        shares = (f"{board[key]:.0%}" for key in ("ram_share", "flash_share"))
        table.add_row(board["target"], verdict, *shares)
    out.print(table)


def boards(found: dict[str, Any]) -> None:
    """The targets."""
    table = Table("name", "core", "MHz", "flash", "RAM", "description", box=None, pad_edge=False)
    for board in found["boards"]:
        table.add_row(
            board["name"],
            board["core"],
            f"{board['clock_hz'] / 1e6:g}",
            _kib(board["flash"]),
            _kib(board["ram"]),
            board["description"],
        )
    out.print(table)


def operators(found: dict[str, Any]) -> None:
    """What can be compiled."""
    out.print("[bold]ONNX operators[/]")
    out.print(", ".join(found["onnx"]))
    out.print("\n[bold]Kernels[/]")
    for kind, kernels in found["kernels"].items():
        out.print(f"  {kind:14} {', '.join(kernels) or 'no code: an alias'}")


def doctor(found: dict[str, Any]) -> None:
    """What is installed."""
    out.print(f"Python {found['python']} on {found['system']}")
    table = Table("what", "version", box=None, pad_edge=False)
    groups = (found["packages"], found["optional"], found["compilers"])
    for name, version in ((n, v) for group in groups for n, v in group.items()):
        missing = "not installed (optional)" if name in found["optional"] else "missing"
        table.add_row(name, version or Text(missing, "yellow"))
    out.print(table)
    fact("Host compiler", found["host_compiler"])
    fact("Emulator", "works" if found["emulator"] else "does not load")
    out.print(Text("all well", "green") if found["ok"] else Text("something is missing", "red"))


def title(found: dict[str, Any]) -> None:
    """The model, its target and its size."""
    parts = [f"[bold]{found['model']}[/]"]
    if "target" in found:
        parts.append(f"for {found['target']}")
    if found.get("toolchain"):
        parts.append(f"({found['toolchain']})")
    if found.get("engine") == "qemu":
        parts.append("in QEMU")
    executed = found["macs_executed"]
    less = "" if executed == found["macs"] else f" ({executed:,} executed: the rest is constant)"
    out.print(" ".join(parts), f"- {found['macs']:,} MACs{less}, {found['params']:,} parameters")


def _print_layers(layers: list[dict[str, Any]], with_cycles: bool) -> None:
    headings = ["layer", "kernel", "output", "MACs", "weights B", "arena B"]
    headings += ["instructions", "cycles", "share"] if with_cycles else []
    total = sum(layer["cycles"] for layer in layers) if with_cycles else 0
    rows = [_layer_cells(layer, total, with_cycles) for layer in layers]
    columns = list(zip(headings, *rows, strict=True))
    others = sum(max(map(len, column)) + 1 for column in columns[1:])
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        left = heading in ("layer", "kernel", "output")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    room = max(out.width - others - 1, 12)
    for name, *cells in rows:
        shown = name if len(name) <= room else name[: room - 1] + "…"
        table.add_row(*(Text(cell) for cell in (shown, *cells)))
    out.print(table)


def _layer_cells(layer: dict[str, Any], total: int, with_cycles: bool) -> list[str]:
    cells = [
        plain(layer["name"]),
        layer["kernel"].removesuffix(".portable"),
        "x".join(map(str, layer["output_shape"][1:])),
        f"{layer['macs']:,}" if layer["macs"] else "",
        f"{layer['weight_bytes']:,}" if layer["weight_bytes"] else "",
        f"{layer['arena_bytes']:,}",
    ]
    if with_cycles:
        share = layer["cycles"] / total if total else 0
        cells += [f"{layer['instructions']:,}", f"{layer['cycles']:,}", f"{share:.1%}"]
    return cells


def memory(found: dict[str, Any]) -> None:
    """SRAM and flash."""
    sram, flash = found["sram"], found["flash"]
    gap = sram["arena"] - sram["arena_bound"]
    proof = "proved minimal" if gap == 0 else f"at most {gap:,} B above the minimum"
    parts = [f"arena {sram['arena']:,} ({proof})", f"scratch {sram['scratch']:,}"]
    if "stack" in sram:
        parts.append(f"stack {sram['stack']:,}")
    total = f" = {sram['total']:,} B" if "total" in sram else " B"
    fact("SRAM", " + ".join(parts) + total)
    parts = [f"weights {flash['weights']:,}", f"constants {flash['constants']:,}"]
    if flash["code"] is not None:
        parts.append(f"code {flash['code']:,}")
    total = f" = {flash['total']:,} B" if "total" in flash else " B"
    fact("Flash", " + ".join(parts) + total)


def accuracy(found: dict[str, Any]) -> None:
    """The score, where there is one."""
    scores = found["accuracy"]
    if scores is None:
        return
    texts = [f"device {_score(scores['metric'], scores['device'])}"]
    if scores["float"] is not None:
        texts.insert(0, f"float {_score(scores['metric'], scores['float'])}")
    fact("Accuracy", f"{', '.join(texts)} ({scores['metric']}, {scores['samples']:,} samples)")


def verdict(found: dict[str, Any], machine: str) -> None:
    """How many bytes differ, and where that began."""
    wrong, host = found["mismatched_bytes"], found["host"]
    where = f"in {found['samples']:,} samples {machine}"
    if host is not None:
        wrong += host["mismatched_bytes"]
        where += f" and {host['samples']:,} on the host"
    text = Text(f"{wrong:,} mismatched bytes", "bold green" if wrong == 0 else "bold red")
    text.append(f" {where}, against the NumPy reference", "not bold default")
    out.print(text, soft_wrap=True)
    first = found["first_mismatch"]
    if first is not None:
        out.print(
            f"first: sample {first['sample']}, output {first['output']}, element "
            f"{first['element']}: expected {first['expected']}, found {first['found']}"
        )
    born = found["first_divergence"]
    if born is not None:
        out.print(
            Text(
                f"first diverging layer: {plain(born['layer'])} ({born['kernel']}), element "
                f"{born['element']}: expected {born['expected']}, found {born['found']}; "
                f"{born['wrong_elements']:,} elements differ"
            )
        )


def _score(metric: str, value: float) -> str:
    return f"{value:.2%}" if metric == "top1" else f"{value:.4f}"


def fact(name: str, text: str) -> None:
    """A line with a name."""
    out.print(Text(f"{name:10} ", "bold").append(text, "not bold"), soft_wrap=True)


def plain(text: str) -> str:
    """A model's string without control characters: it must not drive the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _kib(size: int) -> str:
    return f"{size // 1024:,} KiB"
