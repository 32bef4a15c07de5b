"""Small files that ask for much: `python -m tests.hostile.bombs FOLDER` tries them all, a JSON line each."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from codegen import importer
from targets.errors import ThumbnetError

IMAGE = (1, 1, 4, 4)


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Any] | None = None,
    shape: tuple[int, ...] = (1, 4),
    outputs: tuple[str, ...] = ("y",),
    opset: int = 17,
) -> onnx.ModelProto:
    """A model with input x; constants: numpy arrays, or what becomes an int64 array."""
    values = [
        numpy_helper.from_array(np.asarray(value), name)
        for name, value in (constants or {}).items()
    ]
    graph = helper.make_graph(
        nodes,
        "bomb",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        values,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def _node(kind: str, inputs: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(kind, names, [output], **attributes)


def _folded(kind: str, inputs: str, constants: Mapping[str, Any]) -> onnx.ModelProto:
    """A constant that would be computed beforehand, added to the input."""
    return model([_node(kind, inputs, "c"), _node("Add", "x c")], constants)


def _conv(**attributes: Any) -> onnx.ModelProto:
    weights = np.zeros((1, 1, 3, 3), np.float32)
    return model([_node("Conv", "x w", **attributes)], {"w": weights}, IMAGE)


def _doubling(count: int) -> onnx.ModelProto:
    names = ["x", *(f"v{i}" for i in range(count))]
    nodes = [_node("Concat", f"{a} {a}", b, axis=1) for a, b in pairwise(names)]
    return model(nodes, outputs=(names[-1],))


def _wide(count: int) -> onnx.ModelProto:
    names = [f"v{i}" for i in range(count)]
    return model([*(_node("Relu", "x", name) for name in names), _node("Sum", " ".join(names))])


def _constants(count: int) -> onnx.ModelProto:
    """Constants that are small each, but not together."""
    names = [f"v{i}" for i in range(count)]
    made = [_node("ConstantOfShape", "s", name) for name in names]
    return model([*made, _node("Concat", " ".join(("x", *names)), axis=1)], {"s": [1, 1 << 22]})


def _deep(depth: int) -> onnx.ModelProto:
    """A graph within a graph within a graph."""
    inner = helper.make_graph([_node("Relu", "x", "z")], "g", [], [])
    for _ in range(depth):
        inner = helper.make_graph([_node("If", "x", "z", then_branch=inner)], "g", [], [])
    return model([_node("If", "x", then_branch=inner, else_branch=inner)])


def _undeclared() -> onnx.ModelProto:
    found = model([_node("MatMul", "x w")])
    found.graph.initializer.append(TensorProto(name="w", data_type=1, dims=[1 << 14, 1 << 14]))
    return found


def bombs() -> dict[str, onnx.ModelProto]:
    """The models by name; none may be compiled."""
    one, far = np.ones(1, np.float32), 1 << 40
    scale = {"s": np.float32(0), "z": np.int8(0)}
    quantize = [_node("QuantizeLinear", "x s z", "q"), _node("DequantizeLinear", "q s z")]
    return {
        "constant of 2^40": _folded("ConstantOfShape", "s", {"s": [1 << 20, 1 << 20]}),
        "tiled constant": _folded("Tile", "k r", {"k": one, "r": [1 << 30]}),
        "tiled input": model([_node("Tile", "x r")], {"r": [1, far]}),
        "expanded": _folded("Expand", "k r", {"k": one, "r": [1 << 31, 4]}),
        "range": _folded(
            "Range", "a b d", {"a": np.float32(0), "b": np.float32(1e12), "d": np.float32(1e-3)}
        ),
        "scales": model(
            [_node("Resize", "x - s", mode="nearest")],
            {"s": np.array([1, 1, 1e6, 1e6], np.float32)},
            IMAGE,
        ),
        "sizes": model(
            [_node("Resize", "x - - s", mode="nearest")], {"s": [1, 1, far, far]}, IMAGE
        ),
        "padded": model([_node("Pad", "x p")], {"p": [0, 0, 0, far]}),
        "padded by conv": _conv(pads=[far] * 4),
        "stride 0": _conv(strides=[0, 0]),
        "dilation below 0": _conv(dilations=[-1, 1 << 62]),
        "no groups": _conv(group=0),
        "huge pool": model(
            [_node("AveragePool", "x", kernel_shape=[1 << 30] * 2, pads=[1 << 30] * 4)], shape=IMAGE
        ),
        "graphs in graphs": _deep(20),
        "constants together": _constants(40),
        "work of hours": model(
            [_node("MaxPool", "x", kernel_shape=[1000] * 2, pads=[999] * 4)],
            shape=(1, 1, 1000, 1000),
        ),
        "reshaped": model([_node("Reshape", "x r")], {"r": [1, 1 << 62, -1]}),
        "doubled 45 times": _doubling(45),
        "9,999 alive": _wide(9_999),
        "300 alive": _wide(300),
        "huge input": model([_node("Relu", "x")], shape=(1, far, far)),
        "input of 256 MB": model([_node("Relu", "x")], shape=(1, 1 << 28)),
        "large images": model(
            [_node("Conv", "x w", pads=[1] * 4)],
            {"w": np.zeros((16, 1, 3, 3), np.float32)},
            (1, 1, 8192, 8192),
        ),
        "weights without numbers": _undeclared(),
        "steps of 0": model(
            [_node("Slice", "x s e a t")], {"s": [0], "e": [1 << 62], "a": [1], "t": [0]}
        ),
        "5,000 parts": model(
            [helper.make_node("Split", ["x"], [f"o{i}" for i in range(5000)], num_outputs=5000)],
            outputs=("o1",),
            opset=18,
        ),
        "outer product": model(
            [_node("Einsum", "x x", equation="ab,cd->abcd")], shape=(1, 1 << 13)
        ),
        "NaN": model(
            [_node("Conv", "x w")], {"w": np.full((1, 1, 3, 3), np.nan, np.float32)}, IMAGE
        ),
        "scale 0": model(quantize, scale),
        "scale NaN": model(quantize, scale | {"s": np.float32("nan")}),
        "scale below 0": model(quantize, scale | {"s": np.float32(-1)}),
        "cycle": model([_node("Relu", "b", "a"), _node("Relu", "a", "b"), _node("Add", "x a")]),
        "dangling": model([_node("Add", "x nothing")]),
        "written twice": model([_node("Relu", "x"), _node("Relu", "x")]),
        "no output": model([_node("Relu", "x", "z")], outputs=()),
        "axes twice": model([_node("Transpose", "x", perm=[0, 0])]),
    }


def files() -> dict[str, bytes]:
    """The models as files, and those that are easier to write than to make."""
    found = {name: bomb.SerializeToString() for name, bomb in bombs().items()}
    # Messages that follow each other are one message with the fields of all.
    parts = {
        "nodes": onnx.GraphProto(node=[_node("Relu", "y", "z")]),
        "weights": onnx.GraphProto(initializer=[TensorProto(name="w", data_type=1)]),
        "inputs": onnx.GraphProto(input=[onnx.ValueInfoProto(name="x")]),
        "outputs": onnx.GraphProto(output=[onnx.ValueInfoProto(name="y")]),
    }
    sound = model([_node("Relu", "x")]).SerializeToString()
    for name, part in parts.items():
        one: bytes = onnx.ModelProto(graph=part).SerializeToString()
        found[f"a million {name}"] = sound + one * 1_000_000
    wide = _node("Sum", " ".join(["x"] * 500_000))
    wide.attribute.extend([helper.make_attribute("a", 1)] * 200_000)
    found["a node of 500,000 operands"] = model([wide]).SerializeToString()
    return found


MILLIONS = ("nodes", "weights", "inputs", "outputs")


def peak() -> int:
    """Most bytes that this process held. On Linux ru_maxrss begins with the parent's."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    (line,) = (text for text in status.read_text().splitlines() if text.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


def main() -> None:
    """Tries each and prints what came of it."""
    folder = Path(sys.argv[1])
    waiting = files()
    for name in tuple(waiting):
        path = folder / "bomb.onnx"
        path.write_bytes(waiting.pop(name))
        start = time.process_time()
        try:
            importer.load(path)
            said = None
        except ThumbnetError as error:
            said = str(error)
        seconds = time.process_time() - start
        print(json.dumps({"name": name, "said": said, "seconds": seconds, "peak": peak()}))


if __name__ == "__main__":
    main()
