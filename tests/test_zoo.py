"""Networks as users build them, from ONNX to the emulated core: every byte, and close to onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from thumbnet import workflow
from thumbnet.options import CompileOptions, RunOptions

OPSET = 17
LEAST_SQNR_DB = 22.0


class Net:
    """An ONNX graph under construction, with random weights."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: object) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def random(self, *shape: int) -> str:
        fan = max(int(np.prod(shape[1:])), 1)
        values = self.generator.normal(0, (2 / fan) ** 0.5, shape)
        return self.constant(values.astype(np.float32))

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"/{op}_{name}", **attributes))
        return name

    def conv(self, x: str, inputs: int, outputs: int, size: int = 3, **attributes: Any) -> str:
        groups = attributes.get("group", 1)
        weights = self.random(outputs, inputs // groups, size, size)
        bias = self.constant(self.generator.normal(0, 0.1, outputs).astype(np.float32))
        return self.node("Conv", x, weights, bias, **attributes)


def classifier(net: Net, x: str, channels: int, classes: int = 5) -> str:
    pooled = net.node("GlobalAveragePool", x)
    flat = net.node("Flatten", pooled)
    return net.node("Gemm", flat, net.random(classes, channels), transB=1)


def squeeze_excite(net: Net) -> str:
    x = net.node("HardSwish", net.conv("x", 3, 8, pads=[1, 1, 1, 1], strides=[2, 2]))
    gate = net.node("GlobalAveragePool", x)
    gate = net.node("Relu", net.conv(gate, 8, 4, 1))
    gate = net.node("HardSigmoid", net.conv(gate, 4, 8, 1))
    x = net.node("Mul", x, gate)
    return classifier(net, net.conv(x, 8, 12, pads=[1, 1, 1, 1]), 12)


def inverted_residual(net: Net) -> str:
    six = (net.constant(np.float32(0)), net.constant(np.float32(6)))
    x = net.conv("x", 3, 8, pads=[0, 0, 1, 1], strides=[2, 2])
    y = net.node("Clip", net.conv(x, 8, 24, 1), *six)
    y = net.node("Clip", net.conv(y, 24, 24, pads=[1, 1, 1, 1], group=24), *six)
    x = net.node("Add", x, net.conv(y, 24, 8, 1))
    return net.node("Softmax", classifier(net, x, 8), axis=-1)


def encoder_decoder(net: Net) -> str:
    a = net.node("Relu", net.conv("x", 3, 6, pads=[1, 1, 1, 1]))
    b = net.node("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2])
    b = net.node("LeakyRelu", net.conv(b, 6, 10, pads=[1, 1, 1, 1]), alpha=0.1)
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    up = net.node("Resize", b, "", scales, mode="nearest")
    joined = net.node("Concat", up, a, axis=1)
    return net.node("Sigmoid", net.conv(joined, 16, 2, pads=[1, 1, 1, 1]))


def shuffled(net: Net) -> str:
    x = net.node("Relu", net.conv("x", 3, 8, pads=[1, 1, 1, 1]))
    sizes = net.constant(np.array([4, 4], np.int64))
    net.nodes.append(helper.make_node("Split", [x, sizes], ["left", "right"], axis=1, name="split"))
    right = net.conv("right", 4, 4, pads=[1, 1, 1, 1], group=2)
    x = net.node("Concat", right, "left", axis=1)
    pads = net.constant(np.array([0, 0, 1, 0, 0, 0, 0, 1], np.int64))
    x = net.node("Pad", x, pads)
    x = net.node(
        "AveragePool", net.conv(x, 8, 6, 2), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]
    )
    x = net.node("Sub", x, net.node("Tanh", x))
    return classifier(net, x, 6)


def tokens(net: Net) -> str:
    """Patches as rows: Reshape, Transpose, MatMul, Softmax over features, ReduceMean."""
    x = net.conv("x", 3, 8, 4, strides=[4, 4])
    x = net.node("Reshape", x, net.constant(np.array([1, 8, 16], np.int64)))
    x = net.node("Transpose", x, perm=[0, 2, 1])
    y = net.node("MatMul", x, net.random(8, 12))
    y = net.node("Add", y, net.constant(net.generator.normal(0, 0.1, 12).astype(np.float32)))
    y = net.node("Elu", y)
    x = net.node("Add", x, net.node("MatMul", y, net.random(12, 8)))
    x = net.node("ReduceMean", x, axes=[1], keepdims=0)
    return net.node("Gemm", x, net.random(4, 8), transB=1)


def batch_norm_first(net: Net) -> str:
    numbers = net.generator.uniform(0.5, 1.5, (4, 3)).astype(np.float32)
    x = net.node("BatchNormalization", "x", *(net.constant(row) for row in numbers))
    x = net.node("Relu", net.conv(x, 3, 8, pads=[2, 2, 2, 2], dilations=[2, 2]))
    x = net.node(
        "BatchNormalization",
        x,
        *(net.random(8) for _ in range(3)),
        net.constant(np.ones(8, np.float32)),
    )
    return classifier(net, net.node("Mul", x, net.constant(np.float32(0.7))), 8)


NETWORKS: tuple[Callable[[Net], str], ...] = (
    squeeze_excite,
    inverted_residual,
    encoder_decoder,
    shuffled,
    tokens,
    batch_norm_first,
)


def written(build: Callable[[Net], str], path: Path) -> None:
    net = Net(11)
    output = build(net)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        net.nodes,
        "zoo",
        [info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [info(output, TensorProto.FLOAT, None)],
        net.constants,
    )
    opset = helper.make_opsetid("", OPSET)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


@pytest.mark.parametrize("target", ["generic-m0plus", "generic-m4"])
@pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)
def test_network(build: Callable[[Net], str], target: str, tmp_path: Path) -> None:
    model, samples = tmp_path / "zoo.onnx", tmp_path / "zoo.npz"
    written(build, model)
    generator = np.random.default_rng(5)
    x = generator.normal(0, 1, (96, 3, 16, 16)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(model))
    y = np.concatenate([session.run(None, {"x": sample[None]})[0] for sample in x])
    np.savez(samples, x=x[:32], calib_x=x[32:], y=y[:32], metric="mse")
    running = RunOptions(data=str(samples), max_samples=3)
    compiling = CompileOptions(target=target, data=str(samples))
    _, found = workflow.run(model, compiling, running)
    assert found["mismatched_bytes"] == found["host"]["mismatched_bytes"] == 0
    assert found["accuracy"]["float"] < 1e-6 * float(np.var(y))
    sqnr = 10 * np.log10(np.mean(y[:32] ** 2) / found["accuracy"]["device"])
    assert sqnr > LEAST_SQNR_DB
