"""Kinds of networks that sensors need, from ONNX to the emulated core."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codegen import execute, reference
from examples.families import build
from thumbnet import compiler, workflow
from thumbnet.options import CompileOptions, RunOptions

FLOAT = {"attention"}  # of which some layers stay in float


@pytest.mark.parametrize("target", ["generic-m0plus", "generic-m4"])
@pytest.mark.parametrize("name", build.FAMILIES)
def test_every_byte(tmp_path: Path, name: str, target: str) -> None:
    model, data = build.write(name, tmp_path)
    compiling = CompileOptions(target=target, data=str(data))
    running = RunOptions(data=str(data), max_samples=3, profile=False)
    warnings, found = workflow.run(model, compiling, running, tmp_path / "project")
    assert found["mismatched_bytes"] == 0
    assert found["host"]["mismatched_bytes"] == 0
    assert any("float32" in warning for warning in warnings) == (name in FLOAT)


@pytest.mark.parametrize("name", build.FAMILIES)
def test_integers_follow_the_float_model(tmp_path: Path, name: str) -> None:
    model, data = build.write(name, tmp_path)
    made = compiler.prepare(model, CompileOptions(data=str(data)))
    port = made.float_graph.inputs[0]
    x = execute.to_device(port, np.load(data)["x"])
    (wanted,) = execute.run_float(made.float_graph, (x,))
    stored = reference.to_stored(made.quantized, port, x)
    (got,) = reference.run(made.quantized, (stored,))
    real = reference.to_real(made.quantized, made.quantized.outputs[0], got)
    assert np.corrcoef(real.ravel(), np.float64(wanted).ravel())[0, 1] > 0.98


def test_attention_in_float(tmp_path: Path) -> None:
    """The whole network in float32: no calibration, and the same bytes everywhere."""
    model, data = build.write("attention", tmp_path)
    compiling = CompileOptions(data=str(data), weights="float32")
    running = RunOptions(data=str(data), max_samples=2, profile=False)
    _, found = workflow.run(model, compiling, running, tmp_path / "project")
    assert found["matches_reference"]
    assert found["host"]["mismatched_bytes"] == 0
