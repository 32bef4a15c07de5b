"""Cross-layer equalization, AdaRound, and the styles of grids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen import importer, pipeline
from codegen.execute import run_float
from codegen.ir import FloatArray, Graph
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.quant import quantize, rounding
from codegen.quant.clipping import Range
from codegen.quant.equalize import equalize
from codegen.quant.quantize import GridStyle
from tests.codegen.test_ptq import correlated
from tests.codegen.tiny_models import Net, node


def wild(*shape: int, axis: int = 0, seed: int = 0) -> FloatArray:
    """Weights whose channels along an axis differ in size a hundredfold."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.uniform(-2.3, 2.3, shape[axis]))
    along = sizes.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return (rng.normal(size=shape) * along).astype(np.float32)


def conv(inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return node("Conv", inputs, output, name=output, **attributes)


def chain(activation: str = "Relu") -> Net:
    """A grouped, a depthwise, a 1x1 convolution, a pool, a dense layer."""
    constants: dict[str, FloatArray | np.generic] = {
        "w": wild(4, 2, 3, 3), "a": wild(4), "d": wild(4, 1, 3, 3, seed=1), "e": wild(4, seed=2),
        "p": wild(6, 4, 1, 1, seed=3), "q": wild(6, seed=4), "v": wild(3, 18, seed=5), "u": wild(3),
    }  # fmt: skip
    if activation == "Clip":
        constants |= {"low": np.float32(0), "high": np.float32(6)}
    nodes = [
        conv("x w a", "c0", pads=[1, 1, 1, 1], group=2),
        node(activation, "c0 low high" if activation == "Clip" else "c0", "c"),
        conv("c d e", "k0", pads=[1, 1, 1, 1], group=4, strides=[2, 2]),
        node("Relu", "k0", "k"),
        node("MaxPool", "k", "n", kernel_shape=[2, 1]),
        conv("n p q", "m0"),
        node("Relu", "m0", "m"),
        node("Flatten", "m", "f"),
        node("Gemm", "f v u", "y", transB=1),
    ]
    return Net(nodes, [(1, 4, 4, 6)], constants)


def same_outputs(graph: Graph, found: Graph) -> None:
    x = np.random.default_rng(0).normal(size=(8, 4, 6, 4)).astype(np.float32)
    wanted, given = (np.asarray(run_float(g, (x,))[0], np.float32) for g in (graph, found))
    np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def ranges(graph: Graph) -> dict[str, FloatArray]:
    """Largest weight of every output channel, by layer."""
    return {
        n.label: np.abs(graph.tensors[n.inputs[1]].values.astype(np.float32))
        .reshape(graph.tensors[n.inputs[1]].shape[0], -1)
        .max(axis=1)
        for n in graph.nodes
        if isinstance(n.op, Conv2D | Dense)
    }


def test_the_network_stays_and_ranges_come_closer(tmp_path: Path) -> None:
    graph = pipeline.run(importer.load(chain().save(tmp_path)))
    found = equalize(graph)
    same_outputs(graph, found)
    before, after = ranges(graph), ranges(found)
    for name in ("c0", "k0"):
        assert np.ptp(np.log(after[name])) < 0.5 * np.ptp(np.log(before[name])), name
    again = ranges(equalize(found))
    for name, values in after.items():
        np.testing.assert_allclose(again[name], values, rtol=0.01)


def test_what_would_change_results_stays(tmp_path: Path) -> None:
    graph = pipeline.run(importer.load(chain("Clip").save(tmp_path)))
    found = equalize(graph)
    first = next(n for n in graph.nodes if n.label == "c0")
    for name in first.inputs[1:]:
        np.testing.assert_array_equal(found.tensors[name].values, graph.tensors[name].values)
    assert ranges(found)["k0"].tolist() != ranges(graph)["k0"].tolist()
    same_outputs(graph, found)


@pytest.mark.parametrize("length", [9, 40])
def test_adaround_lowers_the_output_error(length: int) -> None:
    generator = np.random.default_rng(length)
    w, h = generator.normal(size=(2, 16, length)), correlated(generator, 2, length)
    scales = np.abs(w).max(axis=2, keepdims=True) / 7
    found = rounding.ROUNDINGS["adaround"](w, scales, 7, h, 0)
    plain = rounding.nearest(w, scales, 7, h, 0)
    assert np.abs(found).max() <= 7 and (found == np.rint(found)).all()
    assert (np.abs(found - w / scales) < 1).all()
    error, usual = (rounding.output_error(w, q, scales, h) for q in (found, plain))
    assert (error <= usual).all() and np.median(error / usual) < 0.75


def test_adaround_without_inputs_is_nearest() -> None:
    w = np.random.default_rng(0).normal(size=(1, 4, 6))
    scales = np.full((1, 4, 1), 0.3)
    found = rounding.ROUNDINGS["adaround"](w, scales, 7, np.zeros((1, 6, 6)), 0)
    np.testing.assert_array_equal(found, rounding.nearest(w, scales, 7, np.zeros((1, 6, 6)), 0))


@settings(max_examples=80, deadline=None)
@given(
    low=st.floats(-1e4, 0),
    high=st.floats(0, 1e4),
    symmetric=st.booleans(),
    two=st.booleans(),
    width=st.sampled_from([4, 8]),
)
def test_grids_cover_their_range(
    low: float, high: float, symmetric: bool, two: bool, width: int
) -> None:
    grid = quantize.activation_grid(Range(low, high), GridStyle(symmetric, two, width))
    least, most = -(1 << (width - 1)), (1 << (width - 1)) - 1
    assert grid.width == width and least <= grid.zero_point <= most
    # One step: a zero point is rounded.
    assert grid.scale * (least - 1 - grid.zero_point) <= low + 1e-9
    assert grid.scale * (most + 1 - grid.zero_point) >= high - 1e-9
    assert not symmetric or grid.zero_point == 0
    assert not two or np.log2(grid.scale) % 1 == 0
