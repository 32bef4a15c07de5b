"""Tiny ONNX models, and what onnxruntime makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from codegen.execute import from_device, run_float, to_device
from codegen.importer import load
from codegen.ir import Array, Graph
from codegen.pipeline import run
from codegen.qdq import constant_value, dequantize, quantize

SAMPLES = 3


@dataclass(frozen=True)
class Net:
    """Inputs named x, x1 ... of these shapes, nodes, and constants; the output is y."""

    nodes: Sequence[onnx.NodeProto]
    shapes: Sequence[tuple[int | str, ...]]
    constants: Mapping[str, Array | np.generic] = field(default_factory=dict)
    opset: int = 13
    outputs: Sequence[str] = ("y",)
    domains: Sequence[str] = ()

    def model(self) -> onnx.ModelProto:
        names = ["x", *(f"x{i}" for i in range(1, len(self.shapes)))]
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "net",
            [info(n, onnx.TensorProto.FLOAT, s) for n, s in zip(names, self.shapes, strict=True)],
            [info(name, onnx.TensorProto.FLOAT, None) for name in self.outputs],
            [numpy_helper.from_array(np.asarray(a), n) for n, a in self.constants.items()],
        )
        imports = [helper.make_opsetid("", self.opset)]
        imports += [helper.make_opsetid(domain, 1) for domain in self.domains]
        return helper.make_model(
            graph, opset_imports=imports, ir_version=8 if self.opset < 19 else 10
        )

    def save(self, folder: Path) -> Path:
        path = folder / "net.onnx"
        path.write_bytes(self.model().SerializeToString())
        return path


def node(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    domain = str(attributes.pop("domain", ""))
    names = [name if name != "-" else "" for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), domain=domain, **attributes)


def samples(graph: Graph, seed: int = 0) -> tuple[Array, ...]:
    rng = np.random.default_rng(seed)
    shapes = [(SAMPLES, *port.shape[1:]) for port in graph.inputs]
    return tuple(rng.normal(size=shape).astype(np.float32) * 2 for shape in shapes)


def ours(graph: Graph, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    arranged = tuple(to_device(p, x) for p, x in zip(graph.inputs, inputs, strict=True))
    results = run_float(graph, arranged)
    return tuple(from_device(p, y) for p, y in zip(graph.outputs, results, strict=True))


def theirs(path: Path, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path.read_bytes(), options)
    names = [port.name for port in session.get_inputs()]
    rows = [
        session.run(None, {n: x[i : i + 1] for n, x in zip(names, inputs, strict=True)})
        for i in range(inputs[0].shape[0])
    ]
    return tuple(np.concatenate(column) for column in zip(*rows, strict=True))


def compiled(path: Path) -> Graph:
    return run(load(path))


def close(mine: Array, their: Array, tolerance: float = 1e-4) -> None:
    a, b = mine.astype(np.float64), their.astype(np.float64)
    np.testing.assert_allclose(a, b, atol=tolerance, rtol=1e-4)


def check(path: Path, tolerance: float = 1e-4) -> Graph:
    """The compiled graph, once its results have proved equal to onnxruntime's."""
    graph = compiled(path)
    inputs = samples(graph)
    for mine, their in zip(ours(graph, inputs), theirs(path, inputs), strict=True):
        assert mine.shape == their.shape
        close(mine, their, tolerance)
    return graph


def fake_quantized(graph: Graph, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    """The outputs when every activation is rounded to its grid; all of them must have one."""
    values = {t.name: constant_value(t) for t in graph.tensors.values() if t.data is not None}

    def rounded(name: str, array: Array) -> Array:
        quant = graph.tensors[name].quant
        assert quant is not None, f"{name} has no grid"
        return dequantize(quantize(array, quant), quant)

    for port, array in zip(graph.inputs, inputs, strict=True):
        values[port.tensor] = rounded(port.tensor, to_device(port, array))
    for step in graph.nodes:
        result = step.op.evaluate(tuple(values[name] for name in step.inputs))
        values[step.output] = rounded(step.output, result)
    return tuple(from_device(port, values[port.tensor]) for port in graph.outputs)
