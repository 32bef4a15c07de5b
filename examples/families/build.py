"""Small networks of kinds that sensors need, built from random weights: no training, no downloads.

    python examples/families/build.py OUT

writes an ONNX model and calibration data for each: `lstm` and `gru` (classifiers of sequences), `tcn`
(causal convolutions; try `--per-frame`), `unet` (segmentation, with ConvTranspose), `mobile` (inverted
residuals with HardSwish and squeeze-and-excite, as MobileNetV3), `attention` (one head, two activations
multiplied).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

SAMPLES = 64
IR_VERSION, OPSET = 9, 17
Array = npt.NDArray[np.float32]


@dataclass
class Net:
    """A model under construction; weights come from a seeded generator, scaled by what they add up."""

    shape: tuple[int, ...]
    seed: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def constant(self, array: npt.ArrayLike, kind: Any = np.float32) -> str:
        """Adds a constant."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, kind), name))
        return name

    def weights(self, *shape: int, fan: int | None = None) -> str:
        """Adds random weights."""
        fan = fan or int(np.prod(shape[1:]))
        return self.constant(self.random.normal(0, (2 / fan) ** 0.5, shape))

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Adds a node and names its last output."""
        number = len(self.nodes)
        names = [""] * (outputs - 1) + [f"n{number}"]
        self.nodes.append(
            helper.make_node(op, inputs, names, f"{op.lower()}{number}", **attributes)
        )
        return names[-1]

    def conv(self, x: str, depth: int, filters: int, kernel: int, **attributes: Any) -> str:
        """Adds a convolution with a bias; it keeps the size unless it strides."""
        groups = attributes.get("group", 1)
        sizes = (kernel, kernel) if len(self.shape) == 4 else (kernel,)
        attributes.setdefault("pads", [kernel // 2] * (2 * len(sizes)))
        w = self.weights(filters, depth // groups, *sizes)
        bias = self.constant(self.random.normal(0, 0.1, filters))
        return self.add("Conv", x, w, bias, **attributes)

    def finish(self, y: str) -> onnx.ModelProto:
        """The model whose output is `y`."""
        inputs = [helper.make_tensor_value_info("x", 1, self.shape)]
        self.nodes.append(helper.make_node("Identity", [y], ["y"], "end"))
        outputs = [helper.make_tensor_value_info("y", 1, None)]
        graph = helper.make_graph(self.nodes, "family", inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def recurrent(kind: str) -> onnx.ModelProto:
    """A recurrent layer over 16 steps of 6 values, and a classifier on its last state."""
    steps, width, hidden, gates = 16, 6, 12, {"LSTM": 4, "GRU": 3}[kind]
    net = Net((1, steps, width), 1)
    x = net.add("Transpose", "x", perm=[1, 0, 2])
    w = net.weights(1, gates * hidden, width, fan=2 * width)
    r = net.weights(1, gates * hidden, hidden, fan=2 * hidden)
    bias = net.constant(net.random.normal(0, 0.2, (1, 2 * gates * hidden)))
    more = {"linear_before_reset": 1} if kind == "GRU" else {}
    state = net.add(kind, x, w, r, bias, outputs=2, hidden_size=hidden, **more)
    flat = net.add("Reshape", state, net.constant([1, hidden], np.int64))
    y = net.add("Gemm", flat, net.weights(4, hidden), net.constant(np.zeros(4)), transB=1)
    return net.finish(net.add("Softmax", y))


def tcn() -> onnx.ModelProto:
    """Causal convolutions over 32 frames of 4 values, with a residual."""
    net = Net((1, 4, 32), 2)
    x, depth = "x", 4
    for dilation in (1, 2, 4):
        y = net.conv(x, depth, 8, 3, dilations=[dilation], pads=[2 * dilation, 0])
        y = net.add("Relu", y)
        x, depth = (net.add("Add", x, y) if depth == 8 else y), 8
    return net.finish(net.conv(x, 8, 3, 1))


def unet() -> onnx.ModelProto:
    """Two scales down and up again, joined at each."""
    net = Net((1, 1, 16, 16), 3)
    fine = net.add("Relu", net.conv("x", 1, 6, 3))
    coarse = net.add("MaxPool", fine, kernel_shape=[2, 2], strides=[2, 2])
    coarse = net.add("Relu", net.conv(coarse, 6, 10, 3))
    up = net.add("ConvTranspose", coarse, net.weights(10, 6, 2, 2, fan=10), strides=[2, 2])
    y = net.add("Relu", net.conv(net.add("Concat", up, fine, axis=1), 12, 6, 3))
    return net.finish(net.add("Sigmoid", net.conv(y, 6, 2, 1)))


def mobile() -> onnx.ModelProto:
    """A stem, an inverted residual with squeeze-and-excite, and a classifier, all with HardSwish."""
    net = Net((1, 3, 16, 16), 4)
    stem = net.add("HardSwish", net.conv("x", 3, 8, 3, strides=[2, 2]))
    wide = net.add("HardSwish", net.conv(stem, 8, 24, 1))
    deep = net.add("HardSwish", net.conv(wide, 24, 24, 3, group=24))
    squeezed = net.add("Relu", net.conv(net.add("GlobalAveragePool", deep), 24, 8, 1))
    gate = net.add("HardSigmoid", net.conv(squeezed, 8, 24, 1), alpha=1 / 6)
    thin = net.conv(net.add("Mul", deep, gate), 24, 8, 1)
    y = net.add("GlobalAveragePool", net.add("Add", stem, thin))
    y = net.add("Flatten", y)
    return net.finish(net.add("Gemm", y, net.weights(5, 8), net.constant(np.zeros(5)), transB=1))


def attention() -> onnx.ModelProto:
    """One head of self-attention over 8 tokens of 12 values, with LayerNormalization and Gelu."""
    tokens, width = 8, 12
    net = Net((1, tokens, width), 5)
    ones, zeros = net.constant(np.ones(width)), net.constant(np.zeros(width))
    x = net.add("LayerNormalization", "x", ones, zeros)
    q, k, v = (net.add("MatMul", x, net.weights(width, width, fan=width)) for _ in range(3))
    scores = net.add("MatMul", q, net.add("Transpose", k, perm=[0, 2, 1]))
    scale = net.constant(width**-0.5)
    mixed = net.add("MatMul", net.add("Softmax", net.add("Mul", scores, scale)), v)
    x = net.add("LayerNormalization", net.add("Add", "x", mixed), ones, zeros)
    y = net.add("MatMul", x, net.weights(width, 2 * width, fan=width))
    half = net.constant(0.5**0.5)
    erf = net.add("Erf", net.add("Mul", y, half))
    y = net.add("Mul", net.add("Mul", y, net.add("Add", erf, net.constant(1.0))), net.constant(0.5))
    y = net.add("ReduceMean", y, axes=[1], keepdims=0)
    return net.finish(
        net.add("Gemm", y, net.weights(3, 2 * width), net.constant(np.zeros(3)), transB=1)
    )


FAMILIES: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "attention": attention,
    "gru": lambda: recurrent("GRU"),
    "lstm": lambda: recurrent("LSTM"),
    "mobile": mobile,
    "tcn": tcn,
    "unet": unet,
}


def write(name: str, folder: Path) -> tuple[Path, Path]:
    """The model and its data, `FOLDER/NAME.onnx` and `.npz`."""
    model = FAMILIES[name]()
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    samples = np.random.default_rng(0).standard_normal((SAMPLES, *shape[1:])).astype(np.float32)
    path, data = folder / f"{name}.onnx", folder / f"{name}.npz"
    onnx.save(model, path)
    np.savez(data, x=samples[: SAMPLES // 2], calib_x=samples[SAMPLES // 2 :])
    return path, data


def main() -> None:
    """Writes all of them."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    for name in FAMILIES:
        print(*write(name, folder))


if __name__ == "__main__":
    main()
