"""Numbers, wirings and versions that make no sense: refused in words that say where, or compiled."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from codegen import importer
from codegen.ir import Array
from targets.errors import ThumbnetError, UnsupportedModel
from tests.codegen.tiny_models import Net, node
from tests.hostile import fields
from tests.hostile.mutate import messages
from tests.hostile.trial import attempt
from thumbnet import compiler
from thumbnet.options import CompileOptions

Constants = Mapping[str, Array | np.generic]
IMAGE = (1, 1, 4, 4)
ZERO, NAN, INF = np.int8(0), np.float32("nan"), np.float32("inf")


def conv(weights: float = 1.0, bias: float = 0.0, **constants: Array) -> Net:
    w, b = np.full((2, 1, 3, 3), 0.5, np.float32), np.zeros(2, np.float32)
    w[1, 0, 2, 2], b[1] = weights, bias
    return Net([node("Conv", "x w b", name="layer")], [IMAGE], {"w": w, "b": b, **constants})


def grid(scale: Any, zero: Any = ZERO, shape: tuple[int, ...] = (1, 4)) -> Net:
    """The input rounded to a grid."""
    nodes = [
        node("QuantizeLinear", "x s z", "q", name="quantizer"),
        node("DequantizeLinear", "q s z", "d", name="reader"),
        node("Relu", "d"),
    ]
    return Net(nodes, [shape], {"s": np.asarray(scale, np.float32), "z": np.asarray(zero)})


def weights(scale: Any, zero: Any = ZERO, stored: str = "int8", **attributes: Any) -> Net:
    """A layer with stored weights."""
    nodes = [
        node("DequantizeLinear", "w s z", "d", name="reader", **attributes),
        node("MatMul", "x d", name="layer"),
    ]
    w = np.arange(12).reshape(4, 3).astype(stored)
    return Net(nodes, [(1, 4)], {"w": w, "s": np.asarray(scale, np.float32), "z": np.asarray(zero)})


def normalization(**numbers: float) -> Net:
    values: dict[str, Array | np.generic] = {
        name: np.full(1, numbers.get(name, 1.0), np.float32) for name in ("g", "o", "m", "v")
    }
    return Net([node("BatchNormalization", "x g o m v", name="layer")], [IMAGE], values)


def qonnx(scale: float, zero: float, bits: float) -> Net:
    values = {"s": np.float32(scale), "z": np.float32(zero), "b": np.float32(bits)}
    domain = "qonnx.custom_op.general"
    nodes = [node("Quant", "x s z b", name="quantizer", domain=domain, signed=1, narrow=0)]
    return Net(nodes, [(1, 4)], values, domains=(domain,))


def relus(*wires: str) -> Net:
    """Relu nodes n0, n1 ... each from one value to another, as in "x>y"."""
    pairs = [wire.split(">") for wire in wires]
    return Net([node("Relu", a, b, name=f"n{i}") for i, (a, b) in enumerate(pairs)], [(1, 4)])


REFUSED: Mapping[str, tuple[Net, str]] = {
    "NaN weight": (conv(weights=float("nan")), "'w'.*NaN"),
    "infinite weight": (conv(weights=float("inf")), "'w'.*infinity"),
    "infinite bias": (conv(bias=float("-inf")), "'b'.*infinity"),
    "weight beyond float32": (
        Net([node("MatMul", "x w")], [(1, 2)], {"w": np.full((2, 2), 1e300)}),
        "'w'|MatMul",
    ),
    "scale 0": (grid(0.0), "quantizer"),
    "scale -0": (grid(-0.0), "quantizer"),
    "scale below 0": (grid(-0.5), "quantizer"),
    "scale NaN": (grid(NAN), "'s'"),
    "scale infinite": (grid(INF), "quantizer"),
    "scales for channels of activations": (grid([0.1] * 4), "quantizer"),
    "no scale": (grid(np.zeros(0)), "quantizer"),
    "weights' scale 0": (weights([0.1, 0.0, 0.1], np.zeros(3, np.int8)), "reader"),
    "weights' scale below 0": (weights(-1.0), "reader"),
    "weights' scale infinite": (weights(INF), "reader"),
    "too few scales": (weights([0.1, 0.2], np.zeros(2, np.int8)), "reader"),
    "scales on no axis": (weights([0.1] * 3, np.zeros(3, np.int8), axis=7), "reader"),
    "zero points of another count": (weights([0.1] * 3, np.zeros(2, np.int8)), "reader"),
    "zero point of another type": (grid(0.1, np.float32(0)), "quantizer"),
    "wide zero point": (grid(0.1, np.int32(1 << 20)), "quantizer"),
    "QONNX zero point out of range": (qonnx(0.1, 1e9, 8), "quantizer"),
    "QONNX zero point of a fraction": (qonnx(0.1, 0.5, 8), "quantizer"),
    "QONNX scale 0": (qonnx(0.0, 0, 8), "quantizer"),
    "QONNX of 0 bits": (qonnx(0.1, 0, 0), "quantizer"),
    "QONNX of 1000 bits": (qonnx(0.1, 0, 1000), "quantizer"),
    "variance below 0": (normalization(v=-1.0), "layer"),
    "cycle": (relus("b>a", "a>b", "a>y"), "'n0' reads 'b'"),
    "node that reads itself": (relus("y>y"), "'n0' reads 'y'"),
    "dangling input": (relus("nowhere>y"), "'n0' reads 'nowhere'"),
    "value written twice": (relus("x>y", "x>y"), "'n1' writes 'y'"),
    "node that writes an input": (relus("x>x", "x>y"), "'n0' writes 'x'"),
    "node that writes a weight": (
        Net([node("Relu", "x", "w", name="n0")], [(1, 4)], {"w": np.zeros(4, np.float32)}),
        "'n0' writes 'w'",
    ),
    "output that nothing writes": (relus("x>z"), "'y'"),
    "input of 0": (Net([node("Relu", "x")], [(1, 0)]), "'x'"),
    "input below 0": (Net([node("Relu", "x")], [(1, -4)]), "'x'"),
    "huge input": (Net([node("Relu", "x")], [(1, 1 << 62, 1 << 62)]), "'x'"),
    "input of no axes": (Net([node("Relu", "x")], [()]), "'x'"),
    "input of 9 axes": (Net([node("Relu", "x")], [(1,) * 9]), "'x'"),
    "opset 0": (Net([node("Relu", "x")], [(1, 4)], opset=0), "opset 0 is not among"),
    "opset of tomorrow": (
        Net([node("Relu", "x")], [(1, 4)], opset=9999),
        "opset 9999 is not among",
    ),
    "operator of another domain": (
        Net([node("Relu", "x", domain="else.where")], [(1, 4)], domains=("else.where",)),
        "else.where::Relu",
    ),
    "domain without opset": (Net([node("Relu", "x", domain="else.where")], [(1, 4)]), "else.where"),
}


def _append_input(model: onnx.ModelProto, name: str) -> None:
    model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]))


def _resized(model: onnx.ModelProto, size: int) -> None:
    model.graph.initializer[0].raw_data = bytes(size)


def _doubled(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].float_data.extend([1.0] * 18)


def _nested_type(model: onnx.ModelProto, depth: int) -> None:
    kind = model.graph.input[0].type
    for _ in range(depth):
        kind = kind.sequence_type.elem_type
    kind.tensor_type.elem_type = 1


def _opset(model: onnx.ModelProto, domain: str, version: int) -> None:
    model.opset_import.add(domain=domain, version=version)


CHANGED: Mapping[str, tuple[Callable[[onnx.ModelProto], object], str]] = {
    "weights of too few bytes": (lambda m: _resized(m, 71), "tensor name: w"),
    "weights of too many bytes": (lambda m: _resized(m, 73), "tensor 'w'"),
    "weights of no bytes": (lambda m: _resized(m, 0), "tensor name: w"),
    "weights stored twice": (_doubled, "w"),
    "weights of an unknown type": (
        lambda m: setattr(m.graph.initializer[0], "data_type", 128), "'w'.*type 128"),
    "weights that are strings": (
        lambda m: setattr(m.graph.initializer[0], "data_type", TensorProto.STRING), "w"),
    "weights below 0": (lambda m: m.graph.initializer[0].dims.insert(0, -1), "'w'"),
    "weights of 2^40": (lambda m: m.graph.initializer[0].dims.insert(0, 1 << 40), "'w'"),
    "weights of 9 axes": (lambda m: m.graph.initializer[0].dims.extend([1] * 5), "'w'"),
    "weights of one name": (
        lambda m: setattr(m.graph.initializer[1], "name", "w"), "two .* called 'w'"),
    "inputs of one name": (lambda m: _append_input(m, "x"), "two .* called 'x'"),
    "opsets of one domain": (lambda m: _opset(m, "", 17), "13 and 17 of the domain ''"),
    "opsets of one domain in two spellings": (lambda m: _opset(m, "ai.onnx", 17), "13 and 17"),
    "no opset": (lambda m: m.ClearField("opset_import"), "opset"),
    "opset below 0": (lambda m: setattr(m.opset_import[0], "version", -1), "opset -1"),
    "input of nested types": (lambda m: _nested_type(m, 30), "'x'"),
    "attribute of no type": (
        lambda m: m.graph.node[0].attribute.add(name="pads"), "'layer'.*'pads'|Conv"),
    "attribute twice": (
        lambda m: [m.graph.node[0].attribute.append(helper.make_attribute("group", 1))
                   for _ in range(2)], "layer"),
    "attribute that Conv does not have": (
        lambda m: m.graph.node[0].attribute.append(helper.make_attribute("evil", 1)), "layer"),
    "sparse weights": (lambda m: m.graph.sparse_initializer.add(), "sparse"),
    "local functions": (lambda m: m.functions.add(name="f", domain="d"), "local functions"),
    "no graph": (lambda m: m.ClearField("graph"), "no graph"),
    "no nodes": (lambda m: m.graph.ClearField("node"), "'y'"),
    "no outputs": (lambda m: m.graph.ClearField("output"), "no outputs"),
    "no inputs": (lambda m: m.graph.ClearField("input"), "'layer' reads 'x'"),
}  # fmt: skip


def error_of(model: onnx.ModelProto, folder: Path) -> ThumbnetError:
    """The error that a model ends in."""
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ThumbnetError) as caught:
        compiler.compile_model(folder / "net.onnx", CompileOptions(calib="random"))
    return caught.value


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_is_refused_by_name(name: str, tmp_path: Path) -> None:
    net, says = REFUSED[name]
    error = error_of(net.model(), tmp_path)
    assert isinstance(error, UnsupportedModel)
    assert re.search(says, error.message), error


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_model_is_refused_by_name(name: str, tmp_path: Path) -> None:
    change, says = CHANGED[name]
    model = conv().model()
    change(model)
    error = error_of(model, tmp_path)
    assert re.search(says, error.message), error


EXTREMES: Mapping[str, Net] = {
    **{f"weight {v:g}": conv(weights=v) for v in (0.0, 1e-45, 1e-38, 1e30, 3e38)},
    **{f"bias {v:g}": conv(bias=v) for v in (1e-45, -1e-38, 1e30, -3e38)},
    **{f"grid {v:g}": grid(v) for v in (1e-30, 1e-10, 1e10, 1e27)},
    **{f"weights' grid {v:g}": weights([0.1, v, 0.1], np.zeros(3, np.int8)) for v in (1e-30, 1e27)},
    **{f"variance {v:g}": normalization(v=v) for v in (0.0, 1e-45, 3e38)},
    **{f"factor {v:g}": normalization(g=v) for v in (1e-45, 1e-38, 1e30)},
    "zero points at the ends": grid(0.1, np.int8(-128)),
    "zero points at the other ends": grid(0.1, np.uint8(255)),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_extremes_compile_without_a_warning(name: str, tmp_path: Path) -> None:
    """Or are refused: numbers beyond float32 on the way are no reason for a traceback."""
    (tmp_path / "net.onnx").write_bytes(EXTREMES[name].model().SerializeToString())
    with warnings.catch_warnings(), contextlib.suppress(ThumbnetError):
        warnings.simplefilter("error")
        made = compiler.compile_model(tmp_path / "net.onnx", CompileOptions(calib="random"))
        assert "net.c" in made.files


def test_text_that_is_no_utf8(tmp_path: Path) -> None:
    """Every text of a file in turn holds bytes that no text may hold."""
    model = fields.model()
    outcomes = set()
    texts = [(m, f) for m in messages(model) for f, v in m.ListFields() if isinstance(v, str)]
    places = {(m.DESCRIPTOR.name, f.name): (m, f) for m, f in texts}.values()  # one of each kind
    assert len(places) > 15
    for message, field in places:
        kept = getattr(message, field.name)
        setattr(message, field.name, "@@@@@@")
        content = model.SerializeToString().replace(b"@@@@@@", b"\xff\xfe\xc0\x80\xed\xa0")
        setattr(message, field.name, kept)
        (tmp_path / "net.onnx").write_bytes(content)
        outcomes.add(attempt(tmp_path / "net.onnx", whole=True).outcome)
    assert outcomes == {"compiled", "refused"}


@pytest.mark.parametrize("depth", [49, 100, 1000, 10_000])
def test_messages_within_messages(depth: int, tmp_path: Path) -> None:
    """Fields that nest: a subgraph of an attribute of a node of a subgraph ..."""
    content = b""
    for level in range(depth):
        number = (1, 5, 6)[level % 3]  # GraphProto.node, NodeProto.attribute, AttributeProto.g
        content = bytes([number << 3 | 2]) + _varint(len(content)) + content
    whole = conv().model().SerializeToString() + b"\x3a" + _varint(len(content)) + content
    (tmp_path / "net.onnx").write_bytes(whole)
    with pytest.raises(ThumbnetError):
        importer.load(tmp_path / "net.onnx")


def _varint(value: int) -> bytes:
    groups = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([group | 128 for group in groups[:-1]] + groups[-1:])
