"""Weights of few bits as a user asks for them: options, recipes, JSON, refusals; one whole model."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import few_bits, schemes
from benchmarks.models import TASKS
from codegen import graph_file, reference
from tests.thumbnet.test_cli import DATA, DIGITS, failure, result, thumbnet
from thumbnet import project

MIX = "/mix/conv/Conv"
# Least share of kws's 1,000 samples that are classified rightly; models are not trained for it.
LEAST = {
    ("int8", None): 0.90,
    ("int4", "uniform"): 0.905,
    ("int3", "uniform"): 0.50,
    ("int4", "vsq16"): 0.89,
    ("int4", "group32"): 0.88,
    ("int8", "mx6"): 0.90,
    ("int8", "mx9"): 0.90,
    ("int8", "mxint8"): 0.90,
    ("int4", "mxfp4"): 0.70,
}


def test_layers_between_the_ends_are_stored_in_four_bits(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    found = result("generate", DIGITS, "-o", folder, "--data", DATA, "--weights", "int4")
    assert found["weights"] == "int4"
    stored = {v["name"]: v["weights"] for v in found["layers"] if v["weights"]}
    assert stored.pop(MIX) == stored.pop("/pointwise/conv/Conv") == "int4"
    assert set(stored.values()) == {"int8"} and "/head/Gemm" in stored and len(stored) == 3
    mix = next(v for v in found["layers"] if v["name"] == MIX)
    assert mix["weights_bits"] == 4
    assert mix["weight_bytes"] == 4608 // 2
    assert mix["bits_per_weight"] == pytest.approx(4 + 32 * 16 / 4608, abs=1e-3)
    again = tomllib.loads((folder / "recipe.toml").read_text())["layers"][MIX]
    assert again == {"weights": "int4", "scheme": "uniform", "kernel": "conv2d.int4"}


def test_a_recipe_names_schemes_layer_by_layer(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f"[layers.'{MIX}']\nscheme = 'vsq16'\n[layers.'/head/Gemm']\nweights = 'int4'\n"
    )
    folder = tmp_path / "digits"
    options = ("--data", DATA, "--recipe", recipe)
    found = result("generate", DIGITS, "-o", folder, *options)
    stored = {
        v["name"]: v["weights"] for v in found["layers"] if v["weights"] not in (None, "int8")
    }
    assert stored == {MIX: "int4 vsq16", "/head/Gemm": "int4"}
    assert found["weights"] == "int4, int4 vsq16"
    checked = result("emulate", folder, "--data", DATA, "--max-samples", 2)
    assert checked["mismatched_bytes"] == checked["host"]["mismatched_bytes"] == 0
    own = ("--data", DATA, "--recipe", folder / "recipe.toml")
    again = result("generate", DIGITS, "-o", tmp_path / "again", *own)
    assert again["files"] == found["files"]


def test_wrong_formats_are_refused(tmp_path: Path) -> None:
    out = ("generate", DIGITS, "-o", tmp_path / "out", "--data", DATA)
    said = failure(2, *out, "--weights", "ternary")
    assert "leave no usable model" in said and "--force" in said
    assert "cannot store binary" in failure(2, *out, "--weights", "binary", "--scheme", "mx4")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"[layers.'{MIX}']\nscheme = 'mx5'\n")
    assert "unknown scheme 'mx5'" in failure(2, *out, "--recipe", recipe)
    forced = result(*out, "--weights", "binary", "--force")
    assert forced["weights"] == "binary"


def test_schemes_are_listed() -> None:
    found = result("ops", "--schemes")
    rows = {(row["scheme"], row["weights"]): row for row in found["schemes"]}
    tuned = rows["uniform", "int4"]["kernels"]["conv2d"]
    assert tuned == {"DSP": "tuned", "Armv7-M": "tuned", "Armv6-M": "tuned"}
    assert rows["mx9", "int8"]["kernels"]["dense"]["DSP"] == "portable"
    for scheme, weights in (("mx6", "int8"), ("ttq", "ternary")):
        assert rows[scheme, weights]["kernels"]["conv2d"]["DSP"] == "tuned"
    assert rows["log2", "int4"]["kernels"]["dense"]["DSP"] == "tuned"
    for weights in ("ternary", "binary"):
        for operator in ("conv2d", "dense"):
            assert set(rows[weights, weights]["kernels"][operator].values()) == {"tuned"}
    assert rows["ttq", "ternary"]["needs_training"]
    shown = thumbnet("ops", "--schemes").stdout
    assert "vsq16" in shown and "tuned on DSP" in shown


@pytest.mark.sweep
@pytest.mark.parametrize(("weights", "scheme"), schemes.FORMATS)
def test_a_whole_model_in_every_format(
    weights: str, scheme: str | None, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUMBNET_DATA", str(data_dir))
    kws = next(task for task in TASKS if task.name == "kws")
    found = schemes.measure(kws, weights, scheme, samples=2)
    print(schemes.row(schemes.summary(found, weights, scheme)))
    assert found["mismatched_bytes"] == found["host"]["mismatched_bytes"] == 0
    assert found["accuracy"]["device"] >= LEAST.get((weights, scheme), 0)
    if (weights, scheme) == ("int4", "uniform"):
        plain = schemes.measure(kws, "int8", None, samples=2)
        assert found["cycles"] <= 1.05 * plain["cycles"]


def test_rounding_is_chosen_by_option_or_recipe(tmp_path: Path) -> None:
    build = ("generate", DIGITS, "--data", DATA, "--weights", "int4", "-o")
    usual = result(*build, tmp_path / "usual")
    nearest = ("--rounding", "nearest", "--clip", "minmax", "--bias-correction", "off")
    given = result(*build, tmp_path / "given", *nearest)
    assert given["files"] != usual["files"]
    recipe = (tmp_path / "given" / "recipe.toml").read_text()
    assert 'rounding = "nearest"\nclip = "minmax"\nbias_correction = "off"\n' in recipe
    own = ("--data", DATA, "--recipe", tmp_path / "given" / "recipe.toml")
    again = result("generate", DIGITS, *own, "-o", tmp_path / "again")
    assert again["files"] == given["files"]
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('clip = "most"\n')
    said = failure(2, "generate", DIGITS, "--data", DATA, "--recipe", wrong, "-o", tmp_path / "no")
    assert "clip 'most'" in said and "minmax" in said


def test_int8_weights_are_rounded_otherwise_only_if_asked(tmp_path: Path) -> None:
    build = ("generate", DIGITS, "--data", DATA, "-o")
    usual = result(*build, tmp_path / "usual")
    same = result(*build, tmp_path / "same", "--rounding", "nearest", "--clip", "minmax")
    other = result(*build, tmp_path / "other", "--rounding", "gptq")
    assert same["files"] == usual["files"] != other["files"]
    assert usual["weights"] == other["weights"] == "int8"


def test_chains_run_layers_with_stored_weights(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    options = ("--data", DATA, "--weights", "int4", "--optimize", "sram")
    found = result("generate", DIGITS, "-o", folder, *options)
    members = [member for layer in found["layers"] for member in layer["members"]]
    assert any(member["weights"] == "int4" for member in members)
    checked = result("emulate", folder, "--data", DATA, "--max-samples", 2)
    assert checked["mismatched_bytes"] == checked["host"]["mismatched_bytes"] == 0


def test_schemes_are_listed_as_markdown() -> None:
    shown = thumbnet("ops", "--schemes", "--format", "md").stdout
    assert (
        shown.startswith("| scheme | weights |") and "| vsq16 | int4 | int8 | tuned on DSP" in shown
    )


# Most weight bytes as a share of int8's, least accuracy. Depthwise layers and small ends stay int8.
HELD = {"kws": (0.60, 0.905), "vww": (0.60, 0.82), "ad": (0.51, 0.86)}


@pytest.mark.sweep
@pytest.mark.parametrize("name", HELD)
def test_int4_is_as_fast_as_int8_and_smaller(
    name: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUMBNET_DATA", str(data_dir))
    task = next(task for task in TASKS if task.name == name)
    plain, few = (few_bits.measure(task, weights) for weights in ("int8", "int4"))
    share, accuracy = HELD[name]
    assert few["cycles"] <= 1.05 * plain["cycles"]
    assert few["weight_bytes"] <= share * plain["weight_bytes"]
    assert few["device"] >= accuracy
    assert plain["mismatched_bytes"] == few["mismatched_bytes"] == 0


@pytest.mark.sweep
def test_where_int8_has_winograd_int4_is_held_against_direct_kernels(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUMBNET_DATA", str(data_dir))
    task = next(task for task in TASKS if task.name == "ic")
    plain, few = (few_bits.measure(task, weights) for weights in ("int8", "int4"))
    direct = few_bits.without_winograd(task, plain)
    assert direct is not None
    named = {v["name"]: v for v in plain["layers"] if v["kernel"].startswith("conv2d.winograd")}
    assert all(v["kernel"] == "conv2d.gemm" for v in direct["layers"] if v["name"] in named)
    assert plain["cycles"] < few["cycles"] <= direct["cycles"]
    cycles = {v["name"]: v["cycles"] for v in direct["layers"]}
    assert all(v["cycles"] <= cycles[v["name"]] for v in few["layers"] if v["name"] in named)
    assert few["weight_bytes"] <= 0.60 * direct["weight_bytes"]
    assert direct["mismatched_bytes"] == few["mismatched_bytes"] == 0


@pytest.mark.parametrize("target", ["generic-m4", "generic-m0plus"])
def test_every_byte_with_weights_and_activations_of_four_bits(target: str, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    four = ("--target", target, "--weights", "int4", "--activations", "int4")
    result("generate", DIGITS, "-o", folder, "--data", DATA, *four)
    assert tomllib.loads((folder / "recipe.toml").read_text())["activations"] == "int4"
    checked = result("emulate", folder, "--data", DATA, "--max-samples", 2)
    assert checked["mismatched_bytes"] == checked["host"]["mismatched_bytes"] == 0
    graph = graph_file.load(folder / project.REFERENCE)
    generator = np.random.default_rng(0)
    inputs = tuple(
        generator.integers(-128, 128, (20, *graph.tensors[p.tensor].shape[1:])).astype(np.int8)
        for p in graph.inputs
    )
    seen: dict[str, set[int]] = {}

    def watch(name: str, values: NDArray[np.int8]) -> None:
        seen.setdefault(name, set()).update(values.ravel().tolist())

    reference.run(graph, inputs, watch)
    ends = {port.tensor for port in graph.outputs}
    narrow = [n.output for n in graph.nodes if n.op.kind == "conv2d" and n.output not in ends]
    assert narrow and all(len(seen[name]) <= 16 for name in narrow)


@pytest.mark.sweep
def test_w4a4_of_kws(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both in 4 bits, one value in a byte; weights rounded to the second order, not trained."""
    monkeypatch.setenv("THUMBNET_DATA", str(data_dir))
    (task,) = (task for task in TASKS if task.name == "kws")
    found = few_bits.measure(task, "int4", activations="int4")
    assert found["mismatched_bytes"] == 0
    assert found["device"] >= 0.84


