"""onnxruntime's operators on integers, one by one, against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from codegen import execute, importer, pipeline, reference
from codegen.ir import Array
from codegen.quant.quantize import quantize
from targets.errors import UnsupportedModel
from tests.codegen.tiny_models import Net, node

SAMPLES = 30
MICROSOFT = "com.microsoft"
G = np.random.default_rng(4)


def scale(value: float) -> Array:
    return np.asarray(value, np.float32)


def qlinear(op: str, operands: str, shape: tuple[int, ...], **attributes: Any) -> tuple[Any, ...]:
    """x quantized to a, an operator on it to q, and back."""
    domain = "" if op in ("QLinearConv", "QLinearMatMul") else MICROSOFT
    nodes = [
        node("QuantizeLinear", "x as az", "a"),
        node(op, operands, "q", domain=domain, **attributes),
        node("DequantizeLinear", "q ys yz"),
    ]
    return nodes, shape


IMAGE = (1, 4, 6, 6)
CASES: dict[str, tuple[Any, ...]] = {
    "conv": qlinear("QLinearConv", "a as az w ws wz ys yz b", IMAGE, pads=[1, 1, 1, 1]),
    "conv without bias": qlinear("QLinearConv", "a as az w ws wz ys yz", IMAGE),
    "matmul": qlinear("QLinearMatMul", "a as az m ms mz ys yz", (1, 16)),
    "gemm": qlinear("QGemm", "a as az m ms mz c ys yz", (1, 16)),
    "gemm transposed": qlinear("QGemm", "a as az t ms mz c ys yz", (1, 16), transB=1),
    "add": qlinear("QLinearAdd", "a as az a as az ys yz", IMAGE),
    "add constant": qlinear("QLinearAdd", "a as az k ks kz ys yz", IMAGE),
    "mul": qlinear("QLinearMul", "a as az k ks kz ys yz", IMAGE),
    "average": qlinear(
        "QLinearAveragePool", "a as az ys yz", IMAGE, kernel_shape=[2, 2], strides=[2, 2]
    ),
    "global average": qlinear("QLinearGlobalAveragePool", "a as az ys yz", IMAGE),
    "sigmoid": qlinear("QLinearSigmoid", "a as az ps pz", IMAGE),
    "leaky relu": qlinear("QLinearLeakyRelu", "a as az ys yz", IMAGE, alpha=0.1),
    "softmax": qlinear("QLinearSoftmax", "a as az ps pz", (1, 16), axis=-1, opset=13),
    "concat": qlinear("QLinearConcat", "ys yz a as az a as az", IMAGE, axis=1),
}
FLOAT_INSIDE = ("average", "mul", "softmax")
"""onnxruntime computes these in float: they differ by a step at a tie."""


def constants(kind: type[np.integer[Any]]) -> dict[str, Array]:
    """Grids and weights; softmax has a grid of probabilities."""
    middle = 128 if kind is np.uint8 else 0
    small = {"as": 0.02, "ys": 0.05, "ps": 1 / 256, "ks": 0.03}
    found: dict[str, Array] = {name: scale(value) for name, value in small.items()}
    found |= {name: np.asarray(middle + at, kind) for name, at in (("az", -20), ("yz", 12))}
    found |= {"pz": np.asarray(middle - 128, kind), "kz": np.asarray(middle + 3, kind)}
    found |= {
        "w": G.integers(-127, 128, (5, 4, 3, 3)).astype(np.int8),
        "ws": G.uniform(0.002, 0.01, 5).astype(np.float32),
        "wz": np.zeros(5, np.int8),
        "b": G.integers(-3000, 3000, 5).astype(np.int32),
        "m": G.integers(-127, 128, (16, 6)).astype(np.int8),
        "ms": scale(0.01),
        "mz": np.asarray(0, np.int8),
        "c": G.integers(-3000, 3000, 6).astype(np.int32),
        "k": (middle + G.integers(-128, 128, (1, 4, 1, 1))).astype(kind),
    }
    found["t"] = np.ascontiguousarray(found["m"].T)
    return found


def used(nodes: list[onnx.NodeProto], found: dict[str, Array]) -> dict[str, Array]:
    names = {name for n in nodes for name in n.input}
    return {name: array for name, array in found.items() if name in names}


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("name", CASES)
def test_same_bytes(name: str, kind: type[np.integer[Any]], tmp_path: Path) -> None:
    nodes, shape = CASES[name]
    if name in ("sigmoid", "softmax"):
        nodes = [*nodes[:2], node("DequantizeLinear", "q ps pz")]
    net = Net(nodes, [shape], used(nodes, constants(kind)), domains=(MICROSOFT,))
    path = net.save(tmp_path)
    graph = quantize(pipeline.run(importer.load(path)), {}, imported=True)
    x = G.normal(0, 1.2, (SAMPLES, *shape[1:])).astype(np.float32)
    session = onnxruntime.InferenceSession(path)
    real = np.concatenate([session.run(None, {"x": sample[None]})[0] for sample in x])
    (port,), (out,) = graph.inputs, graph.outputs
    stored = reference.to_stored(graph, port, execute.to_device(port, x))
    mine = execute.from_device(out, reference.run(graph, (stored,))[0]).astype(np.int32)
    grid = graph.tensors[out.tensor].grid
    theirs = np.rint(real / grid.scale) + grid.zero_point
    assert len(np.unique(theirs)) > 10
    assert np.abs(mine - theirs).max() <= (name in FLOAT_INSIDE)


@pytest.mark.parametrize("op", ["ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"])
def test_scales_at_run_time_are_refused(op: str, tmp_path: Path) -> None:
    outputs = "y s z" if op == "DynamicQuantizeLinear" else "y"
    operands = "x" if op == "DynamicQuantizeLinear" else "x m"
    weights = {} if operands == "x" else {"m": np.ones((4, 4), np.int8)}
    model = Net([node(op, operands, outputs)], [(1, 4)], weights).model()
    if op != "DynamicQuantizeLinear":
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedModel, match="computed at run time") as caught:
        importer.load(path)
    assert "statically" in caught.value.hint
