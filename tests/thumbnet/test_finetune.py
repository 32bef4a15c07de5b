"""`thumbnet finetune` as a user meets it. What needs no PyTorch is tested everywhere."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from codegen import importer, pipeline
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from targets.errors import ThumbnetError, ToolMissing, UsageError
from tests.thumbnet.test_cli import DATA, DIGITS, failure, result, thumbnet
from thumbnet import finetuning
from thumbnet.finetuning import FinetuneOptions

MIX, POINTWISE = "/mix/conv/Conv", "/pointwise/conv/Conv"


@pytest.fixture(scope="module")
def training_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the example's test set, to train on quickly."""
    path = tmp_path_factory.mktemp("data") / "train.npz"
    with np.load(DATA) as arrays:
        chosen = {key: arrays[key] for key in ("x_scale", "x_zero_point", "calib_x")}
        np.savez(path, x=arrays["x"][:240], y=arrays["y"][:240], **chosen)
    return path


def test_where_training_begins(training_data: Path, tmp_path: Path) -> None:
    graph = pipeline.run(importer.load(DIGITS))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"[layers.'{MIX}']\nweights = 'ternary'\nscheme = 'ttq'\n")
    options = FinetuneOptions(str(training_data), weights="int4", activations="int4", recipe=recipe)
    start, chosen = finetuning.begin(graph, options)
    names = {n.output: n.label for n in graph.nodes if isinstance(n.op, Conv2D | Dense)}
    forms = {names[output]: (f.weights, f.scheme) for output, f in start.forms.items()}
    assert forms.pop(MIX) == ("ternary", "ttq") and forms.pop(POINTWISE) == ("int4", "uniform")
    assert set(forms.values()) == {("int8", "uniform")} and len(forms) == 3
    for node in graph.nodes:
        if node.output in start.forms and node.label != MIX:
            stored = start.rounded.tensors[node.inputs[1]].values
            limit = 7 if node.label == POINTWISE else 127
            assert np.abs(stored.astype(int)).max() <= limit
    ends = {start.roots[p.tensor] for p in (*graph.inputs, *graph.outputs)}
    widths = {root: form.high - form.low for root, form in start.grids.items()}
    assert all(widths[root] == 255 for root in ends)
    assert sum(width == 15 for width in widths.values()) == 4
    assert start.grids[start.roots[graph.inputs[0].tensor]].fixed
    named = finetuning.named(start.graph, chosen)
    assert {name: f.weights for name, f in named.items()} == {MIX: "ternary", POINTWISE: "int4"}


def test_wrong_requests_are_refused(training_data: Path) -> None:
    graph = pipeline.run(importer.load(DIGITS))

    def said(**options: str) -> str:
        with pytest.raises(UsageError) as error:
            finetuning.begin(graph, FinetuneOptions(str(training_data), **options))  # type: ignore[arg-type]
        return f"{error.value.message}; {error.value.hint}"

    assert "cannot be trained for the scheme 'vsq16'" in said(weights="int4", scheme="vsq16")
    assert "unknown weights" in said(weights="int5")
    assert "does not exist" in said(calib="nowhere.npz")


def test_pytorch_may_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolMissing) as error:
        finetuning.finetune(DIGITS, FinetuneOptions("train.npz"), {}, tmp_path / "out")
    assert "thumbnet[qat]" in error.value.hint
    assert isinstance(error.value, ThumbnetError) and error.value.exit_code == 6


def test_help_lists_the_options() -> None:
    said = thumbnet("finetune", "--help").stdout
    for option in ("--resume", "--max-minutes", "--activations", "--distill", "--binarize"):
        assert option in said


