"""Fine-tuning measured: `python -m benchmarks.finetuning [--only NAME ...] [--seeds N]`.

A CNN of three convolutions in few bits, trained on 1,200 digits (the twin of examples/binary_digits, made
first); and ResNet-8 (ic), suited to 20,000 CIFAR-10 images that went through JPEG (`ic-float`), then trained
in few bits on the same images, 30 minutes each at most. Learning rates are chosen by the loss on training
images that were held out; the test set is run once per row, by the host build, its first images in the
emulator as well.

Rows are kept in benchmarks/results/finetuning.json and in docs/finetuning.md; those that are there are not
measured again unless `--only` names them. A run that is broken off goes on from its last epoch: trainings
and their checkpoints are kept in `--work` until their row is written. Needs PyTorch, scikit-learn, Pillow,
and for ic the reference data.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

from benchmarks.models import RESULTS, ROOT, data_folder
from codegen import graph_file
from codegen.ir import Array
from emulator.host import HostModel
from examples.digits import train
from targets import toolchain
from thumbnet import finetuning, project, verify, workflow
from thumbnet.finetuning import FLOAT, RECIPE, RESULT, FinetuneOptions
from thumbnet.options import CompileOptions, RunOptions

PATH = RESULTS / "finetuning.json"
PAGE = ROOT / "docs" / "finetuning.md"
BEGIN, END = "<!-- figures: benchmarks.finetuning -->\n", "<!-- end of figures -->\n"
HEAD = (
    "| name | model | weights | activations | seed | rate | epochs | processor min | held-out float | "
    "before | after | test float | trained | test samples | weights B | mismatched bytes |\n"
    + "|---" * 16
    + "|\n"
)
CALIBRATION = 256
KEPT = ("epochs", "best_epoch", "processor_minutes", "training", "held_out")
EMULATED = 20  # samples of each test set that the emulator runs too


@dataclass(frozen=True)
class Rung:
    """One training, at the rate of `rates` that does best on held-out samples."""

    name: str
    model: str
    weights: str
    rates: tuple[float, ...]
    scheme: str | None = None
    activations: str = "int8"
    how: dict[str, Any] = field(default_factory=dict)


def steps(epochs: int, **more: Any) -> dict[str, Any]:
    """So many epochs; none is cut short, the best on held-out samples is what is kept."""
    return {"epochs": epochs, "patience": epochs, **more}


SMALL = (1e-3, 3e-3, 1e-2)
LARGE = (3e-3, 1e-2)
SHORT, LONG = steps(20, held_out=0.2, shift=1), steps(60, held_out=0.2, shift=1)
IMAGES = {"batch": 64, "held_out": 0.05, "flip": True, "shift": 2, "minutes": 30}
RUNGS = (
    Rung("w4a8", "digits", "int4", SMALL, how=SHORT),
    Rung("w4a4", "digits", "int4", SMALL, activations="int4", how=SHORT),
    Rung("w3a8", "digits", "int3", SMALL, how=SHORT),
    Rung("ternary", "digits", "ternary", LARGE, how=LONG),
    Rung("ttq", "digits", "ternary", LARGE, "ttq", how=LONG),
    Rung("binary", "digits", "binary", LARGE, how=LONG),
    Rung("xnor", "digits", "binary", LARGE, activations="binary", how=LONG),
    Rung("ic-float", "ic", FLOAT, (4e-4,), how=steps(8, distill=0.0, **IMAGES)),
    Rung("ic-w4a8", "ic", "int4", (5e-5,), how=steps(4, **IMAGES)),
    Rung("ic-w4a4", "ic", "int4", (4e-4,), activations="int4", how=steps(24, **IMAGES)),
    Rung("ic-ternary", "ic", "ternary", (1e-3,), how=steps(40, **IMAGES)),
)
BASE = next(rung for rung in RUNGS if rung.weights == FLOAT)


@dataclass(frozen=True)
class Task:
    """A float model, its training data and its test data."""

    model: Path
    data: Path
    test: Path


def digits(folder: Path, work: Path) -> Task:
    """The twin of the binary example, which is kept in `work`, and the digits that it was trained on."""
    x, y, _, _ = train.load_split()
    path, model = folder / "train.npz", work / "digits.onnx"
    scale, zero = np.float32(train.SCALE), np.int32(0)
    calib = x[: train.CALIBRATION]
    np.savez(path, x=x, y=y, x_scale=scale, x_zero_point=zero, calib_x=calib)
    if not model.exists():
        script = ROOT / "examples" / "binary_digits" / "train.py"
        subprocess.run(
            [sys.executable, script, "--twin", model], check=True, stdout=subprocess.PIPE
        )
    return Task(model, path, ROOT / "examples" / "digits" / "digits.npz")


def ic(folder: Path) -> Task:
    """ResNet-8 as published, 20,000 CIFAR-10 images for training, 10,000 for the test."""
    found = data_folder()
    with np.load(found / "datasets" / "cifar10_jpeg.npz") as arrays:
        images = {
            part: _decoded(arrays[f"{part}_jpeg"], arrays[f"{part}_offset"])
            for part in ("train", "test")
        }
        labels = {part: arrays[f"{part}_y"] for part in images}
    calib = images["train"][:CALIBRATION]
    for part, x in images.items():
        np.savez(
            folder / f"{part}.npz",
            x=x,
            y=labels[part],
            calib_x=calib,
            metric="top1",
            x_scale=np.float32(1),
            x_zero_point=np.int32(0),
        )
    return Task(found / "models" / "ic.onnx", folder / "train.npz", folder / "test.npz")


def _decoded(stream: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    parts = itertools.pairwise(offsets)
    return np.stack([np.asarray(Image.open(io.BytesIO(stream[a:b].tobytes()))) for a, b in parts])


def tuned(rung: Rung, rate: float, seed: int, task: Task, work: Path) -> dict[str, Any]:
    """The JSON object of one training, whose files lie in `folder_of`; made unless it is there."""
    folder = folder_of(rung, rate, seed, work)
    known = folder / "out" / RESULT
    if known.exists():
        found: dict[str, Any] = json.loads(known.read_text())
        return found
    options = FinetuneOptions(
        str(task.data),
        weights=rung.weights,
        scheme=rung.scheme,
        activations=rung.activations,
        resume=folder / "checkpoint",
        seed=seed,
    )
    return finetuning.finetune(task.model, options, rung.how | {"rate": rate}, folder / "out")


def folder_of(rung: Rung, rate: float, seed: int, work: Path) -> Path:
    """Where a training keeps its files."""
    return work / f"{rung.name}-{seed}" / str(rate)


def suited(task: Task, work: Path) -> Task:
    """The task of ic, its model suited to the training images first."""
    (rate,) = BASE.rates
    tuned(BASE, rate, 0, task, work)
    return Task(folder_of(BASE, rate, 0, work) / "out" / "ic.onnx", task.data, task.test)


def measure(rung: Rung, seed: int, work: Path) -> dict[str, Any]:
    """Trains, chooses the rate, and runs what came out of that one."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        task = digits(folder, work) if rung.model == "digits" else ic(folder)
        if rung.model == "ic" and rung is not BASE:
            task = suited(task, work)
        trials = {rate: tuned(rung, rate, seed, task, work) for rate in rung.rates}
        rate = min(rung.rates, key=lambda r: trials[r]["held_out"]["loss"]["after"])
        output = folder_of(rung, rate, seed, work) / "out"
        tested = _tested(rung, task, output)
    best = trials[rate]
    return {
        "rung": rung.name,
        "model": rung.model,
        "weights": rung.scheme or rung.weights,
        "activations": FLOAT if rung.weights == FLOAT else rung.activations,
        "seed": seed,
        "rate": rate,
        "rates": {str(r): found["held_out"] for r, found in trials.items()},
        **tested,
        **{key: best[key] for key in KEPT},
    }


