"""Small quantized models of every dialect, made with onnx.helper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from codegen.ir import Array

INT8, UINT8, INT32 = TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32
RANGES: dict[int, tuple[int, int]] = {
    TensorProto.INT8: (-127, 127),
    TensorProto.UINT8: (1, 255),
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT2: (-2, 1),
    TensorProto.UINT2: (0, 3),
}
Reals = npt.NDArray[np.float64]
SHAPE = (1, 8, 6, 6)
CHANNELS, CLASSES = 12, 10
OPSET = 25


@dataclass
class Maker:
    """Nodes and initializers of a model under construction."""

    generator: np.random.Generator

    def __post_init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def tensor(self, name: str, kind: int, array: Array) -> str:
        values = array.reshape(-1).tolist()
        self.initializers.append(helper.make_tensor(name, kind, array.shape, values))
        return name

    def real(self, name: str, array: Array) -> str:
        tensor = numpy_helper.from_array(np.asarray(array, np.float32), name)
        self.initializers.append(tensor)
        return name

    def activation(self, x: str, name: str, scale: float, zero: int, kind: int = INT8) -> str:
        """A QuantizeLinear and a DequantizeLinear."""
        grid = [self.real(f"{name}_s", np.array(scale)), f"{name}_z"]
        self.tensor(grid[1], kind, np.array(zero))
        self.node("QuantizeLinear", [x, *grid], f"{name}_q")
        return self.node("DequantizeLinear", [f"{name}_q", *grid], name)

    def model(self, output: str, shape: tuple[int, ...] = SHAPE) -> onnx.ModelProto:
        info = helper.make_tensor_value_info
        inputs = [info("x", TensorProto.FLOAT, shape)]
        outputs = [info(output, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, "net", inputs, outputs, self.initializers)
        imports = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=imports, ir_version=13)


@dataclass(frozen=True)
class Weights:
    """How weights lie in the file."""

    kind: int = INT8
    per_axis: bool = True
    block: int = 0
    zero: int | None = None
    multiples: bool = False  # whether block scales are small multiples of one number

    def add(self, m: Maker, name: str, shape: tuple[int, ...], channels: int, size: float) -> str:
        """Integers and their DequantizeLinear; channels is the axis of the outputs."""
        low, high = RANGES[self.kind]
        m.tensor(f"{name}_q", self.kind, m.generator.integers(low, high + 1, shape))
        scales = self._scales(m, shape, channels) * size / (high - low)
        operands = [f"{name}_q", m.real(f"{name}_s", scales)]
        if self.zero is not None:
            operands.append(m.tensor(f"{name}_z", self.kind, np.full(scales.shape, self.zero)))
        attributes: dict[str, int] = {}
        if self.block:
            attributes = {"axis": 1 - channels, "block_size": self.block}
        elif self.per_axis:
            attributes = {"axis": channels}
        return m.node("DequantizeLinear", operands, name, **attributes)

    def _scales(self, m: Maker, shape: tuple[int, ...], channels: int) -> Reals:
        if not self.block:
            count = (shape[channels],) if self.per_axis else ()
            return np.asarray(m.generator.uniform(0.5, 1.5, count))
        blocks = list(shape)
        blocks[1 - channels] = -(-blocks[1 - channels] // self.block)
        if not self.multiples:
            return m.generator.uniform(0.5, 1.5, blocks)
        one = [1] * len(shape)
        one[channels] = shape[channels]
        steps = m.generator.uniform(0.5, 1.5, one).astype(np.float32)
        return np.asarray(steps * m.generator.integers(3, 16, blocks) / 15, np.float64)


def network(weights: Weights, kind: int = INT8, zero: int = 3, seed: int = 1) -> onnx.ModelProto:
    """Convolution with Relu, then a matrix product; everything between Q and DQ."""
    m = Maker(np.random.default_rng(seed))
    x = m.activation("x", "in", 0.02, zero, kind)
    w = weights.add(m, "w", (CHANNELS, SHAPE[1], 3, 3), 0, 1.0)
    bias = m.real("b", m.generator.uniform(-0.5, 0.5, CHANNELS))
    y = m.node("Conv", [x, w, bias], "conv", pads=[1, 1, 1, 1])
    y = m.activation(
        m.node("Relu", [y], "relu"), "mid", 0.03, zero - 100 if kind == INT8 else 0, kind
    )
    y = m.node("Flatten", [y], "flat")
    w = weights.add(m, "v", (CHANNELS * 36, CLASSES), 1, 0.2)
    y = m.node("MatMul", [y, w], "product")
    return m.model(m.activation(y, "out", 0.1, zero, kind))


def dense(weights: Weights, length: int = 96) -> onnx.ModelProto:
    """One matrix product between Q and DQ."""
    m = Maker(np.random.default_rng(3))
    x = m.activation("x", "in", 0.02, 3)
    y = m.node("MatMul", [x, weights.add(m, "w", (length, CLASSES), 1, 0.2)], "product")
    return m.model(m.activation(y, "out", 0.05, 3), (1, length))
