"""The reference models, end to end: `python -m benchmarks.models [--target NAME] [--toolchain NAME]`.

Writes benchmarks/results/models-TARGET-TOOLCHAIN.json and prints the same as a Markdown table. Needs the
reference data: $THUMBNET_DATA, else ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from codegen.select import Objective
from thumbnet import workflow
from thumbnet.options import Accuracy, CompileOptions, RunOptions

Toolchain = Literal["auto", "gcc", "zig"]
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Task:
    name: str
    data: str
    calib: str | None = None
    metric: str | None = None


TASKS = (
    Task("kws", "kws01.npz"),
    Task("ic", "ic01.npz"),
    Task("vww", "vww01.npz"),
    Task("ad", "ad01.npz", "ad01.npz:x_calib", "auc-reconstruction"),
    Task("sww", "sww01.npz"),
)


def data_folder() -> Path:
    return Path(os.environ.get("THUMBNET_DATA", ROOT.parent / "shared" / "data"))


def measure(
    task: Task,
    target: str,
    toolchain: Toolchain,
    accuracy: Accuracy = "host",
    optimize: Objective = "balanced",
) -> dict[str, Any]:
    """The JSON object of `thumbnet run` for one task."""
    folder = data_folder()
    sets = folder / "datasets"
    compiling = CompileOptions(
        target=target,
        optimize=optimize,
        data=str(sets / task.data),
        calib=str(sets / task.calib) if task.calib else None,
    )
    running = RunOptions(
        data=str(sets / task.data), metric=task.metric, toolchain=toolchain, accuracy=accuracy
    )
    _, found = workflow.run(folder / "models" / f"{task.name}.onnx", compiling, running)
    return found


def row(found: dict[str, Any]) -> str:
    accuracy, sram, flash = found["accuracy"], found["sram"], found["flash"]
    wrong = found["mismatched_bytes"] + found["host"]["mismatched_bytes"]
    cells = (
        found["model"],
        f"{accuracy['float']:.4f}",
        f"{accuracy['device']:.4f}",
        f"{accuracy['samples']:,}",
        f"{found['instructions']:,}",
        f"{found['cycles']:,}",
        f"{sram['arena']:,} ({sram['arena_bound']:,})",
        f"{sram['total']:,}",
        f"{flash['total']:,}",
        f"{wrong}",
    )
    return "| " + " | ".join(cells) + " |"


HEAD = (
    "| model | float | device | samples | instructions | cycles (m4-simple) | arena B (bound) "
    "| SRAM total B | flash total B | mismatched bytes |\n|" + "---|" * 10
)
KEPT: tuple[str, ...] = (
    "model",
    "target",
    "toolchain",
    "macs",
    "sram",
    "flash",
    "instructions",
    "cycles",
)
KEPT += ("cycles_model", "samples", "mismatched_bytes", "host", "accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="generic-m4")
    parser.add_argument("--toolchain", default="gcc", choices=["auto", "gcc", "zig"])
    chosen = parser.parse_args()
    if not (data_folder() / "models").is_dir():
        raise SystemExit("reference data not found; set THUMBNET_DATA")
    print(HEAD)
    results = []
    for task in TASKS:
        found = measure(task, chosen.target, chosen.toolchain)
        results.append({key: found[key] for key in KEPT})
        print(row(found), flush=True)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"models-{chosen.target}-{chosen.toolchain}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
