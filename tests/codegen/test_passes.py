"""What the passes leave of small graphs; the numbers are compared with onnxruntime each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from codegen.execute import run_float
from codegen.importer import load
from codegen.ir import Array, Graph, Tensor
from codegen.ops.conv2d import Conv2D
from codegen.ops.max_pool import MaxPool
from codegen.pipeline import PASSES, run
from targets.errors import UnsupportedModel
from tests.codegen.tiny_models import (
    Net,
    check,
    close,
    compiled,
    fake_quantized,
    node,
    samples,
    theirs,
)

RNG = np.random.default_rng(3)


def normal(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def kinds(graph: Graph) -> list[str]:
    return [node.op.kind for node in graph.nodes]


def cnn(*tail: tuple[str, str], last: str = "p", normed: bool = True) -> Net:
    """Conv, batch norm, Relu, depthwise Conv, MaxPool, Flatten, Gemm: as PyTorch exports it."""
    nodes = [
        node("Conv", "x w1 b1", "c1", pads=[1, 1, 1, 1]),
        *([node("BatchNormalization", "c1 s o m v", "n1")] if normed else []),
        node("Relu", "n1" if normed else "c1", "r1"),
        node("Conv", "r1 w2", "c2", group=6, strides=[2, 2]),
        node("MaxPool", "c2", "p", kernel_shape=[2, 2], strides=[2, 2]),
        *(node(op, name, f"{name}_") for op, name in tail),
        node("Flatten", last, "f"),
        node("Relu", "f", "g"),
        node("Add", "g c", "h"),
        node("Gemm", "h w3 b3", transB=1),
    ]
    constants = {
        "w1": normal(6, 3, 3, 3), "b1": normal(6), "s": normal(6), "o": normal(6), "m": normal(6),
        "v": np.abs(normal(6)), "w2": normal(6, 1, 3, 3), "c": normal(1, 54),
        "w3": normal(4, 54), "b3": normal(4),
    }  # fmt: skip
    return Net(nodes, [(1, 3, 15, 15)], constants)


def test_pytorch_network_needs_no_transpose(tmp_path: Path) -> None:
    graph = check(cnn().save(tmp_path))
    assert kinds(graph) == ["conv2d", "conv2d", "max_pool", "reshape", "lookup", "add", "dense"]
    assert graph.inputs[0].perm == (0, 2, 3, 1)


NETS = {
    "residual": Net(
        [
            node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
            node("Relu", "a", "r"),
            node("Conv", "r w", "b", pads=[1, 1, 1, 1]),
            node("Add", "b r", "s"),
            node("Clip", "s lo hi", "t"),
            node("GlobalAveragePool", "t"),
        ],
        [(1, 4, 6, 5)],
        {"w": normal(4, 4, 3, 3), "lo": np.float32(0), "hi": np.float32(6)},
    ),
    "squeeze and excite": Net(
        [
            node("Conv", "x w", "a"),
            node("ReduceMean", "a", "m", axes=[2, 3], keepdims=0),
            node("Gemm", "m g", "d"),
            node("Sigmoid", "d", "e"),
            node("Unsqueeze", "e axes", "u"),
            node("Mul", "a u", "t"),
            node("Conv", "t v"),
        ],
        [(1, 3, 6, 5)],
        {"w": normal(4, 3, 3, 3), "g": normal(4, 4), "axes": np.array([2, 3]),
         "v": normal(2, 4, 1, 1)},
    ),
    "1-D": Net(
        [
            node("Conv", "x w", "a", strides=[2]),
            node("Relu", "a", "r"),
            node("MaxPool", "r", "p", kernel_shape=[2]),
            node("Flatten", "p", "f"),
            node("MatMul", "f g"),
        ],
        [(1, 6, 21)],
        {"w": normal(5, 6, 3), "g": normal(45, 3)},
    ),
    "concat, pad, slice, split": Net(
        [
            node("Conv", "x w", "a"),
            node("Conv", "x w", "b"),
            node("Concat", "a b", "c", axis=1),
            node("Pad", "c p", "d"),
            node("Split", "d", "e f", axis=1),
            node("Slice", "e s1 s2 s3", "g"),
            node("Conv", "g v"),
        ],
        [(1, 3, 6, 5)],
        {"w": normal(4, 3, 3, 3), "v": normal(2, 4, 1, 1), "p": np.array([0, 0, 1, 0, 0, 0, 0, 2]),
         "s1": np.array([1]), "s2": np.array([5]), "s3": np.array([2])},
    ),
    "normalised input": Net(
        [
            node("Sub", "x m", "a"),
            node("Div", "a s", "b"),
            node("Conv", "b w"),
        ],
        [(1, 3, 6, 5)],
        {"m": normal(1, 3, 1, 1), "s": np.abs(normal(3, 1, 1)) + 1, "w": normal(4, 3, 3, 3)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_layout_vanishes(tmp_path: Path, name: str) -> None:
    assert "transpose" not in kinds(check(NETS[name].save(tmp_path)))


def test_every_pass_keeps_the_numbers(tmp_path: Path) -> None:
    graph = load(cnn().save(tmp_path))
    x = RNG.normal(size=(2, 3, 15, 15)).astype(np.float32)
    (before,) = run_float(graph, (x,))
    for number in range(len(PASSES) + 1):
        passed = run(graph, PASSES[:number])
        perm = passed.inputs[0].perm
        (after,) = run_float(passed, (x.transpose(perm),))
        close(before, after)


def test_dump_writes_one_text_per_pass(tmp_path: Path) -> None:
    run(load(cnn().save(tmp_path)), dump=tmp_path / "dump")
    names = sorted(path.name for path in (tmp_path / "dump").iterdir())
    assert len(names) == len(PASSES) + 1
    assert names[1] == "01-lift_tables.txt"


def test_pads_are_fused(tmp_path: Path) -> None:
    pads = np.array([0, 0, 1, 1, 0, 0, 0, 1])
    net = Net(
        [
            node("Pad", "x p", "a"),
            node("Conv", "a w", "b"),
            node("Pad", "b p low", "c"),
            node("MaxPool", "c", kernel_shape=[2, 2]),
        ],
        [(1, 3, 6, 5)],
        {"p": pads, "low": np.float32(-np.inf), "w": normal(4, 3, 3, 3)},
    )
    graph = check(net.save(tmp_path))
    conv, pool = (node.op for node in graph.nodes)
    assert isinstance(conv, Conv2D)
    assert isinstance(pool, MaxPool)
    assert conv.pads == pool.pads == (1, 1, 0, 1)


def test_unfoldable_batch_norm_is_one_depthwise_convolution(tmp_path: Path) -> None:
    net = Net(
        [
            node("MaxPool", "x", "p", kernel_shape=[2, 2]),
            node("BatchNormalization", "p s o m v", "n"),
            node("Relu", "n", "r"),
            node("Conv", "r w"),
        ],
        [(1, 3, 6, 5)],
        {"s": normal(3), "o": normal(3), "m": normal(3), "v": np.abs(normal(3)),
         "w": normal(4, 3, 1, 1)},
    )  # fmt: skip
    graph = check(net.save(tmp_path))
    assert kinds(graph) == ["max_pool", "conv2d", "conv2d"]
    assert graph.nodes[1].op == Conv2D(groups=3, clamp=(0.0, np.inf))


def test_shared_values_are_not_folded_away(tmp_path: Path) -> None:
    net = Net(
        [node("Conv", "x w", "a"), node("Relu", "a", "y"), node("Sigmoid", "a", "z")],
        [(1, 3, 6, 5)],
        {"w": normal(4, 3, 3, 3)},
        outputs=("y", "z"),
    )
    assert kinds(check(net.save(tmp_path))) == ["conv2d", "lookup", "lookup"]


class Random(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, shape: tuple[int | str, ...]) -> None:
        self.left = 8
        self.shape = shape

    def get_next(self) -> dict[str, Array] | None:
        self.left -= 1
        return {"x": normal(*map(int, self.shape))} if self.left >= 0 else None


FORMS = [
    (form, activation, per_channel)
    for form in (QuantFormat.QDQ, QuantFormat.QOperator)
    for activation in (QuantType.QInt8, QuantType.QUInt8)
    for per_channel in (False, True)
]
POOLED = cnn(("GlobalAveragePool", "p"), last="p_", normed=False)
QUANTIZABLE = {
    "cnn": Net(
        POOLED.nodes, POOLED.shapes, {**POOLED.constants, "c": normal(1, 6), "w3": normal(4, 6)}
    ),
    **{name: net for name, net in NETS.items() if name != "normalised input"},
}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form[0].name}-{form[1].name}-{form[2]}")
@pytest.mark.parametrize("name", QUANTIZABLE)
def test_quantized_models_keep_their_grids(
    tmp_path: Path, name: str, form: tuple[QuantFormat, QuantType, bool]
) -> None:
    net, target = QUANTIZABLE[name], tmp_path / "quantized.onnx"
    quantize_static(
        net.save(tmp_path), target, Random(net.shapes[0]), quant_format=form[0],
        activation_type=form[1], weight_type=QuantType.QInt8, per_channel=form[2],
    )  # fmt: skip
    graph = compiled(target)
    assert not {"quantize", "dequantize", "transpose"} & set(kinds(graph)), str(graph)
    for step in graph.nodes:
        if step.op.kind in ("conv2d", "dense"):
            check_weights(*(graph.tensors[name] for name in step.inputs[1:]))
    inputs = samples(graph)
    (mine,), (their,) = fake_quantized(graph, inputs), theirs(target, inputs)
    grid = graph.tensors[graph.outputs[0].tensor].quant
    assert grid is not None
    assert float(np.ptp(their)) > 10 * grid.scale
    close(mine, their, 1.01 * grid.scale)


def check_weights(w: Tensor, b: Tensor) -> None:
    assert w.data is not None
    assert w.data.dtype == np.int8
    assert w.quant is not None
    assert w.quant.axis == 0
    assert len(w.quant.scales) == w.shape[0]
    assert set(w.quant.zero_points) == {0}
    assert b.quant is None or b.quant.width == 32


def qdq(x: str, y: str) -> list[onnx.NodeProto]:
    return [node("QuantizeLinear", f"{x} s z", f"{y}q"), node("DequantizeLinear", f"{y}q s z", y)]


def test_weights_quantized_in_the_graph_are_folded(tmp_path: Path) -> None:
    weights = np.array([0.5, 1.5, 2.5, -0.5], np.float32).reshape(2, 2)
    nodes = [*qdq("x", "a"), *qdq("w", "v"), node("Gemm", "a v", "t", transB=1), *qdq("t", "y")]
    net = Net(nodes, [(1, 2)], {"w": weights, "s": np.float32(1), "z": np.int8(0)})
    graph = compiled(net.save(tmp_path))
    assert kinds(graph) == ["dense"]
    stored = graph.tensors[graph.nodes[0].inputs[1]].data
    assert stored is not None
    assert stored.tolist() == [[0, 2], [2, 0]]  # half to even


def test_grids_that_disagree_are_refused(tmp_path: Path) -> None:
    net = Net(
        [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q t z")],
        [(1, 2)],
        {"s": np.float32(1), "t": np.float32(2), "z": np.int8(0)},
    )
    with pytest.raises(UnsupportedModel, match="another scale"):
        compiled(net.save(tmp_path))


def test_stored_integers_may_be_clipped_and_moved(tmp_path: Path) -> None:
    net = Net(
        [
            node("QuantizeLinear", "x s z", "q"),
            node("Clip", "q lo hi", "c"),
            node("MaxPool", "c", "p", kernel_shape=[2, 2]),
            node("Transpose", "p", "t", perm=[0, 2, 3, 1]),
            node("DequantizeLinear", "t s z"),
        ],
        [(1, 3, 5, 6)],
        {"s": np.float32(0.02), "z": np.uint8(120), "lo": np.uint8(90), "hi": np.uint8(200)},
    )
    path = net.save(tmp_path)
    graph = compiled(path)
    inputs = samples(graph)
    (mine,), (their,) = fake_quantized(graph, inputs), theirs(path, inputs)
    close(mine, their, 1e-6)


def test_computing_on_stored_integers_is_refused(tmp_path: Path) -> None:
    net = Net(
        [
            node("QuantizeLinear", "x s z", "q"),
            node("Relu", "q", "r"),
            node("DequantizeLinear", "r s z"),
        ],
        [(1, 2)],
        {"s": np.float32(1), "z": np.int8(3)},
        opset=14,
    )
    with pytest.raises(UnsupportedModel, match="no DequantizeLinear"):
        compiled(net.save(tmp_path))
