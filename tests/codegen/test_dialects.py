"""Quantized models of every dialect against onnxruntime, and how their weights are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from codegen import execute, importer, pipeline, reference
from codegen.ir import Array, Graph
from codegen.lowering import qonnx
from codegen.ops.dense import Dense
from codegen.qdq import constant_value
from codegen.quant.compact import compact, storage
from codegen.quant.quantize import quantize
from targets.errors import UnsupportedModel
from tests.codegen import dialect_models as models
from tests.codegen.dialect_models import Weights
from tests.codegen.tiny_models import Net, node
from thumbnet import compiler, workflow
from thumbnet.options import CompileOptions, RunOptions

SAMPLES = 40
DIALECTS = Path(__file__).parent / "dialects"
Steps = npt.NDArray[np.int32]
STORED = {
    "int4": (Weights(TensorProto.INT4), "int4 uniform"),
    "int4 per tensor": (Weights(TensorProto.INT4, per_axis=False, zero=0), "int4 uniform"),
    "uint4 middle": (Weights(TensorProto.UINT4, zero=8), "int4 uniform"),
    "uint4 zero point": (Weights(TensorProto.UINT4, zero=5), "int4 zero-point"),
    "int4 zero point": (Weights(TensorProto.INT4, zero=-3), "int4 zero-point"),
    "int4 blocks": (Weights(TensorProto.INT4, block=4), "int8"),
    "int8": (Weights(TensorProto.INT8), "int8"),
}


def imported(model: onnx.ModelProto, folder: Path) -> Graph:
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return compact(quantize(pipeline.run(importer.load(path)), {}, imported=True))


def ours(graph: Graph, x: Array) -> Steps:
    (port,) = graph.inputs
    stored = reference.to_stored(graph, port, execute.to_device(port, x))
    (out,) = graph.outputs
    return execute.from_device(out, reference.run(graph, (stored,))[0]).astype(np.int32)


def theirs(graph: Graph, model: onnx.ModelProto, x: Array) -> Steps:
    """onnxruntime's results as steps of the output's grid."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    real = np.concatenate(
        [session.run(None, {session.get_inputs()[0].name: s[None]})[0] for s in x]
    )
    grid = graph.tensors[graph.outputs[0].tensor].grid
    limited: Steps = np.clip(np.rint(real / grid.scale) + grid.zero_point, -128, 127).astype(
        np.int32
    )
    return limited


def samples(shape: tuple[int, ...] = models.SHAPE) -> Array:
    generator = np.random.default_rng(5)
    return generator.normal(0, 1, (SAMPLES, *shape[1:])).astype(np.float32)


def stored_as(graph: Graph) -> set[str]:
    found = [graph.tensors[node.inputs[1]] for node in graph.nodes if len(node.inputs) == 3]
    return {
        "int8" if t.storage is None else f"{t.storage.weights} {t.storage.scheme}" for t in found
    }


@pytest.mark.parametrize("kind", [TensorProto.INT8, TensorProto.UINT8], ids=["s8", "u8"])
@pytest.mark.parametrize("name", STORED)
def test_qdq_weights(name: str, kind: int, tmp_path: Path) -> None:
    weights, wanted = STORED[name]
    model = models.network(weights, kind, 3 if kind == TensorProto.INT8 else 120)
    graph = imported(model, tmp_path)
    assert stored_as(graph) == {wanted}
    x = samples()
    mine, their = ours(graph, x), theirs(graph, model, x)
    assert len(np.unique(their)) > 50
    assert np.abs(mine - their).max() <= 1
    assert (mine == their).mean() >= (0.8 if weights.block else 0.995)


@pytest.mark.parametrize(
    ("kind", "zero", "wanted"),
    [(TensorProto.INT2, None, {-2, -1, 0, 1}), (TensorProto.UINT2, 1, {-1, 0, 1, 2})],
)
def test_two_bits(kind: int, zero: int | None, wanted: set[int], tmp_path: Path) -> None:
    """onnxruntime has no kernels for them: the same numbers in int8 must give the same bytes."""
    model = models.network(Weights(kind, zero=zero))
    graph = imported(model, tmp_path)
    assert stored_as(graph) == {"int2 uniform" if zero is None else "int4 uniform"}
    weights = graph.tensors[graph.nodes[0].inputs[1]]
    assert set(weights.values.reshape(-1).tolist()) == wanted
    for tensor in model.graph.initializer:
        if tensor.data_type == kind:
            values = numpy_helper.to_array(tensor).astype(np.int8)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    assert np.array_equal(ours(graph, samples()), ours(imported(model, tmp_path), samples()))
    assert np.abs(ours(graph, samples()) - theirs(graph, model, samples())).max() <= 1