def test_every_choice_of_rounding_is_taken_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    chosen = ("--granularity", "tensor", "--scales", "pow2", "--activation-grid", "symmetric")
    more = ("--rounding", "adaround", "--weights", "int4", "--equalize")
    found = result("run", DIGITS, "--data", DATA, *chosen, *more, "-o", folder, "--max-samples", 2)
    assert found["mismatched_bytes"] == found["host"]["mismatched_bytes"] == 0
    assert found["accuracy"]["device"] > 0.95
    recipe = tomllib.loads((folder / "recipe.toml").read_text())
    wanted: dict[str, object] = {
        "granularity": "tensor",
        "scales": "pow2",
        "activation_grid": "symmetric",
    }
    wanted |= {"rounding": "adaround", "equalize": True}
    assert {key: recipe[key] for key in wanted} == wanted
    graph = graph_file.load(folder / "reference.npz")
    for node in graph.nodes:
        if node.op.kind in ("conv2d", "dense"):
            scales = np.array(graph.tensors[node.inputs[1]].grid.scales)
            assert len(set(scales)) == 1 and np.log2(scales[0]) % 1 == 0
            assert graph.tensors[node.output].grid.zero_point == 0
    again = ("--data", DATA, "--recipe", folder / "recipe.toml", "-o", tmp_path / "again")
    assert result("generate", DIGITS, *again)["files"] == found["files"]
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("equalize = 'yes'\n")
    said = failure(2, "generate", DIGITS, "--recipe", wrong, *again[:2], *again[4:])
    assert "known: true, false" in said
