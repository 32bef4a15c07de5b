"""LSTM and GRU on integers: equal to the reference everywhere, and close to float."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from codegen import execute, importer, pipeline, reference
from codegen.ir import Graph
from codegen.quant.clipping import Range
from codegen.quant.quantize import quantize
from targets.errors import UnsupportedModel
from tests.codegen import firmware

STEPS, WIDTH, HIDDEN = 9, 5, 6
GATES = {"LSTM": 4, "GRU": 3}


def model(
    kind: str, direction: str, output: int, layout: int = 0, **more: object
) -> onnx.ModelProto:
    """One layer, of which one output is the network's."""
    ways = 2 if direction == "bidirectional" else 1
    rows = GATES[kind] * HIDDEN
    rng = np.random.default_rng(len(direction) + output)
    arrays = {
        "w": rng.normal(0, 0.6, (ways, rows, WIDTH)),
        "r": rng.normal(0, 0.5, (ways, rows, HIDDEN)),
        "b": rng.normal(0, 0.3, (ways, 2 * rows)),
    }
    if kind == "GRU":
        more = {"linear_before_reset": 1, **more}
    inputs = ["x", "w", "r", "b"]
    nodes = []
    if layout == 0:  # what PyTorch writes around a layer with the batch first
        nodes.append(helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]))
        inputs[0] = "xt"
    form: dict[str, Any] = {"hidden_size": HIDDEN, "direction": direction, "layout": layout, **more}
    names = [f"y{index}" if index == output else "" for index in range(output + 1)]
    nodes.append(
        helper.make_node(
            kind,
            inputs,
            names,
            **form,
        )
    )
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", 1, (1, STEPS, WIDTH))],
        [helper.make_tensor_value_info(f"y{output}", 1, None)],
        [
            helper.make_tensor(name, 1, array.shape, array.astype(np.float32).ravel())
            for name, array in arrays.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def loaded(made: onnx.ModelProto, folder: Path) -> Graph:
    path = folder / "net.onnx"
    onnx.save(made, path)
    return pipeline.run(importer.load(path))


def integers(graph: Graph) -> Graph:
    ranges = {
        name: Range(-1.0, 1.0) if name != graph.inputs[0].tensor else Range(-3.0, 2.5)
        for name, tensor in graph.tensors.items()
        if tensor.data is None
    }
    return quantize(graph, ranges, imported=False)


FORMS = [
    (kind, direction, output)
    for kind, direction, output in product(GATES, ("forward", "reverse", "bidirectional"), (0, 1))
]


@pytest.mark.parametrize(("kind", "direction", "output"), FORMS)
def test_close_to_float(tmp_path: Path, kind: str, direction: str, output: int) -> None:
    made = model(kind, direction, output)
    graph = loaded(made, tmp_path)
    assert any(node.op.kind == "gated" for node in graph.nodes)
    assert not any(node.op.kind in ("to_float", "to_grid") for node in graph.nodes[:-1])
    x = np.random.default_rng(3).uniform(-3, 2.5, (4, STEPS, WIDTH)).astype(np.float32)
    session = onnxruntime.InferenceSession(made.SerializeToString())
    wanted = np.stack([session.run(None, {"x": one[None]})[0] for one in x])
    (real,) = execute.run_float(graph, (x,))
    np.testing.assert_allclose(np.float64(real).reshape(wanted.shape), wanted, atol=1e-5)
    quantized = integers(graph)
    (stored,) = reference.run(quantized, (reference.to_stored(quantized, graph.inputs[0], x),))
    found = reference.to_real(quantized, quantized.outputs[0], stored).reshape(wanted.shape)
    assert np.abs(found - wanted).max() < 0.05


@pytest.mark.parametrize("target", ["generic-m0plus", "generic-m4"])
@pytest.mark.parametrize(("kind", "direction", "output"), FORMS)
def test_every_byte(tmp_path: Path, kind: str, direction: str, output: int, target: str) -> None:
    graph = integers(loaded(model(kind, direction, output, layout=1), tmp_path))
    x = np.random.default_rng(4).integers(-128, 128, (4, STEPS, WIDTH)).astype(np.int8)
    x[0], x[1] = 127, -128
    firmware.every_byte(graph, firmware.write(graph, target, tmp_path), (x,))


@pytest.mark.parametrize(
    "form",
    [
        {"clip": 3.0},
        {"activations": ["Relu", "Tanh", "Tanh"]},
        {"input_forget": 1},
    ],
    ids=str,
)
def test_other_forms_are_refused_in_integers(tmp_path: Path, form: dict[str, Any]) -> None:
    onnx.save(model("LSTM", "forward", 0, layout=1, **form), tmp_path / "net.onnx")
    with pytest.raises(UnsupportedModel, match="LSTM"):
        importer.load(tmp_path / "net.onnx", islands=False)


def test_the_cell_is_not_given_away(tmp_path: Path) -> None:
    onnx.save(model("LSTM", "forward", 2, layout=1), tmp_path / "net.onnx")
    with pytest.raises(UnsupportedModel, match="cell") as caught:
        importer.load(tmp_path / "net.onnx", islands=False)
    assert "float32" in caught.value.hint
