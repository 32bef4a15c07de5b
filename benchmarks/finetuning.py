"""Fine-tuning measured: `python -m benchmarks.finetuning [--only NAME ...] [--seeds N]`.

The digits example in few bits, trained on its 1,200 training images; and ResNet-8 (ic) in four bits, trained
on CIFAR-10 images for ten minutes with `--only ic`. Accuracy is the host build's, of the whole test set. Rows
are kept in benchmarks/results/finetuning.json and in docs/finetuning.md; those that are there are not
measured again unless `--only` names them. Needs PyTorch, scikit-learn, Pillow, and for ic the reference data.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.models import RESULTS, ROOT, data_folder
from examples.digits import train
from thumbnet import finetuning, workflow
from thumbnet.finetuning import FinetuneOptions
from thumbnet.options import CompileOptions, RunOptions

PATH = RESULTS / "finetuning.json"
PAGE = ROOT / "docs" / "finetuning.md"
BEGIN, END = "<!-- figures: benchmarks.finetuning -->\n", "<!-- end of figures -->\n"
HEAD = (
    "| model | weights | activations | seed | float | rounded | trained | test samples | epochs | "
    "weights B | mismatched bytes |\n|" + "---|" * 11 + "\n"
)
DIGITS = ROOT / "examples" / "digits"
IC_TEST = 2000  # images of the test set; SE 0.9 points
CALIBRATION = 256


@dataclass(frozen=True)
class Rung:
    """One training."""

    name: str
    model: str
    weights: str
    scheme: str | None = None
    activations: str = "int8"
    how: dict[str, Any] = field(default_factory=dict)


LONG = {"epochs": 120, "patience": 120, "rate": 1e-2, "distill": 0.3, "shift": 1}
SHORT = {"epochs": 40, "patience": 40, "rate": 2e-3, "distill": 0.3, "shift": 1}
RUNGS = (
    Rung("w4a8", "digits", "int4", how=SHORT),
    Rung("w4a4", "digits", "int4", activations="int4", how=SHORT),
    Rung("w3a8", "digits", "int3", how=SHORT),
    Rung("ternary", "digits", "ternary", how=LONG),
    Rung("ttq", "digits", "ternary", "ttq", how=LONG),
    Rung("binary", "digits", "binary", how=LONG),
    Rung(
        "ic",
        "ic",
        "int4",
        how={"epochs": 3, "rate": 5e-4, "flip": True, "held_out": 0.025, "minutes": 10},
    ),
)


def digits(folder: Path) -> tuple[Path, Path, Path]:
    """Model, training data and test data of the example."""
    x, y, _, _ = train.load_split()
    path = folder / "train.npz"
    scale, zero = np.float32(train.SCALE), np.int32(0)
    calib = x[: train.CALIBRATION]
    np.savez(path, x=x, y=y, x_scale=scale, x_zero_point=zero, calib_x=calib)
    return DIGITS / "digits.onnx", path, DIGITS / "digits.npz"


def ic(folder: Path) -> tuple[Path, Path, Path]:
    """ResNet-8, CIFAR-10 images for training, and the first 2,000 of its test set."""
    data = data_folder()
    with np.load(data / "datasets" / "cifar10_jpeg.npz") as arrays:
        x = _decoded(arrays["train_jpeg"], arrays["train_offset"])
        test = _decoded(arrays["test_jpeg"], arrays["test_offset"][: IC_TEST + 1])
        train_y, test_y = arrays["train_y"], arrays["test_y"][:IC_TEST]
    grid: dict[str, Any] = {"x_scale": np.float32(1), "x_zero_point": np.int32(0)}
    paths = folder / "train.npz", folder / "test.npz"
    np.savez(paths[0], x=x, y=train_y, calib_x=x[:CALIBRATION], **grid)
    np.savez(paths[1], x=test, y=test_y, calib_x=x[:CALIBRATION], metric="top1", **grid)
    return data / "models" / "ic.onnx", *paths


def _decoded(stream: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    parts = itertools.pairwise(offsets)
    return np.stack([np.asarray(Image.open(io.BytesIO(stream[a:b].tobytes()))) for a, b in parts])


def measure(rung: Rung, seed: int) -> dict[str, Any]:
    """Trains once and runs what came out; without training as well, where rounding alone is of any use."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model, data, test = (digits if rung.model == "digits" else ic)(folder)
        options = FinetuneOptions(
            str(data), None, rung.weights, rung.scheme, rung.activations, seed=seed
        )
        trained = finetuning.finetune(model, options, rung.how, folder / "out")
        output = folder / "out" / f"{rung.model}.onnx"
        compiling = CompileOptions(recipe=folder / "out" / "recipe.toml")
        running = RunOptions(data=str(test), max_samples=2)
        _, found = workflow.run(output, compiling, running)
        plain = CompileOptions(
            data=str(test), weights=rung.weights, scheme=rung.scheme, force=True, seed=seed
        )
        _, rounded = workflow.run(model, plain, running)
    return {
        "rung": rung.name,
        "model": rung.model,
        "weights": rung.scheme or rung.weights,
        "activations": rung.activations,
        "seed": seed,
        "float": rounded["accuracy"]["float"],
        "rounded": rounded["accuracy"]["device"] if rung.activations == "int8" else None,
        "trained": found["accuracy"]["device"],
        "samples": found["accuracy"]["samples"],
        "epochs": trained["epochs"],
        "best_epoch": trained["best_epoch"],
        "held_out": trained["held_out"],
        "training": trained["training"],
        "weight_bytes": found["flash"]["weights"],
        "mismatched_bytes": found["mismatched_bytes"] + found["host"]["mismatched_bytes"],
    }


def row(found: dict[str, Any]) -> str:
    """A line of the table."""
    rounded = "" if found["rounded"] is None else f"{found['rounded']:.4f}"
    cells = (
        *(found[key] for key in ("model", "weights", "activations", "seed")),
        f"{found['float']:.4f}",
        rounded,
        f"**{found['trained']:.4f}**",
        f"{found['samples']:,}",
        found["epochs"],
        f"{found['weight_bytes']:,}",
        found["mismatched_bytes"],
    )
    return "| " + " | ".join(map(str, cells)) + " |\n"


def write(rows: list[dict[str, Any]]) -> None:
    """Keeps the rows, and puts the table into the page."""
    PATH.write_text(json.dumps(rows, indent=1) + "\n")
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + "\n" + HEAD + "".join(map(row, rows)) + "\n" + END + after)


def main() -> None:
    """Measures what is missing, and keeps it."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [rung.name for rung in RUNGS]
    parser.add_argument("--only", nargs="*", choices=names, help="trainings to do (again)")
    parser.add_argument("--seeds", type=int, default=1, help="so many seeds of each")
    chosen = parser.parse_args()
    os.nice(10)
    known = json.loads(PATH.read_text()) if PATH.exists() else []
    rows = {(found["rung"], found["seed"]): found for found in known}
    for rung in RUNGS:
        wanted = rung.name in chosen.only if chosen.only else rung.name != "ic"
        for seed in range(chosen.seeds if wanted else 0):
            if (rung.name, seed) not in rows or chosen.only:
                rows[rung.name, seed] = measure(rung, seed)
                print(row(rows[rung.name, seed]), end="", flush=True)
                order = sorted(rows, key=lambda key: (names.index(key[0]), key[1]))
                write([rows[key] for key in order])


if __name__ == "__main__":
    main()