@pytest.mark.parametrize("block", [16, 32])
def test_blocks_that_share_a_step_are_exact(block: int, tmp_path: Path) -> None:
    """Scales that are small multiples of a channel's one stay blocks, of 4 bits and a factor."""
    model = models.dense(Weights(TensorProto.INT4, block=block, multiples=True))
    graph = imported(model, tmp_path)
    assert stored_as(graph) == {"int4 vsq16" if block == 16 else "int4 group32"}
    x = samples((1, 96))
    mine, their = ours(graph, x), theirs(graph, model, x)
    assert np.abs(mine - their).max() <= 1
    assert (mine == their).mean() >= 0.995


def test_weights_too_far_from_their_zero_point_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="do not fit 8 bits"):
        imported(models.network(Weights(TensorProto.UINT8, zero=0)), tmp_path)


def test_blocks_that_do_not_fit_their_scales_are_refused(tmp_path: Path) -> None:
    model = models.dense(Weights(TensorProto.INT4, block=16))
    product = next(n for n in model.graph.node if n.name == "w")
    next(a for a in product.attribute if a.name == "block_size").i = 40
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedModel, match="for blocks"):
        importer.load(path)


def test_activations_of_4_bits_are_refused(tmp_path: Path) -> None:
    model = models.network(Weights(), TensorProto.INT4, zero=1)
    with pytest.raises(UnsupportedModel, match="int4 activations"):
        imported(model, tmp_path)


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(-1, 1, "ternary"), (-2, 1, "int2"), (-8, 7, "int4"), (-7, 7, "int4"), (0, 15, "int4")],
)
def test_storage_expands_to_the_integers(low: int, high: int, wanted: str) -> None:
    rows = np.random.default_rng(1).integers(low, high + 1, (5, 70))
    found = storage(rows)
    assert found is not None
    assert found.weights == wanted
    assert np.array_equal(found.expanded(), rows)


def test_wider_integers_stay_int8() -> None:
    assert storage(np.random.default_rng(1).integers(-127, 128, (5, 70))) is None


@pytest.mark.parametrize("name", ["w4", "ternary"])
def test_brevitas(name: str, tmp_path: Path) -> None:
    """QCDQ against onnxruntime; QONNX, which it does not run, against QCDQ: one network."""
    wanted = {"w4": {"int4 uniform"}, "ternary": {"ternary ternary"}}[name]
    qcdq = onnx.load(DIALECTS / f"brevitas_qcdq_{name}.onnx")
    quant = onnx.load(DIALECTS / f"brevitas_qonnx_{name}.onnx")
    graphs = [imported(model, tmp_path) for model in (qcdq, quant)]
    assert [stored_as(graph) for graph in graphs] == [wanted, wanted]
    x = samples((1, 3, 4, 4))
    mine, same, their = ours(graphs[0], x), ours(graphs[1], x), theirs(graphs[0], qcdq, x)
    assert len(np.unique(their)) > 20
    assert np.abs(mine - their).max() <= 1
    assert np.array_equal(mine, same)


ROUNDED = {
    "ROUND": [-2, -2, 0, 0, 2, 2],
    "CEIL": [-2, -1, 0, 1, 2, 3],
    "FLOOR": [-3, -2, -1, 0, 1, 2],
    "UP": [-3, -2, -1, 1, 2, 3],
    "DOWN": [-2, -1, 0, 0, 1, 2],
    "HALF_UP": [-3, -2, -1, 1, 2, 3],
    "HALF_DOWN": [-2, -1, 0, 0, 1, 2],
}


