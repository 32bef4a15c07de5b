"""Binary networks as a user has them: a trained model from ONNX to the device, options, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.thumbnet.test_cli import DATA, DIGITS, failure, result

BINARY = Path(__file__).parents[2] / "examples" / "binary_digits" / "binary_digits.onnx"
WIDE = "/wide/conv/Conv"


@pytest.mark.parametrize("target", ["generic-m4", "generic-m0plus"])
def test_the_example_runs_on_bits(target: str, tmp_path: Path) -> None:
    options = ("--data", DATA, "--target", target, "--optimize", "speed", "--max-samples", 3)
    found = result("run", BINARY, "-o", tmp_path / "out", *options)
    assert found["mismatched_bytes"] == found["host"]["mismatched_bytes"] == 0
    assert found["host"]["samples"] == 597
    assert found["accuracy"]["device"] >= 0.97
    kernel = "binary_conv2d.xnor" if target == "generic-m4" else "binary_conv2d.xnor_small"
    (layer,) = (v for v in found["layers"] if v["name"] == WIDE)
    assert (layer["kernel"], layer["weights"], layer["weights_bits"]) == (
        kernel,
        "binary x bits",
        1,
    )
    assert layer["weight_bytes"] == 64 * 9 * 32 // 8
    assert layer["bits_per_weight"] == pytest.approx(1 + 32 / 288, abs=1e-3)
    assert found["weights"] == "binary x bits"
    assert layer["cycles"] <= (0.39 if target == "generic-m4" else 0.65) * layer["macs"]


@pytest.mark.parametrize("objective", ["sram", "flash", "balanced"])
def test_every_objective_and_its_recipe(objective: str, tmp_path: Path) -> None:
    build = ("generate", BINARY, "--data", DATA, "-o")
    found = result(*build, tmp_path / "out", "--optimize", objective)
    recipe = tmp_path / "out" / "recipe.toml"
    again = result(*build, tmp_path / "again", "--optimize", objective, "--recipe", recipe)
    assert again["files"] == found["files"]
    checked = result("emulate", tmp_path / "out", "--data", DATA, "--max-samples", 2)
    assert checked["mismatched_bytes"] == checked["host"]["mismatched_bytes"] == 0


def test_bits_take_an_eighth_of_the_arena(tmp_path: Path) -> None:
    build = ("generate", BINARY, "--data", DATA, "-o")
    bits = result(*build, tmp_path / "bits", "--activations", "binary")
    bytes_ = result(*build, tmp_path / "bytes", "--activations", "int8")
    assert bytes_["weights"] == "int8"
    assert bits["sram"]["arena"] < bytes_["sram"]["arena"]
    assert bits["flash"]["weights"] < bytes_["flash"]["weights"] / 4
    (sign,) = (v for v in bits["layers"] if v["op"] == "binarize")
    assert sign["output_shape"] == [1, 8, 8, 32]
    checked = result("emulate", tmp_path / "bytes", "--data", DATA, "--max-samples", 2)
    assert checked["mismatched_bytes"] == 0


def test_float_models_are_not_made_binary_unless_forced(tmp_path: Path) -> None:
    build = ("generate", DIGITS, "--data", DATA, "--activations", "binary", "-o")
    said = failure(2, *build, tmp_path / "out")
    assert "no usable model" in said and "fine-tune" in said and "--force" in said
    found = result(*build, tmp_path / "out", "--force")
    kinds = {v["name"]: v["op"] for v in found["layers"]}
    assert kinds["/mix/conv/Conv"] == "binary_conv2d"
    assert kinds["/stem/conv/Conv"] == "conv2d" and kinds["/head/Gemm"] == "dense"
    checked = result("emulate", tmp_path / "out", "--data", DATA, "--max-samples", 2)
    assert checked["mismatched_bytes"] == checked["host"]["mismatched_bytes"] == 0


def test_binary_activations_are_listed_with_what_runs_them() -> None:
    (row,) = (v for v in result("ops", "--schemes")["schemes"] if v["activations"] == "binary")
    assert row["needs_training"] and row["weights"] == "binary"
    assert set(row["kernels"]["conv2d"].values()) == {"tuned"}
    assert set(row["kernels"]["depthwise"].values()) == {"none"}
