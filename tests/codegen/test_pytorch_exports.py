"""What PyTorch really writes, exported while the tests run, against onnxruntime."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from codegen import execute, reference
from codegen.ir import Array
from tests.codegen.test_dialects import imported, ours, theirs
from thumbnet import compiler
from thumbnet.options import CompileOptions

NEEDED = ("torch", "torchao", "onnxscript")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (real PyTorch exports)"
)
SAMPLES = 200


@pytest.fixture(scope="module")
def makers() -> Any:
    """The module that exports; importing it imports PyTorch."""
    from tests.codegen import pytorch_exports

    return pytorch_exports


def normal(shape: tuple[int, ...]) -> Array:
    generator = np.random.default_rng(5)
    return generator.normal(0, 1, (SAMPLES, *shape[1:])).astype(np.float32)


def session(model: onnx.ModelProto, path: Path | None = None) -> onnxruntime.InferenceSession:
    """As onnxruntime runs it; the graph that it makes of it goes to `path`."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    if path is not None:
        options.optimized_model_filepath = str(path)
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def test_pt2e_is_exact_where_onnxruntime_computes_with_integers(
    makers: Any, tmp_path: Path
) -> None:
    model = makers.pt2e("xnnpack", False, tmp_path / "net.onnx")
    session(model, tmp_path / "optimized.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 3
    assert not {"Conv", "Gemm", "MatMul", "Add"} & set(kinds)
    x = normal(makers.SHAPE)
    graph = imported(model, tmp_path)
    mine, their = ours(graph, x), theirs(graph, model, x)
    assert len(np.unique(their)) > 50
    assert np.array_equal(mine, their)


def test_pt2e_with_a_mean_in_float_is_within_a_step(makers: Any, tmp_path: Path) -> None:
    """onnxruntime has no integer kernel for ReduceMean between Q and DQ."""
    model = makers.pt2e("xnnpack", True, tmp_path / "net.onnx")
    graph, x = imported(model, tmp_path), normal(makers.SHAPE)
    mine, their = ours(graph, x), theirs(graph, model, x)
    assert len(np.unique(their)) > 50
    assert np.abs(mine - their).max() <= 1
    assert (mine == their).mean() >= 0.97


def test_pt2e_that_leaves_sums_in_float_is_calibrated_there(makers: Any, tmp_path: Path) -> None:
    """The quantizer for x86 gives a residual sum and the outputs no grid."""
    path, calib = tmp_path / "net.onnx", tmp_path / "calib.npz"
    model = makers.pt2e("x86", True, path)
    x = normal(makers.SHAPE)
    np.savez(calib, x=x[:100])
    graph = compiler.prepare(path, CompileOptions(calib=str(calib))).quantized
    wanted = np.concatenate([session(model).run(None, {"x": one[None]})[0] for one in x])
    (port,) = graph.inputs
    found = reference.run(graph, (reference.to_stored(graph, port, execute.to_device(port, x)),))[0]
    real = reference.to_real(graph, graph.outputs[0], found)
    noise = np.square(real - wanted).sum() / np.square(wanted - wanted.mean(axis=0)).sum()
    assert noise < 0.01
    assert (real.argmax(axis=1) == wanted.argmax(axis=1)).mean() >= 0.95


@pytest.mark.parametrize("group", [None, 32])
def test_weights_of_torchao_keep_their_values(
    makers: Any, group: int | None, tmp_path: Path
) -> None:
    """The exporter folds them into float32: the network is one of float32, and quantized like any."""
    path = tmp_path / "net.onnx"
    model = makers.weight_only(group, path)
    x = normal((1, makers.FEATURES))
    prepared = compiler.prepare(path, CompileOptions(calib="random", weights="int4", force=True))
    (name,) = (i.name for i in model.graph.input)
    wanted = np.concatenate([session(model).run(None, {name: one[None]})[0] for one in x])
    (float_out,) = execute.run_float(prepared.float_graph, (x,))
    np.testing.assert_allclose(float_out.astype(np.float64), wanted, rtol=1e-4, atol=1e-5)