def _tested(rung: Rung, task: Task, output: Path) -> dict[str, Any]:
    """Figures of the test set, of the float model and of the trained one."""
    trained = output / f"{task.model.stem}.onnx"
    compiling = CompileOptions(recipe=output / RECIPE)
    if rung.weights == FLOAT:  # on the device it has int8 weights
        compiling = CompileOptions(data=str(task.test))
    running = RunOptions(data=str(task.test), max_samples=EMULATED, accuracy="none")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "project"
        _, found = workflow.run(trained, compiling, running, folder)
        device, samples = _by_host(folder, running)
    return {
        "float": _by_onnxruntime(task.model, task.test),
        "trained": _by_onnxruntime(trained, task.test) if rung.weights == FLOAT else device,
        "device": device,
        "samples": samples,
        "weight_bytes": found["flash"]["weights"],
        "mismatched_bytes": found["mismatched_bytes"],
    }


def _by_host(folder: Path, options: RunOptions) -> tuple[float, int]:
    """Top-1 of the C as this machine runs it, of all samples, and their number."""
    graph = graph_file.load(folder / project.REFERENCE)
    samples = verify.samples_of(graph, options)
    library = folder / "host.so"
    sources = project.sources(project.read_any(folder), "host_sources")
    toolchain.build_host(folder, sources, library, ("-march=native",))
    model = HostModel(library, project.image(project.read_manifest(folder)))
    (outputs,) = model.run(verify.stored_inputs(graph, samples))
    return _top1(outputs, samples.y), len(samples)


def _by_onnxruntime(model: Path, test: Path) -> float:
    """Top-1 of a float model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (port,) = session.get_inputs()
    with np.load(test) as arrays:
        zero, scale, labels = arrays["x_zero_point"], arrays["x_scale"], arrays["y"]
        real = (arrays["x"].astype(np.float32) - zero.astype(np.float32)) * scale
    return _top1(np.stack([session.run(None, {port.name: x[None]})[0] for x in real]), labels)


def _top1(outputs: Array, labels: Array | None) -> float:
    return float((outputs.reshape(len(outputs), -1).argmax(1) == labels).mean())


def row(found: dict[str, Any]) -> str:
    """A line of the table."""
    names = ("rung", "model", "weights", "activations", "seed", "rate", "epochs")
    held = found["held_out"]["accuracy"]
    minutes = found["processor_minutes"]
    cells = (
        *(found[key] for key in names),
        "" if minutes is None else f"{minutes:.1f}",
        *(f"{held[key]:.4f}" for key in ("float", "before", "after")),
        f"{found['float']:.4f}",
        f"**{found['trained']:.4f}**",
        f"{found['samples']:,}",
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
    work = ROOT / "build" / "finetuning"
    parser.add_argument("--work", type=Path, default=work, help="folder of trainings under way")
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    os.nice(10)
    known = json.loads(PATH.read_text()) if PATH.exists() else []
    rows = {(found["rung"], found["seed"]): found for found in known}
    for rung in RUNGS:
        wanted = not chosen.only or rung.name in chosen.only
        seeds = chosen.seeds if rung.model == "digits" else 1
        for seed in range(seeds if wanted else 0):
            if (rung.name, seed) not in rows or chosen.only:
                rows[rung.name, seed] = measure(rung, seed, chosen.work)
                print(row(rows[rung.name, seed]), end="", flush=True)
                order = sorted(rows, key=lambda key: (names.index(key[0]), key[1]))
                write([rows[key] for key in order])
                if rung is not BASE:  # which others begin with
                    shutil.rmtree(chosen.work / f"{rung.name}-{seed}")


if __name__ == "__main__":
    main()