@pytest.mark.parametrize("mode", ROUNDED)
def test_qonnx_rounding_of_weights(mode: str) -> None:
    halves = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert qonnx.ROUNDINGS[mode](halves).tolist() == ROUNDED[mode]


@pytest.mark.parametrize("mode", ROUNDED)
@pytest.mark.parametrize(("bits", "signed", "narrow"), [(4, 1, 1), (3, 1, 0), (2, 1, 1), (4, 0, 1)])
def test_qonnx_weights(mode: str, bits: int, signed: int, narrow: int, tmp_path: Path) -> None:
    """The weights that its own package computes."""
    theirs = pytest.importorskip("qonnx.custom_op.general.quant")
    weights = np.random.default_rng(1).normal(0, 1, (6, 8)).astype(np.float32)
    scale = np.linspace(0.1, 0.4, 8, dtype=np.float32)[None]
    grid = [scale, np.zeros(1, np.float32), np.array(bits, np.float32)]
    attributes = {"signed": signed, "narrow": narrow, "rounding_mode": mode}
    domain = qonnx.DOMAINS[0]
    quant = node("Quant", "w s z b", "q", domain=domain, **attributes)
    constants = dict(zip("wszb", [weights, *grid], strict=True))
    net = Net([quant, node("MatMul", "x q")], [(1, 6)], constants, domains=(domain,))
    graph = pipeline.run(importer.load(net.save(tmp_path)))
    wanted = theirs.quant(weights, *grid, signed, narrow, mode)
    mine = constant_value(graph.tensors[graph.nodes[-1].inputs[1]]).astype(np.float64)
    np.testing.assert_allclose(mine.T, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("bits", "signed", "narrow", "wanted"),
    [
        (4, 1, 1, (-7, 7)),
        (4, 1, 0, (-8, 7)),
        (2, 1, 1, (-1, 1)),
        (8, 0, 0, (0, 255)),
        (4, 0, 1, (0, 14)),
    ],
)
def test_qonnx_limits(bits: int, signed: int, narrow: int, wanted: tuple[int, int]) -> None:
    assert qonnx.limits(bits, bool(signed), bool(narrow)) == wanted


@pytest.mark.parametrize("op", ["Trunc", "FloatQuant"])
def test_refused_qonnx(op: str, tmp_path: Path) -> None:
    model = onnx.load(DIALECTS / "brevitas_qonnx_w4.onnx")
    next(n for n in model.graph.node if n.op_type == "Quant").op_type = op
    with pytest.raises(UnsupportedModel, match="not supported"):
        imported(model, tmp_path)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("block", [16, 64])
