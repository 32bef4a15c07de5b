"""Which layers lose much and why: from calibration data, and from facts about weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codegen.ir import Graph
from codegen.ops.conv2d import Conv2D
from tests.thumbnet.test_cli import DATA, DIGITS, result, thumbnet
from thumbnet import analysis, compiler, diagnosis
from thumbnet.options import CompileOptions


@pytest.fixture(scope="module")
def prepared() -> compiler.Prepared:
    return compiler.prepare(DIGITS, CompileOptions(data=str(DATA)))


def depthwise(graph: Graph) -> str:
    return next(n for n in graph.nodes if isinstance(n.op, Conv2D) and n.op.groups > 1).output


def changed(graph: Graph, output: str, factors: np.ndarray) -> Graph:
    """The graph with a layer's output channels scaled."""
    node = graph.producer(output)
    assert node is not None
    w = graph.tensors[node.inputs[1]]
    scaled = w.values * factors.reshape(-1, *[1] * (len(w.shape) - 1))
    return graph.with_tensors(replace(w, data=scaled.astype(np.float32)))


def layers_of(graph: Graph) -> list[dict[str, str]]:
    return [{"name": node.label, "output": node.output} for node in graph.nodes]


def test_a_depthwise_layer_with_wide_channels_is_warned_of(prepared: compiler.Prepared) -> None:
    graph = prepared.float_graph
    output = depthwise(graph)
    usual = diagnosis.weak_layers(graph, layers_of(graph))
    assert not any("depthwise" in one["text"] for one in usual)
    node = graph.producer(output)
    assert node is not None
    channels = graph.tensors[node.inputs[1]].shape[0]
    wide = changed(graph, output, np.where(np.arange(channels) == 0, 100.0, 1.0))
    found = [
        one for one in diagnosis.weak_layers(wide, layers_of(wide)) if "depthwise" in one["text"]
    ]
    assert [one["layer"] for one in found] == [node.label]
    facts, before = diagnosis.weights(wide)[output], diagnosis.weights(graph)[output]
    assert facts["channel_range"] > 30 > before["channel_range"]
    dead = changed(graph, output, np.where(np.arange(channels) == 0, 0.0, 1.0))
    assert diagnosis.weights(dead)[output]["channel_range"] <= before["channel_range"]


def test_each_bit_of_weights_is_worth_six_decibels(prepared: compiler.Prepared) -> None:
    for facts in diagnosis.weights(prepared.float_graph).values():
        assert facts["sqnr_int8_db"] - facts["sqnr_int4_db"] == pytest.approx(4 * 6.02, abs=3)
    shares = [facts["share"] for facts in diagnosis.weights(prepared.float_graph).values()]
    assert sum(shares) == pytest.approx(1)


def test_weights_with_long_tails_are_warned_of(prepared: compiler.Prepared) -> None:
    graph = prepared.float_graph
    output = list(diagnosis.weights(graph))[3]  # its rows are long
    node = graph.producer(output)
    assert node is not None
    w = graph.tensors[node.inputs[1]]
    tails = np.random.default_rng(0).normal(size=w.shape) ** 3
    heavy = graph.with_tensors(replace(w, data=tails.astype(np.float32)))
    found = [
        one for one in diagnosis.weak_layers(heavy, layers_of(graph)) if "4-bit" in one["text"]
    ]
    assert node.label in {one["layer"] for one in found}
    assert diagnosis.weights(heavy)[output]["sqnr_int4_db"] < diagnosis.WEAK_DB
    usual = {one["layer"] for one in diagnosis.weak_layers(graph, layers_of(graph))}
    assert node.label not in usual


def test_the_first_layer_below_the_threshold_is_named(prepared: compiler.Prepared) -> None:
    errors = analysis.errors_on(prepared.quantized, prepared.float_graph, prepared.samples)
    layers = layers_of(prepared.quantized)
    assert diagnosis.first_below(layers, errors, 0.0) is None
    worst = min(e["sqnr_db"] for e in errors.values() if e["sqnr_db"] is not None)
    found = diagnosis.first_below(layers, errors, worst + 0.5)
    assert found is not None
    before = [layer["name"] for layer in layers].index(found["layer"])
    for layer in layers[:before]:
        noise = errors[layer["output"]]["sqnr_db"]
        assert noise is None or noise >= worst + 0.5


def test_inspect_shows_errors_with_calibration_data() -> None:
    plain = result("inspect", DIGITS)
    assert plain["diverges_at"] is None and "sqnr_db" not in plain["layers"][0]
    assert all(set(one) == {"layer", "text"} for one in plain["warnings"])
    found = result("inspect", DIGITS, "--calib", DATA)
    assert all(15 < layer["sqnr_db"] < 60 for layer in found["layers"])
    assert "SQNR" in thumbnet("inspect", DIGITS, "--calib", DATA).stdout


def test_explain_shows_what_a_layer_loses(tmp_path: Path) -> None:
    options = ("--data", DATA, "--explain", "/mix/conv/Conv", "-o", tmp_path / "digits")
    eight = result("generate", DIGITS, *options)
    (layer,) = (one for one in eight["layers"] if "error" in one)
    assert layer["name"] == "/mix/conv/Conv" and eight["diverges_at"] is None
    four = result("generate", DIGITS, *options, "--weights", "int4", "--rounding", "nearest")
    (worse,) = (one for one in four["layers"] if "error" in one)
    assert worse["error"]["sqnr_db"] < layer["error"]["sqnr_db"] - 3
    assert four["diverges_at"]["sqnr_db"] < four["diverges_at"]["threshold_db"] == 20
    text = thumbnet(
        "generate", DIGITS, *options, "--weights", "int4", "--rounding", "nearest"
    ).stdout
    assert "signal to quantization noise" in text and "first layer below 20 dB" in text
    random = result("generate", DIGITS, "--calib", "random", *options[2:])
    assert not any("error" in one for one in random["layers"])
