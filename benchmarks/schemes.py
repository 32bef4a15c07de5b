"""Every way to store weights on one model: `python -m benchmarks.schemes [--model NAME] [--only NAME ...]`.

Weights are rounded without training. Writes benchmarks/results/schemes-MODEL.json and prints the same as a
Markdown table. Needs the reference data: $THUMBNET_DATA, else ../shared/data.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from benchmarks.models import RESULTS, TASKS, Task, data_folder
from codegen.quant.schemes import SCHEMES
from thumbnet import workflow
from thumbnet.options import CompileOptions, RunOptions

FORMATS: tuple[tuple[str, str | None], ...] = (
    ("int8", None),
    *((weights, scheme.name) for scheme in SCHEMES.values() for weights in scheme.weights),
)
HEAD = (
    "| weights | scheme | bits per weight | weights B | flash B | cycles (m4-simple) | SRAM B | accuracy "
    "| mismatched bytes |\n|" + "---|" * 9
)


def measure(
    task: Task,
    weights: str,
    scheme: str | None,
    target: str = "generic-m4",
    samples: int = 5,
) -> dict[str, Any]:
    """The JSON object of `thumbnet run` for one format, as fast as it goes."""
    folder = data_folder()
    sets = folder / "datasets"
    compiling = CompileOptions(
        target=target,
        optimize="speed",
        data=str(sets / task.data),
        calib=str(sets / task.calib) if task.calib else None,
        weights=weights,
        scheme=scheme,
        force=True,
    )
    running = RunOptions(data=str(sets / task.data), metric=task.metric, max_samples=samples)
    _, found = workflow.run(folder / "models" / f"{task.name}.onnx", compiling, running)
    return found


def summary(found: dict[str, Any], weights: str, scheme: str | None) -> dict[str, Any]:
    """What the table shows."""
    stored = [layer for layer in found["layers"] if layer["weights"] not in (None, "int8")]
    layers = stored or [layer for layer in found["layers"] if layer["weights"]]
    return {
        "weights": weights,
        "scheme": scheme,
        "kernels": sorted({layer["kernel"] for layer in stored}),
        # The layers that are stored so; without any, all.
        "bits_per_weight": round(
            sum(v["bits_per_weight"] * v["weight_count"] for v in layers)
            / sum(v["weight_count"] for v in layers),
            2,
        ),
        "weight_bytes": found["flash"]["weights"],
        "flash": found["flash"]["total"],
        "cycles": found["cycles"],
        "sram": found["sram"]["total"],
        "float": found["accuracy"]["float"],
        "device": found["accuracy"]["device"],
        "samples": found["accuracy"]["samples"],
        "mismatched_bytes": found["mismatched_bytes"] + found["host"]["mismatched_bytes"],
    }


def row(found: dict[str, Any]) -> str:
    cells = (
        found["weights"],
        found["scheme"] or "",
        f"{found['bits_per_weight']:.2f}",
        f"{found['weight_bytes']:,}",
        f"{found['flash']:,}",
        f"{found['cycles']:,}",
        f"{found['sram']:,}",
        f"{found['device']:.4f}",
        f"{found['mismatched_bytes']}",
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="kws", choices=[task.name for task in TASKS])
    parser.add_argument("--only", nargs="*", help="schemes to measure anew; other rows stay")
    chosen = parser.parse_args()
    if not (data_folder() / "models").is_dir():
        raise SystemExit("reference data not found; set THUMBNET_DATA")
    task = next(task for task in TASKS if task.name == chosen.model)
    print(HEAD)
    path = RESULTS / f"schemes-{task.name}.json"
    known = json.loads(path.read_text()) if path.exists() else []
    rows = {(found["weights"], found["scheme"]): found for found in known}
    for weights, scheme in FORMATS:
        if chosen.only is None or (scheme or weights) in chosen.only:
            rows[weights, scheme] = summary(measure(task, weights, scheme), weights, scheme)
        if (weights, scheme) in rows:
            print(row(rows[weights, scheme]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    kept = [rows[form] for form in FORMATS if form in rows]
    path.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
