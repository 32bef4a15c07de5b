"""int4 weights beside int8 on the reference models: `python -m benchmarks.few_bits [--only NAME ...]`.

Both at `--optimize speed` on generic-m4. Where int8 runs Winograd kernels there is a third row, int8 with
`conv2d.gemm` in their place: the computation that int4's layers are compared with. Writes
benchmarks/results/few-bits.json and prints the same as a Markdown table. Needs the reference data:
$THUMBNET_DATA, else ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.models import RESULTS, TASKS, Task, data_folder
from codegen.quant.vocabulary import CLIPS, Activations
from thumbnet import workflow
from thumbnet.options import CompileOptions, RunOptions

PATH = RESULTS / "few-bits.json"
KEYS = ("model", "weights", "clip", "activations", "direct")
DIRECT = "conv2d.gemm"
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
    recipe: Path | None = None,
) -> dict[str, Any]:
    """Figures of one model with its weights in one width; a recipe names kernels."""
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
        recipe=recipe,
    )
    running = RunOptions(data=data, metric=task.metric, max_samples=2)
    _, found = workflow.run(folder / "models" / f"{task.name}.onnx", compiling, running)
    return {
        "model": task.name,
        "weights": weights,
        "clip": clip,
        "rounding": rounding,
        "activations": activations,
        "direct": recipe is not None,
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


def without_winograd(task: Task, plain: dict[str, Any]) -> dict[str, Any] | None:
    """int8 with direct kernels where `plain` has Winograd ones; None where it has none."""
    names = [v["name"] for v in plain["layers"] if v["kernel"].startswith("conv2d.winograd")]
    if not names:
        return None
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.toml"
        recipe.write_text(
            "".join(f"[layers.{json.dumps(name)}]\nkernel = '{DIRECT}'\n" for name in names)
        )
        return measure(task, "int8", recipe=recipe)


def row(found: dict[str, Any], plain: dict[str, Any]) -> str:
    """A line of the table; ratios to the model in int8."""
    cells = (
        found["model"],
        found["weights"] + _kind(found),
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


def _kind(found: dict[str, Any]) -> str:
    if found.get("direct"):
        return ", direct"
    return " x int4" if found["activations"] else ""


def _key(found: dict[str, Any]) -> tuple[object, ...]:
    return tuple(found.get(key, False) for key in KEYS)


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
    rows = {_key(found): found for found in known}
    forms: list[tuple[str, str | None, Activations | None]] = [("int8", None, None)]
    forms += [("int4", clip, None) for clip in (None, *chosen.clip)]
    forms += [("int4", None, name) for name in chosen.activations]
    for task in TASKS:
        for weights, clip, activations in forms:
            if chosen.only is None or task.name in chosen.only:
                found = measure(task, weights, clip, activations=activations)
                direct = without_winograd(task, found) if weights == "int8" else None
                for each in (found, direct) if direct else (found,):
                    rows[_key(each)] = each
                    print(row(each, rows[task.name, "int8", None, None, False]), flush=True)
                kept = [rows[key] for key in sorted(rows, key=str)]
                PATH.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
