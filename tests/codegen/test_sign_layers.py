"""Layers made to multiply signs with signs: where training begins, and what the file says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from codegen import importer, onnx_save, pipeline, reference
from codegen.execute import run_float
from codegen.ir import Array, FloatArray, Graph
from codegen.ops.binary_conv2d import BinaryConv2D
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.passes.lift_signs import is_sign
from codegen.quant import calibrate, quantize, sign_layers, trainable
from tests.codegen.test_onnx_save import stored, values
from tests.codegen.tiny_models import Net, node

NET = Net(
    [
        node("Conv", "x w a", "c", pads=[1, 1, 1, 1], name="stem"),
        node("Relu", "c", "r"),
        node("Conv", "r w2 b", "d", pads=[1, 1, 1, 1], name="wide"),
        node("MaxPool", "d", "m", kernel_shape=[2, 2], strides=[2, 2], name="pool"),
        node("Relu", "m", "s"),
        node("Conv", "s w3 b", "e", name="deep"),
        node("Relu", "e", "t"),
        node("Flatten", "t", "f"),
        node("Gemm", "f v u", "y", transB=1, name="head"),
    ],
    [(1, 2, 6, 6)],
    {"w": values(8, 2, 3, 3), "a": values(8), "w2": values(6, 8, 3, 3), "b": values(6),
     "w3": values(6, 6, 1, 1), "v": values(5, 54), "u": values(5)},
)  # fmt: skip
INNER = ("wide", "deep")


def signed(folder: Path) -> tuple[Graph, Graph, frozenset[str]]:
    """The float graph, the same with signs before the inner layers, and these layers' outputs."""
    graph = pipeline.run(importer.load(NET.save(folder)))
    layers = frozenset(n.output for n in graph.nodes if n.label in INNER)
    assert len(layers) == 2
    return graph, sign_layers.with_signs(graph, layers, (values(30, 6, 6, 2),)), layers


def test_which_layers_can_take_signs(tmp_path: Path) -> None:
    graph, _, _ = signed(tmp_path)
    found = {n.label for n in graph.nodes if sign_layers.takes_signs(graph, n)}
    assert found == {"wide", "deep", "head"}


def test_signs_stand_behind_layers_without_relu(tmp_path: Path) -> None:
    graph, found, _ = signed(tmp_path)
    signs = [n for n in found.nodes if is_sign(n)]
    before = [found.producer(n.inputs[0]) for n in signs]
    assert [n.label for n in before if n] == ["stem", "wide"]  # not behind the pool
    clamps = {n.label: n.op.clamp for n in found.nodes if isinstance(n.op, Conv2D)}
    assert clamps == {"stem": None, "wide": None, "deep": (0.0, np.inf)}
    assert not any(n.op.kind == "lookup" and not is_sign(n) for n in found.nodes)
    assert [p.tensor for p in found.outputs] == [p.tensor for p in graph.outputs]


def test_a_relu_is_seen_as_half_of_one_plus_sign(tmp_path: Path) -> None:
    graph, found, _ = signed(tmp_path)
    x = (values(30, 6, 6, 2),)
    seen: dict[str, FloatArray] = {}

    def watch(name: str, array: Array) -> None:
        seen[name] = np.asarray(array, np.float32)

    run_float(found, x, watch)
    (deep,) = (n for n in graph.nodes if n.label == "deep")
    (mine,) = (n for n in found.nodes if n.label == "deep")
    signs = seen[mine.inputs[0]]
    assert set(np.unique(signs)) == {-1.0, 1.0}
    w, b = (np.asarray(graph.tensors[name].values, np.float32) for name in deep.inputs[1:])
    w2, b2 = (np.asarray(found.tensors[name].values, np.float32) for name in mine.inputs[1:])
    half = float(w2.reshape(-1)[0] / w.reshape(-1)[0])
    assert half > 0
    both = half * (1 + signs)
    np.testing.assert_allclose(
        signs @ w2.reshape(6, 6).T + b2, both @ w.reshape(6, 6).T + b, rtol=1e-4, atol=1e-4
    )


def start_of(found: Graph, layers: frozenset[str]) -> trainable.Start:
    ranges = calibrate.ranges(found, (values(30, 6, 6, 2),), "minmax")
    grids = quantize.activation_grids(found, ranges)
    roots = trainable.sharing(found, grids)
    forms = {n.output: trainable.PLAIN for n in found.nodes if isinstance(n.op, Conv2D | Dense)}
    forms |= dict.fromkeys(layers, trainable.FORMS["binary", "binary"])
    free = sign_layers.without_grid(found, layers, roots)
    activations = trainable.activation_forms(found, grids, roots, {})
    return trainable.Start(found, found, forms, roots, activations, None, free)


def test_the_importer_finds_layers_of_signs(tmp_path: Path) -> None:
    _, found, layers = signed(tmp_path)
    start = start_of(found, layers)
    kinds = {n.output: n.op.kind for n in found.nodes}
    assert sorted(kinds[name] for name in start.free) == ["conv2d", "lookup", "lookup", "max_pool"]
    weights, biases = {}, {}
    rng = np.random.default_rng(3)
    for n in found.nodes:
        if n.output in start.forms:
            shape = found.tensors[n.inputs[1]].shape
            rows = (
                rng.choice([-1, 1], shape) if n.output in layers else rng.integers(-99, 99, shape)
            )
            scales = np.full(shape[0], 0.3 if n.output in layers else 0.01, np.float32)
            weights[n.output] = trainable.LearnedWeights(rows.astype(np.int8), scales)
            biases[n.output] = np.asarray(found.tensors[n.inputs[2]].values, np.float32)
    scales_ = {root: float(np.float32(g.quant.scale)) for root, g in start.grids.items()}
    path = tmp_path / "signs.onnx"
    written = trainable.trained(start, trainable.Learned(weights, biases, scales_))
    path.write_bytes(onnx_save.dump(written))
    onnx.checker.check_model(str(path), full_check=True)
    again = pipeline.run(importer.load(path))
    binary = [n.op for n in again.nodes if isinstance(n.op, BinaryConv2D)]
    assert [op.binary for op in binary] == [True, False]
    assert [n.op.kind for n in again.nodes if n.op.kind == "bit_max_pool"]
    # What bits give is what signs in real numbers give, rounded.
    quantized = quantize.quantize(again, {}, True)
    x = stored(quantized, 60)
    (real,) = run_float(written, (reference.to_real(quantized, quantized.inputs[0], x[0]),))
    grid = quantized.tensors[quantized.outputs[0].tensor].grid
    wanted = np.rint(np.asarray(real, np.float32) / grid.scale) + grid.zero_point
    (found_,) = reference.run(quantized, x)
    assert np.abs(found_ - wanted).max() <= 1 and (found_ == wanted).mean() > 0.9
    assert len(np.unique(found_, axis=0)) > 2