@pytest.mark.parametrize(
    ("weights", "more"),
    [
        ("int4", ("--activations", "int4")),
        ("ternary", ("--scheme", "ttq")),
        pytest.param("int3", (), marks=pytest.mark.sweep),
        pytest.param("int2", (), marks=pytest.mark.sweep),
        pytest.param("ternary", (), marks=pytest.mark.sweep),
        pytest.param("binary", ("--binarize", "stochastic"), marks=pytest.mark.sweep),
    ],
)
def test_a_trained_model_runs_byte_for_byte(
    weights: str, more: tuple[str, ...], training_data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed (extra qat)")
    out = tmp_path / "out"
    options = ("--data", training_data, "--weights", weights, "--epochs", 2, "--rate", 3e-3)
    found = result("finetune", DIGITS, *options, *more, "-o", out)
    assert found["epochs"] == 2 and found["samples"] == 216
    assert found["weights"] == sorted({"int8", weights})
    assert json.loads((out / "finetune.json").read_text()) == found
    assert sorted(p.name for p in out.iterdir()) == ["digits.onnx", "finetune.json", "recipe.toml"]
    layers = tomllib.loads((out / "recipe.toml").read_text())["layers"]
    assert {name: layer["weights"] for name, layer in layers.items()} == {
        MIX: weights,
        POINTWISE: weights,
    }
    ran = result(
        *("run", out / "digits.onnx", "--recipe", out / "recipe.toml", "--data", DATA),
        *("--max-samples", 2, "--optimize", "flash"),
    )
    assert ran["mismatched_bytes"] == ran["host"]["mismatched_bytes"] == 0
    stored = {v["name"]: v["weights"] for v in ran["layers"] if v["weights"]}
    assert stored[MIX] == (f"{weights} ttq" if more[-1:] == ("ttq",) else weights)
    bits = {v["name"]: v["weights_bits"] for v in ran["layers"] if v["weights"]}
    width = {"int4": 4, "int3": 3, "int2": 2, "ternary": 2, "binary": 1}[weights]
    assert bits[MIX] == bits[POINTWISE] == width


def test_signs_replace_activations(training_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed (extra qat)")
    out = tmp_path / "out"
    options = ("--data", training_data, "--weights", "binary", "--activations", "binary")
    result("finetune", DIGITS, *options, "--epochs", 2, "-o", out)
    ran = result(
        *("run", out / "digits.onnx", "--recipe", out / "recipe.toml", "--data", DATA),
        *("--max-samples", 2),
    )
    assert ran["mismatched_bytes"] == ran["host"]["mismatched_bytes"] == 0
    kernels = {v["name"]: v["kernel"].partition(".")[0] for v in ran["layers"]}
    assert kernels[POINTWISE] == kernels[MIX] == "binary_conv2d"
    assert "bit_max_pool" in kernels.values()


def test_signs_need_binary_weights(training_data: Path) -> None:
    graph = pipeline.run(importer.load(DIGITS))
    options = FinetuneOptions(str(training_data), weights="int4", activations="binary")
    with pytest.raises(UsageError, match="no layer has binary weights"):
        finetuning.begin(graph, options)


def test_a_float_model_can_be_suited_to_data_first(training_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed (extra qat)")
    out = tmp_path / "out"
    options = ("--data", training_data, "--weights", "float", "--distill", 0, "--epochs", 1)
    found = result("finetune", DIGITS, *options, "-o", out)
    assert found["weights"] == ["float"] and found["processor_minutes"] >= 0
    assert sorted(p.name for p in out.iterdir()) == ["digits.onnx", "finetune.json"]
    graph = pipeline.run(importer.load(out / "digits.onnx"))
    assert not any(tensor.quant for tensor in graph.tensors.values())
    again = tmp_path / "again"
    result("finetune", out / "digits.onnx", *options[:2], "--epochs", 1, "-o", again)
    assert (again / "recipe.toml").exists()


def test_a_resumed_training_reports_its_beginning(training_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed (extra qat)")
    folder = tmp_path / "checkpoint"
    options = ("--data", training_data, "--weights", "int4", "--epochs", 2, "--resume", folder)
    first = result("finetune", DIGITS, *options, "-o", tmp_path / "first")
    again = result("finetune", DIGITS, *options, "-o", tmp_path / "again")
    assert first == again and first["held_out"]["loss"]["before"] == first["history"][0]["loss"]


def test_other_folders_stay(training_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed (extra qat)")
    (tmp_path / "mine.txt").write_text("keep")
    options = ("--data", training_data, "--epochs", 1)
    assert "is not empty" in failure(2, "finetune", DIGITS, *options, "-o", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"
    once = tmp_path / "once"
    result("finetune", DIGITS, *options, "-o", once)
    quantized = ("finetune", once / "digits.onnx", *options, "-o", tmp_path / "twice")
    assert "is quantized already" in failure(2, *quantized)
    assert not (tmp_path / "twice").exists()
