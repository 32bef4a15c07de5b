"""Linked projects as tables for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.text import Text

from thumbnet import show, views


def linked(found: dict[str, Any], folder: Path) -> None:
    """What `link` wrote."""
    _title(found)
    _memory(found)
    show.fact(
        "", f"weights {found['flash']['weights']:,} + constants {found['flash']['constants']:,} B"
    )
    show.out.print(f"wrote {folder}/ - next: thumbnet emulate {folder}", soft_wrap=True)


def checked(found: dict[str, Any], by: str = "layers") -> None:
    """What `emulate` found; profiles of each model where they are asked for."""
    _title(found)
    show.table(views.models(found))
    for model in found["models"] if by != "layers" else ():
        if model["profile"] is not None:
            show.out.print(f"[bold]{model['model']}[/]")
            show.profile(model, by)
    _memory(found)
    flash = found["flash"]
    parts = [f"weights {flash['weights']:,}", f"constants {flash['constants']:,}"]
    show.fact("Flash", " + ".join([*parts, f"code {flash['code']:,} = {flash['total']:,} B"]))
    own = ", ".join(f"{name} {size:,}" for name, size in flash["own_code"].items())
    show.fact("", f"code of {own}, shared {flash['shared_code']:,} (saves {flash['saved_code']:,})")
    for model in found["models"]:
        _model(model)
    wrong, host = found["mismatched_bytes"], found["host"]
    where = f"in {found['samples']:,} samples on the emulated core"
    if host is not None:
        wrong += host["mismatched_bytes"]
        where += f" and {host['samples']:,} on the host"
    text = Text(f"{wrong:,} mismatched bytes", "bold green" if wrong == 0 else "bold red")
    text.append(f" {where}, the models in turn", "not bold default")
    show.out.print(text, soft_wrap=True)


def _title(found: dict[str, Any]) -> None:
    names = ", ".join(model["model"] for model in found["models"])
    tool = f" ({found['toolchain']})" if found["toolchain"] else ""
    show.out.print(f"[bold]{names}[/] in one firmware for {found['target']}{tool}")


def _memory(found: dict[str, Any]) -> None:
    sram, kernels = found["sram"], found["kernels"]
    stack = f" + stack {sram['stack']:,} = {sram['total']:,}" if "stack" in sram else ""
    text = f"arena {sram['arena']:,}{stack} B; separate arenas would take {sram['separate_arenas']:,} B"
    show.fact("SRAM", text)
    count = (
        f"{kernels['functions']} functions for {kernels['separate_functions']} in separate projects"
    )
    show.fact("Kernels", f"{count}, {len(kernels['shared'])} shared by several models")


def _model(model: dict[str, Any]) -> None:
    """Accuracy of a model, and where it goes wrong if it does."""
    accuracy, first, born = model["accuracy"], model["first_mismatch"], model["first_divergence"]
    if accuracy is not None:
        score = f"{accuracy['device']:.4f} ({accuracy['metric']}, {accuracy['samples']:,} samples)"
        show.fact("Accuracy", f"{model['model']} {score}")
    if first is not None:
        found = f"expected {first['expected']}, found {first['found']}"
        place = f"sample {first['sample']}, output {first['output']}, element {first['element']}"
        show.fact("First", f"{model['model']}: {place}: {found}")
    if born is not None:
        show.fact("", f"first diverging layer: {born['layer']!r} ({born['kernel']})")
