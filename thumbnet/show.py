"""Results as tables for people: stdout; progress bars: stderr, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from codegen.advice import Advice, in_words
from thumbnet import show_errors, tables, views
from thumbnet.compiler import silent

PIPED_WIDTH = 120  # when the output is no terminal
WIDE = 110  # columns from which bars have room
LATE_S = 1.0  # what ends sooner needs no progress bar
SHOWN_ROWS = 15  # of a profile
out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


class _Rate(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        """The rate of one step, once it is known."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None or task.total == 1 else f"{speed:,.1f}/s", "cyan")


class _LateProgress(Progress):
    """Bars of steps that take longer than LATE_S; short ones never flicker by."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """The bars to draw now."""
        yield self.make_tasks_table([t for t in self.tasks if (t.elapsed or 0.0) > LATE_S])


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
        _Rate(),
        TimeRemainingColumn(),
    )
    with _LateProgress(*columns, console=errors, transient=True) as bars:

        def start(text: str, total: int) -> Callable[[int], None]:
            task = bars.add_task(text, total=total)
            return lambda done: bars.advance(task, done)

        yield start


def table(data: tables.Table) -> None:
    """A table on the terminal; names that are too long end in an ellipsis."""
    rows = [[tables.shown(value) for value in row] for row in data.rows]
    columns = list(zip(data.headings, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    names = next((i for i, heading in enumerate(data.headings) if heading == "layer"), None)
    if names is not None:
        widths[names] = max(12, out.width - sum(widths) + widths[names] - len(widths))
    shown = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for index, heading in enumerate(data.headings):
        left = data.is_text(index)
        shown.add_column(heading, justify="left" if left else "right", no_wrap=names is not None)
    for row in rows:
        shown.add_row(*(Text(_cut(*cell)) for cell in zip(row, widths, strict=True)))
    out.print(shown)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def generated(found: dict[str, Any], folder: Path) -> None:
    """What `generate` wrote."""
    title(found)
    _layers(found)
    memory(found)
    explained(found)
    out.print(f"wrote {folder}/ - next: thumbnet build {folder}, thumbnet emulate {folder}")


def explained(found: dict[str, Any]) -> None:
    """The candidates of the layers that were asked about; predictions."""
    headings = ("", "kernel", "cycles", "waits", "flash", "scratch", "SRAM of step", "why")
    keys = ("cycles", "wait_cycles", "flash", "scratch", "step_sram")
    for layer in (layer for layer in found["layers"] if "candidates" in layer):
        out.print(Text(f"{tables.printable(layer['name'])}: candidates, predicted", "bold"))
        table = Table(box=None, pad_edge=False)
        for heading in headings:
            left = heading in ("", "kernel", "why")
            table.add_column(heading, justify="left" if left else "right", no_wrap=heading != "why")
        for one in layer["candidates"]:
            numbers = [f"{one[key]:,}" if one["serves"] else "-" for key in keys]
            mark = "*" if one["chosen"] else " "
            table.add_row(mark, one["kernel"], *numbers, Text(one["reason"]))
        out.print(table)
        show_errors.layer(layer)
    show_errors.divergence(found)


def built(found: dict[str, Any]) -> None:
    """What `build` made."""
    flash = found["flash"]
    out.print(f"[bold]{found['model']}[/] for {found['target']}, {found['toolchain']}")
    out.print(f"code {flash['code']:,} B, weights and constants {flash['read_only']:,} B")
    if found["stack"]:
        calls = " > ".join(
            f"{call['function']} {call['bytes']:,}" for call in found["stack"]["path"]
        )
        out.print(f"stack of an inference at most {found['stack']['bound']:,} B: {calls}")
    for path in found["images"].values():
        out.print(f"wrote {path}", soft_wrap=True)


def checked(found: dict[str, Any], by: str = "layers") -> None:
    """What `emulate` and `run` found."""
    title(found)
    if by == "layers" or found["profile"] is None:
        _layers(found)
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
    explained(found)
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
            fact(kind[:-1].capitalize(), f"{tables.printable(port['name'])} {shape}")
    _layers(found)
    show_errors.inspected(found)
    memory(found)
    table(views.fits(found))


def operators(found: dict[str, Any]) -> None:
    """What can be compiled."""
    out.print("[bold]ONNX operators[/]")
    out.print(", ".join(found["onnx"]))
    out.print("\n[bold]In float32 only[/]")
    out.print(", ".join(found["onnx_float"]))
    out.print("\n[bold]Kernels[/]")
    for kind, kernels in found["kernels"].items():
        out.print(f"  {kind:14} {', '.join(kernels) or 'no code: an alias'}")


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


def _layers(found: dict[str, Any]) -> None:
    table(views.layers(found, bars=out.width >= WIDE))


def memory(found: dict[str, Any]) -> None:
    """SRAM and flash."""
    sram, flash = found["sram"], found["flash"]
    gap = sram["arena"] - sram["arena_bound"]
    proof = "proved minimal" if gap == 0 else f"at most {gap:,} B above the minimum"
    parts = [f"arena {sram['arena']:,} ({proof})", f"scratch {sram['scratch']:,}"]
    if "stack" in sram:
        limit = f" (at most {sram['stack_bound']:,})" if sram.get("stack_bound") else ""
        parts.append(f"stack {sram['stack']:,}{limit}")
    total = f" = {sram['total']:,} B" if "total" in sram else " B"
    fact("SRAM", " + ".join(parts) + total)
    rows = found.get("stream_input")
    if rows:
        text = f"{rows['rows']} rows of {rows['row_bytes']:,} B are pushed; {rows['ring_rows']} are kept"
        fact("Input", text)
    _planned(sram)
    parts = [f"weights {flash['weights']:,}", f"constants {flash['constants']:,}"]
    if flash["code"] is not None:
        parts.append(f"code {flash['code']:,}")
    total = f" = {flash['total']:,} B" if "total" in flash else " B"
    fact("Flash", " + ".join(parts) + total)


def _planned(sram: dict[str, Any]) -> None:
    """The proof of the arena, its largest step, and what would lower it."""
    for what, size, bound in (
        ("arena", sram["arena"], sram["arena_bound"]),
        ("with scratch", sram["total_static"], sram["total_bound"]),
    ):
        fact("", f"{what} = {size:,}, bound = {bound:,}, gap = {max(0, size - bound):,}")
    peak = sram["peak"]
    if peak is None:
        return
    names = ", ".join(tables.printable(name) for name in peak["tensors"][:4])
    fact(
        "Peak",
        f"{peak['bytes']:,} B in step {peak['step']} ({tables.printable(peak['layer'])}): {names}",
    )
    for found in peak["advice"][:2]:
        fact("", tables.printable(in_words(Advice(**found))))


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
                f"first diverging layer: {tables.printable(born['layer'])} ({born['kernel']}), element "
                f"{born['element']}: expected {born['expected']}, found {born['found']}; "
                f"{born['wrong_elements']:,} elements differ"
            )
        )


def _score(metric: str, value: float) -> str:
    return f"{value:.2%}" if metric == "top1" else f"{value:.4f}"


def fact(name: str, text: str) -> None:
    """One line: a name in bold, and what there is to say of it."""
    out.print(Text(f"{name:10} ", "bold").append(text, "not bold"), soft_wrap=True)


def kib(size: int) -> str:
    """Bytes in units of 1024."""
    return f"{size // 1024:,} KiB"
