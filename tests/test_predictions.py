"""Predicted cycles of each layer of the reference models against those of the emulator (m4-simple)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.models import TASKS, Task
from codegen.select import Objective
from thumbnet import compiler, project, verify
from thumbnet.options import CompileOptions, RunOptions

# Kernels whose predictions count their templates' instructions; those of kernels in C are rough.
COUNTED: tuple[str, ...] = ("conv2d.gemm", "conv2d.winograd", "conv2d.winograd_small")
COUNTED += ("dense.dsp", "dense.raw", "add.dsp", "average_pool.dsp", "conv2d.depthwise_strips")
COUNTED += ("conv2d.depthwise_rows", "max_pool.dsp", "average_pool.windows")
MOST_ERROR = 0.03
CALL = 20  # cycles more or less that the call of a step takes
SHOWN = 3
BUILDS: list[tuple[Task, Objective]] = [(task, "balanced") for task in TASKS]
BUILDS += [(task, "speed") for task in TASKS if task.name in ("kws", "ic", "vww")]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's cycles."""

    name: str
    kernel: str
    predicted: float
    counted: int

    @property
    def error(self) -> float:
        """Of the prediction, as a share."""
        return self.predicted / self.counted - 1

    def __str__(self) -> str:
        """One line."""
        return f"{self.error:+7.2%} of {self.counted:>9,} {self.kernel} {self.name}"


@pytest.mark.parametrize(
    ("task", "optimize"), BUILDS, ids=[f"{task.name}-{goal}" for task, goal in BUILDS]
)
def test_layers_of_reference_models(
    task: Task, optimize: Objective, data_dir: Path, tmp_path: Path
) -> None:
    layers = measured(task, optimize, data_dir, tmp_path)
    worst = sorted(layers, key=lambda layer: -abs(layer.error))
    print("", *worst[:SHOWN], sep="\n")
    wrong = [
        str(layer)
        for layer in worst
        if layer.kernel in COUNTED
        and abs(layer.predicted - layer.counted) > MOST_ERROR * layer.counted + CALL
    ]
    assert not wrong
    total = sum(layer.counted for layer in layers)
    assert sum(layer.predicted for layer in layers) == pytest.approx(total, rel=0.02)


def measured(task: Task, optimize: Objective, data_dir: Path, folder: Path) -> list[Layer]:
    """Every layer of a model on its own calibration data, one inference."""
    sets = data_dir / "datasets"
    calib = str(sets / task.calib) if task.calib else None
    options = CompileOptions(
        target="generic-m4", optimize=optimize, data=str(sets / task.data), calib=calib
    )
    compiled = compiler.compile_model(data_dir / "models" / f"{task.name}.onnx", options)
    project.write(folder, compiled.files)
    found = verify.verify(folder, RunOptions(accuracy="none", max_samples=1))["layers"]
    return [
        Layer(row["name"], row["kernel"], step.kernel.cycles(step.layer), row["cycles"])
        for step, row in zip(compiled.plan.steps, found, strict=True)
    ]