def test_matmul_nbits(block: int, symmetric: bool, tmp_path: Path) -> None:
    """What onnxruntime packs: the same real numbers."""
    generator = np.random.default_rng(2)
    k, n = 96, 10
    blocks = -(-k // block)
    packed = generator.integers(0, 256, (n, blocks, block // 2)).astype(np.uint8)
    constants: dict[str, Array] = {
        "w": packed,
        "s": generator.uniform(0.01, 0.02, (n * blocks)).astype(np.float32),
    }
    operands = "x w s"
    if not symmetric:
        constants["z"] = generator.integers(0, 256, (n * -(-blocks // 2))).astype(np.uint8)
        operands += " z"
    attributes: dict[str, Any] = {
        "K": k,
        "N": n,
        "bits": 4,
        "block_size": block,
        "domain": "com.microsoft",
    }
    made = node("MatMulNBits", operands, **attributes)
    net = Net([made], [(1, k)], constants, domains=("com.microsoft",), opset=21)
    graph = pipeline.run(importer.load(net.save(tmp_path)))
    x = samples((1, k))[:1]
    session = onnxruntime.InferenceSession(net.model().SerializeToString())
    (wanted,) = session.run(None, {"x": x})
    (mine,) = execute.run_float(graph, (x,))
    np.testing.assert_allclose(mine.astype(np.float64), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["brevitas_qcdq_w4", "brevitas_qonnx_ternary"])
def test_the_firmware_follows(name: str, tmp_path: Path) -> None:
    """Every byte, on an emulated core; a recipe that was written can be read again."""
    model, recipe = DIALECTS / f"{name}.onnx", tmp_path / "recipe.toml"
    running = RunOptions(max_samples=3)
    _, found = workflow.run(model, CompileOptions(target="generic-m4"), running)
    assert found["mismatched_bytes"] == 0
    assert {layer["weights_bits"] for layer in found["layers"]} == {4 if "w4" in name else 2}
    first = compiler.compile_model(model, CompileOptions())
    recipe.write_bytes(first.files["recipe.toml"])
    assert "weights" in recipe.read_text()
    again = compiler.compile_model(model, CompileOptions(recipe=recipe))
    assert again.files["recipe.toml"] == first.files["recipe.toml"]


def relu_between(m: models.Maker, form: str) -> str:
    """What PyTorch and TensorFlow exporters write: float weights that are quantized in the graph."""
    x = m.activation("x", "in", 0.02, 120, models.UINT8)
    w = m.real("w", m.generator.normal(0, 0.2, (models.CHANNELS, models.SHAPE[1], 3, 3)))
    grid = [m.real("ws", m.generator.uniform(0.002, 0.006, models.CHANNELS))]
    grid.append(m.tensor("wz", models.INT8, np.zeros(models.CHANNELS)))
    w = m.node("QuantizeLinear", [w, *grid], "wq", axis=0)
    w = m.node("DequantizeLinear", [w, *grid], "wd", axis=0)
    if form == "hwio":  # as tf2onnx leaves it: a transposition that nobody folded
        stored = m.generator.integers(-127, 128, (3, 3, models.SHAPE[1], models.CHANNELS))
        w = m.node("DequantizeLinear", [m.tensor("h", models.INT8, stored), *grid], "hd", axis=3)
        w = m.node("Transpose", [w], "ht", perm=[3, 2, 0, 1])
    if form == "nhwc":
        x = m.node("Transpose", [x], "to", perm=[0, 2, 3, 1])
        x = m.node(
            "Transpose",
            [m.activation(x, "mid", 0.02, 120, models.UINT8)],
            "from",
            perm=[0, 3, 1, 2],
        )
    bias = m.real("b", m.generator.uniform(-0.5, 0.5, models.CHANNELS))
    y = m.node("Conv", [x, w, bias], "conv", pads=[1, 1, 1, 1])
    if form == "relu6":
        y = m.node("Clip", [y, m.real("lo", np.array(0)), m.real("hi", np.array(2))], "clip")
    elif form == "twice":  # a rounding before the activation, and one after it
        y = m.activation(
            m.node("Relu", [m.activation(y, "pre", 0.03, 110, models.UINT8)], "relu"),
            "post",
            0.03,
            110,
            models.UINT8,
        )
    else:
        y = m.node("Relu", [y], "relu")
    return m.activation(
        y, "out", 0.015 if form != "twice" else 0.03, 0 if form != "twice" else 110, models.UINT8
    )


@pytest.mark.parametrize("form", ["plain", "relu6", "twice", "hwio", "nhwc"])
def test_forms_of_pytorch_and_tensorflow(form: str, tmp_path: Path) -> None:
    m = models.Maker(np.random.default_rng(6))
    model = m.model(relu_between(m, form))
    graph = imported(model, tmp_path)
    assert [node.op.kind for node in graph.nodes] == ["conv2d"]
    x = samples()
    mine, their = ours(graph, x), theirs(graph, model, x)
    assert len(np.unique(their)) > 50
    assert np.abs(mine - their).max() <= 1
    assert (mine == their).mean() >= 0.995


def test_grids_of_weights_alone_say_nothing_about_rounding(tmp_path: Path) -> None:
    constants: dict[str, Array] = {
        "w": np.random.default_rng(1).integers(-8, 8, (6, 10)).astype(np.int8),
        "s": np.full(10, 0.1, np.float32),
    }
    nodes = [node("DequantizeLinear", "w s", "d", axis=1), node("MatMul", "x d")]
    path = Net(nodes, [(1, 6)], constants).save(tmp_path)
    prepared = compiler.prepare(path, CompileOptions(calib="random"))
    (product,) = prepared.quantized.nodes
    assert isinstance(product.op, Dense)
    assert product.op.rounding == "half_up"
    assert stored_as(prepared.quantized) == {"int4 uniform"}
