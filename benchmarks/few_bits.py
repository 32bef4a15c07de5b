"""int4 weights beside int8 on the reference models: `python -m benchmarks.few_bits [--only NAME ...]`.

Both at `--optimize speed` on generic-m4. Writes benchmarks/results/few-bits.json and prints the same as a
Markdown table. Needs the reference data: $THUMBNET_DATA, else ../shared/data.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from benchmarks.models import RESULTS, TASKS, Task, data_folder
from codegen.quant.vocabulary import CLIPS, Activations
from thumbnet import workflow
from thumbnet.options import CompileOptions, RunOptions

PATH = RESULTS / "few-bits.json"
KEYS = ("model", "weights", "clip", "activations")
HEAD = (
    "| model | weights | clip | float | device | cycles (m4-simple) | ratio | weights B | ratio "
    "| flash B | mismatched bytes |\n|" + "---|" * 11
)


def measure(
    task: Task,
    weights: str,
    clip: str | None = None,
    rounding: str | None = None,
    activations: Activations | None = None,
) -> dict[str, Any]:
    """Figures of one model with its weights in one width."""
    folder = data_folder()
    sets = folder / "datasets"
    data = str(sets / task.data)
    compiling = CompileOptions(
        optimize="speed",
        data=data,
        calib=str(sets / task.calib) if task.calib else None,
        weights=weights,
        clip=clip,
        rounding=rounding,
        activations=activations,
    )
    running = RunOptions(data=data, metric=task.metric, max_samples=2)
    _, found = workflow.run(folder / "models" / f"{task.name}.onnx", compiling, running)
    return {
        "model": task.name,
        "weights": weights,
        "clip": clip,
        "rounding": rounding,
        "activations": activations,
        "float": found["accuracy"]["float"],
        "device": found["accuracy"]["device"],
        "samples": found["accuracy"]["samples"],
        "cycles": found["cycles"],
        "weight_bytes": found["flash"]["weights"],
        "flash": found["flash"]["total"],
        "sram": found["sram"]["total"],
        "mismatched_bytes": found["mismatched_bytes"] + found["host"]["mismatched_bytes"],
        "layers": [
            {key: layer[key] for key in ("name", "kernel", "weights", "weight_bytes", "cycles")}
            for layer in found["layers"]
            if layer["weight_bytes"]
        ],
    }


def row(found: dict[str, Any], plain: dict[str, Any]) -> str:
    """A line of the table; ratios to the model in int8."""
    cells = (
        found["model"],
        found["weights"] + (" x int4" if found["activations"] else ""),
        found["clip"] or "",
        f"{found['float']:.4f}",
        f"{found['device']:.4f}",
        f"{found['cycles']:,}",
        f"{found['cycles'] / plain['cycles']:.3f}",
        f"{found['weight_bytes']:,}",
        f"{found['weight_bytes'] / plain['weight_bytes']:.3f}",
        f"{found['flash']:,}",
        f"{found['mismatched_bytes']}",
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measures, prints and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="models to measure anew; other rows stay")
    parser.add_argument("--clip", nargs="*", choices=CLIPS, default=[], help="int4 with these too")
    parser.add_argument(
        "--activations", nargs="*", choices=["int4"], default=[], help="int4 with these too"
    )
    chosen = parser.parse_args()
    if not (data_folder() / "models").is_dir():
        raise SystemExit("reference data not found; set THUMBNET_DATA")
    print(HEAD)
    known = json.loads(PATH.read_text()) if PATH.exists() else []
    rows = {tuple(found.get(key) for key in KEYS): found for found in known}
    forms: list[tuple[str, str | None, Activations | None]] = [("int8", None, None)]
    forms += [("int4", clip, None) for clip in (None, *chosen.clip)]
    forms += [("int4", None, name) for name in chosen.activations]
    for task in TASKS:
        for weights, clip, activations in forms:
            if chosen.only is None or task.name in chosen.only:
                found = measure(task, weights, clip, activations=activations)
                rows[tuple(found[key] for key in KEYS)] = found
                print(row(found, rows[task.name, "int8", None, None]), flush=True)
                kept = [rows[key] for key in sorted(rows, key=str)]
                PATH.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
