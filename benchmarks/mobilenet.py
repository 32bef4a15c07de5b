"""MobileNetV2 0.30 for 80x80x3 and 1,000 classes, random weights, as ONNX: `python -m benchmarks.mobilenet`.

Vendors' SRAM figures for this geometry are public (docs/memory.md). Only sizes are compared: the weights
are random, so there is no accuracy.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from codegen import check_plan, plan
from codegen.select import Objective
from targets.target import load
from thumbnet import compiler
from thumbnet.options import CompileOptions

ALPHA = 0.30
SIDE = 80
CLASSES = 1_000
# Expansion, channels before scaling, repeats, stride of the first.
BLOCKS: tuple[tuple[int, int, int, int], ...] = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
)
BLOCKS += ((6, 320, 1, 1),)
STEM, HEAD = 32, 1_280


def scaled(channels: int) -> int:
    """Channels times ALPHA, to a multiple of 8, never less than nine tenths of it."""
    exact = channels * ALPHA
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded


class _Net:
    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def conv(self, x: str, depth: int, channels: int, kernel: int, stride: int, side: int) -> str:
        """A convolution; depthwise where `depth` is 0. Pads like SAME."""
        groups = 1 if depth else channels
        fan = (depth or 1) * kernel * kernel
        shape = (channels, depth or 1, kernel, kernel)
        number = len(self.nodes)
        w = self.constant(f"w{number}", self.generator.normal(0, (2 / fan) ** 0.5, shape))
        b = self.constant(f"b{number}", self.generator.normal(0, 0.1, channels))
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        before, after = total // 2, total - total // 2
        pads = [before, before, after, after]
        return self.node("Conv", [x, w, b], strides=[stride] * 2, pads=pads, group=groups)

    def relu6(self, x: str) -> str:
        bounds = (self.constant(f"{x}_{n}", np.array(v)) for n, v in (("low", 0), ("high", 6)))
        return self.node("Clip", [x, *bounds])


def model() -> onnx.ModelProto:
    """The network."""
    net, side = _Net(), SIDE // 2
    depth = scaled(STEM)
    x = net.relu6(net.conv("image", 3, depth, 3, 2, SIDE))
    for expansion, channels, repeats, first_stride in BLOCKS:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            start, wide, out = x, depth * expansion, scaled(channels)
            if expansion > 1:
                x = net.relu6(net.conv(x, depth, wide, 1, 1, side))
            x = net.relu6(net.conv(x, 0, wide, 3, stride, side))
            side = -(-side // stride)
            x = net.conv(x, wide, out, 1, 1, side)
            x = net.node("Add", [start, x]) if stride == 1 and depth == out else x
            depth = out
    x = net.relu6(net.conv(x, depth, HEAD, 1, 1, side))
    x = net.node("Flatten", [net.node("GlobalAveragePool", [x])])
    w = net.constant("head_w", net.generator.normal(0, 0.03, (HEAD, CLASSES)))
    net.node("Gemm", [x, w, net.constant("head_b", np.zeros(CLASSES))])
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    scores = helper.make_tensor_value_info(net.nodes[-1].output[0], TensorProto.FLOAT, [1, CLASSES])
    graph = helper.make_graph(net.nodes, "mobilenet", [image], [scores], net.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def planned(folder: Path, optimize: Objective = "sram", stream: bool = False) -> plan.Plan:
    """The network's checked plan for a Cortex-M4. No generic target has the flash for its weights."""
    path = folder / "mobilenet.onnx"
    onnx.save(model(), path)
    prepared = compiler.prepare(path, CompileOptions(target="generic-m4", calib="random"))
    core = load("generic-m4").core
    return check_plan.check(plan.make(prepared.quantized, core, optimize, stream=stream))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--optimize", default="sram", choices=get_args(Objective))
    parser.add_argument("--stream-input", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = planned(Path(folder), chosen.optimize, chosen.stream_input)
    print(f"arena {made.arena:,} B (bound {made.bound:,}), scratch {made.scratch:,} B")
    if made.source is not None:
        print(f"input: {made.source.rows} rows, {made.source.ring // made.source.columns} are kept")
    for step in made.steps:
        if step.chain is not None:
            rings = ", ".join(str(stage.ring) for stage in step.chain.stages[:-1])
            print(f"step {step.index}: {step.name}, rings of {rings} pixels")


if __name__ == "__main__":
    main()
