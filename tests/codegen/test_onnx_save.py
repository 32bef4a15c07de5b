"""Graphs with grids written as QDQ models: read back the same, computed alike by onnxruntime. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from codegen import importer, onnx_save, pipeline, reference
from codegen.execute import from_device, run_float
from codegen.ir import Array, FloatArray, Graph, Tensor
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.quant import calibrate, kept, lower, ptq, quantize, trainable
from codegen.quant.quantize import GridStyle
from codegen.quant.schemes import find
from targets.errors import UnsupportedModel, UsageError
from tests.codegen.tiny_models import Net, node

EXAMPLES = Path(__file__).parents[2] / "examples"
RNG = np.random.default_rng(7)


def values(*shape: int) -> FloatArray:
    return RNG.normal(size=shape).astype(np.float32)


def conv(inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return node("Conv", inputs, output, name=output, **attributes)


NETS: dict[str, Net] = {
    "residual": Net(
        [
            conv("x w a", "c", pads=[1, 1, 1, 1]),
            node("Relu", "c", "r"),
            conv("r w2 a", "d", pads=[1, 1, 1, 1]),
            node("Sub", "r d", "s"),
            node("Relu", "s", "t"),
            node("GlobalAveragePool", "t", "g"),
            node("Flatten", "g", "f"),
            node("Gemm", "f v u", "h", transB=1),
            node("Softmax", "h", "y", axis=-1),
        ],
        [(1, 3, 9, 7)],
        {"w": values(4, 3, 3, 3), "w2": values(4, 4, 3, 3), "a": values(4), "v": values(5, 4),
         "u": values(5)},
    ),
    "channels last": Net(
        [
            node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
            conv("t w a", "c", strides=[2, 1], group=2),
            node("Clip", "c low high", "r"),
            node("MaxPool", "r", "m", kernel_shape=[2, 2], strides=[2, 2]),
            node("AveragePool", "m", "p", kernel_shape=[2, 2], pads=[1, 0, 0, 1]),
            node("Transpose", "p", "y", perm=[0, 2, 3, 1]),
        ],
        [(1, 9, 8, 4)],
        {"w": values(6, 2, 3, 2), "a": values(6), "low": np.float32(-1), "high": np.float32(6)},
    ),
    "two inputs": Net(
        [
            node("Mul", "x s", "m"),
            node("Concat", "m x1", "c", axis=1),
            node("LeakyRelu", "c", "l", alpha=0.2),
            node("Slice", "l begin end axes", "p"),
            node("Pad", "p pads", "q"),
            conv("q w a", "d"),
            node("Reshape", "d shape", "f"),
            node("Gemm", "f v u", "y", transB=1),
        ],
        [(1, 2, 5, 5), (1, 1, 5, 5)],
        {"s": values(1, 2, 1, 1), "begin": np.array([1]), "end": np.array([4]), "axes": np.array([2]),
         "pads": np.array([0, 0, 1, 0, 0, 0, 0, 1]), "w": values(2, 3, 2, 2), "a": values(2),
         "shape": np.array([1, 30]), "v": values(3, 30), "u": values(3)},
    ),
}  # fmt: skip


def started(graph: Graph, weights: str | None = None, few: bool = False) -> trainable.Start:
    """A start with random calibration; weights of the named width wherever that is usual."""
    samples = tuple(
        np.random.default_rng(1)
        .normal(size=(40, *graph.tensors[p.tensor].shape[1:]))
        .astype(np.float32)
        for p in graph.inputs
    )
    ranges = calibrate.ranges(graph, samples, "minmax")
    grids = quantize.activation_grids(graph, ranges)
    narrow = {n: quantize.activation_grid(r, GridStyle(width=4)) for n, r in ranges.items()}
    roots = trainable.sharing(graph, grids)
    forms = {
        n.output: trainable.FORMS[weights or "int8", "uniform"]
        for n in graph.nodes
        if isinstance(n.op, Conv2D | Dense)
    }
    rule = ptq.WeightRule(4 if weights == "int4" else 8)
    rounded = ptq.quantize_weights(graph, grids, samples, ptq.Settings(rule, correct_bias="off"))
    activations = trainable.activation_forms(graph, grids, roots, narrow if few else {})
    return trainable.Start(graph, rounded, forms, roots, activations)


def untrained(start: trainable.Start) -> Graph:
    """What training that learns nothing gives back."""
    weights, biases = {}, {}
    for n in start.graph.nodes:
        if n.output in start.forms:
            tensor = start.rounded.tensors[n.inputs[1]]
            scales = np.array(tensor.grid.scales, np.float32)
            weights[n.output] = trainable.LearnedWeights(tensor.values, scales)
            biases[n.output] = np.asarray(start.graph.tensors[n.inputs[2]].values, np.float32)
    # As training holds them: float32.
    scales_ = {root: float(np.float32(g.quant.scale)) for root, g in start.grids.items()}
    return trainable.trained(start, trainable.Learned(weights, biases, scales_))


def stored(graph: Graph, count: int = 30) -> tuple[reference.Stored, ...]:
    rng = np.random.default_rng(5)
    shapes = ((count, *graph.tensors[p.tensor].shape[1:]) for p in graph.inputs)
    return tuple(rng.integers(-128, 128, shape).astype(np.int8) for shape in shapes)


def model_of(name: str, folder: Path) -> Path:
    example = EXAMPLES / name / f"{name}.onnx"
    return NETS[name].save(folder) if name in NETS else example


@pytest.mark.parametrize("few", [False, True], ids=["int8", "int4"])
@pytest.mark.parametrize("name", [*NETS, "digits", "motions"])
def test_a_written_model_is_read_back_the_same(name: str, few: bool, tmp_path: Path) -> None:
    graph = pipeline.run(importer.load(model_of(name, tmp_path)))
    trained = untrained(started(graph, few=few))
    path = tmp_path / "written.onnx"
    path.write_bytes(onnx_save.dump(trained))
    onnx.checker.check_model(str(path), full_check=True)
    again = pipeline.run(importer.load(path))
    assert [(p.name, p.shape) for p in again.inputs] == [(p.name, p.shape) for p in graph.inputs]
    mine = quantize.quantize(trained, {}, True)
    theirs = quantize.quantize(again, {}, True)
    x = stored(mine)
    for ours, read in zip(reference.run(mine, x), reference.run(theirs, x), strict=True):
        np.testing.assert_array_equal(ours.ravel(), read.ravel())
    kinds = [n.op.kind for n in again.nodes if n.op.kind not in ("reshape", "transpose")]
    wanted = [n.op.kind for n in graph.nodes if n.op.kind not in ("reshape", "transpose")]
    assert kinds == wanted
    if few:
        inner = [n for n in mine.nodes if n.op.kind == "conv2d" and not mine.is_output(n.output)]
        seen: dict[str, set[int]] = {n.output: set() for n in inner}

        def watch(name: str, value: Array) -> None:
            if name in seen:
                seen[name] |= set(np.unique(value).tolist())

        reference.run(mine, x, watch)
        assert inner and all(found <= set(range(-8, 8)) for found in seen.values())


@pytest.mark.parametrize("name", [*NETS, "digits", "motions"])
def test_onnxruntime_agrees(name: str, tmp_path: Path) -> None:
    graph = pipeline.run(importer.load(model_of(name, tmp_path)))
    trained = untrained(started(graph))
    content = onnx_save.dump(trained)
    mine = quantize.quantize(trained, {}, True)
    x = stored(mine)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    real = [
        from_device(p, reference.to_real(mine, p, v)) for p, v in zip(mine.inputs, x, strict=True)
    ]
    (port,), (result,) = mine.outputs, reference.run(mine, x)
    ours = from_device(port, result.astype(np.int64))
    grid = mine.tensors[port.tensor].grid
    for sample, wanted in enumerate(ours):
        feed = {p.name: v[sample : sample + 1] for p, v in zip(mine.inputs, real, strict=True)}
        found = np.rint(session.run(None, feed)[0][0] / grid.scale) + grid.zero_point
        assert np.abs(found - wanted).max() <= (2 if name == "residual" else 1)


@pytest.mark.parametrize("name", [*NETS, "digits", "motions"])
def test_a_float_model_is_read_back_the_same(name: str, tmp_path: Path) -> None:
    graph = pipeline.run(importer.load(model_of(name, tmp_path)))
    path = tmp_path / "written.onnx"
    path.write_bytes(onnx_save.dump(graph))
    onnx.checker.check_model(str(path), full_check=True)
    again = pipeline.run(importer.load(path))
    assert not any(tensor.quant for tensor in again.tensors.values())
    inputs = tuple(values(5, *graph.tensors[p.tensor].shape[1:]) for p in graph.inputs)
    wanted, found = (np.asarray(run_float(g, inputs)[0], np.float32) for g in (graph, again))
    atol = 1e-5 * float(np.abs(wanted).max())
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=1e-5, atol=atol)


def test_same_graph_same_bytes(tmp_path: Path) -> None:
    graph = pipeline.run(importer.load(model_of("residual", tmp_path)))
    trained = untrained(started(graph))
    assert onnx_save.dump(trained) == onnx_save.dump(trained)


@pytest.mark.parametrize(
    ("op", "says"),
    [
        (
            node("Resize", "x - scales", "y", mode="nearest", name="up"),
            "up: resize cannot be trained",
        ),
        (node("Mish", "x", "y", name="mish"), "mish: mish cannot be trained"),
    ],
)
def test_what_cannot_be_trained_is_named(op: onnx.NodeProto, says: str, tmp_path: Path) -> None:
    net = Net([op], [(1, 2, 4, 4)], {"scales": np.array([1, 1, 2, 2], np.float32)}, opset=18)
    graph = pipeline.run(importer.load(net.save(tmp_path)))
    with pytest.raises(UnsupportedModel, match=says) as error:
        onnx_save.refuse(graph)
    assert error.value.hint


ROWS: dict[tuple[str, str], Callable[[np.random.Generator], Array]] = {
    ("int4", "uniform"): lambda g: g.integers(-8, 8, (6, 20)),
    ("int3", "uniform"): lambda g: g.integers(-4, 4, (6, 20)),
    ("int2", "uniform"): lambda g: g.integers(-2, 2, (6, 20)),
    ("ternary", "ternary"): lambda g: g.integers(-1, 2, (6, 20)),
    ("ternary", "ttq"): lambda g: g.choice([-90, 0, 127], (6, 20)),
    ("binary", "binary"): lambda g: g.choice([-1, 1], (6, 20)),
}


@pytest.mark.parametrize(("weights", "scheme"), ROWS)
def test_integers_of_a_format_are_kept(weights: str, scheme: str) -> None:
    rows = ROWS[weights, scheme](np.random.default_rng(2)).astype(np.int8)
    found = kept.storage(Tensor("w", rows.shape, None, rows), weights, scheme)
    assert found is not None and (found.scheme, found.weights) == (scheme, weights)
    np.testing.assert_array_equal(found.expanded(), rows)
    rows[3, 5] = 100
    assert kept.storage(Tensor("w", rows.shape, None, rows), weights, scheme) is None


def test_formats_that_do_not_hold_them_are_refused(tmp_path: Path) -> None:
    graph = pipeline.run(importer.load(model_of("digits", tmp_path)))
    path = tmp_path / "written.onnx"
    path.write_bytes(onnx_save.dump(untrained(started(graph, "int4"))))
    again = quantize.quantize(pipeline.run(importer.load(path)), {}, True)
    usual = lower.Formats(lower.Format("int4"))
    chosen = lower.choose(again, usual, imported=True)
    assert chosen
    lowered = lower.lower(again, chosen, force=False, imported=True)
    for n in lowered.nodes:
        tensor = again.tensors.get(n.inputs[1]) if n.output in chosen else None
        if tensor is not None:
            found = lowered.tensors[n.inputs[1]]
            assert found.storage is not None and found.storage.bits == 4
            np.testing.assert_array_equal(found.values, tensor.values)
    with pytest.raises(UsageError, match="are not ternary"):
        lower.choose(again, replace(usual, usual=lower.Format("ternary")), imported=True)
    assert find("int4", None) is not None
