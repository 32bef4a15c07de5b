"""The examples generated as the tests of linking want them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thumbnet import compiler, project
from thumbnet.options import CompileOptions, RunOptions

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
TARGETS = ("generic-m4", "generic-m0plus")
BRIEF = RunOptions(max_samples=3, accuracy="none")


def example(name: str) -> str:
    return str(EXAMPLES / name / f"{name}.npz")


def generate(folder: Path, model: str, **options: Any) -> Path:
    chosen = CompileOptions(data=example(model), **options)
    compiled = compiler.compile_model(EXAMPLES / model / f"{model}.onnx", chosen)
    project.write(folder, compiled.files)
    return folder
