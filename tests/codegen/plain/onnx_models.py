"""Small ONNX models as networks of plain numbers: our NumPy reference against onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from codegen import importer, pipeline, reference
from codegen.floats import all_floats
from codegen.ir import Array, Graph, verify_quantized
from codegen.passes.binarize import binarize
from codegen.passes.lift_signs import lift_signs
from tests.onnx_nodes.run import in_onnx, stored


def saved(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Array],
    constants: Mapping[str, Array],
    opset: int = 18,
    outputs: Sequence[str] = ("y",),
) -> Path:
    """A model file; inputs have the shapes and types of these values."""
    kind = helper.np_dtype_to_tensor_dtype
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [info(name, kind(x.dtype), x.shape) for name, x in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    path = folder / "net.onnx"
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    for value in model.graph.output:  # where ONNX can tell no type
        value.type.tensor_type.elem_type = value.type.tensor_type.elem_type or 1
    path.write_bytes(model.SerializeToString())
    return path


def loaded(path: Path) -> Graph:
    """The network on plain numbers."""
    passes = tuple(p for p in pipeline.PASSES if p not in (binarize, lift_signs))
    return verify_quantized(all_floats(pipeline.run(importer.load(path, floats=True), passes)))


def theirs(path: Path, inputs: Mapping[str, Array]) -> list[Array]:
    """What onnxruntime computes."""
    return list(ort.InferenceSession(path.read_bytes()).run(None, dict(inputs)))


def ours(
    graph: Graph, inputs: Mapping[str, Array], shapes: Sequence[tuple[int, ...]]
) -> list[Array]:
    """What the reference computes, as ONNX shapes it."""
    given = tuple(stored(graph, p.tensor, inputs[p.name], p.perm) for p in graph.inputs)
    found = reference.run(graph, given)
    return [
        in_onnx(graph, index, np.ascontiguousarray(data), shape)
        for index, (data, shape) in enumerate(zip(found, shapes, strict=True))
    ]


def check(path: Path, inputs: Mapping[str, Array], tolerance: float = 0) -> Graph:
    """The network, once its results have proved to be onnxruntime's."""
    graph = loaded(path)
    wanted = theirs(path, inputs)
    found = ours(graph, inputs, [array.shape for array in wanted])
    for mine, their in zip(found, wanted, strict=True):
        assert mine.dtype == their.dtype
        assert np.allclose(mine.astype(float), their.astype(float), tolerance, tolerance)
    return graph
