"""The importer: the reference models, dialects, and files that mean harm."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from codegen import execute
from codegen.importer import digest, load
from codegen.ir import Array
from codegen.pipeline import run
from targets.errors import ThumbnetError, UnsupportedModel, UsageError
from tests.codegen.tiny_models import Net, close, compiled, node, ours, samples, theirs

WEIGHTS = np.random.default_rng(2).normal(size=(6, 4, 3, 3)).astype(np.float32)
CONV = Net([node("Conv", "x w", "t"), node("Relu", "t")], [(1, 4, 8, 8)], {"w": WEIGHTS})


@pytest.mark.parametrize("name", ["kws", "ic", "vww", "ad", "sww", "kws_ref", "ad_ref"])
def test_reference_models(data_dir: Path, name: str) -> None:
    path = data_dir / "models" / f"{name}.onnx"
    graph = compiled(path)
    assert all(node.op.kind != "transpose" for node in graph.nodes)
    inputs = samples(graph)
    (mine,), (their,) = ours(graph, inputs), theirs(path, inputs)
    close(mine, their, 1e-3 * float(np.ptp(their)))


def test_digest(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert digest(tmp_path / "f").startswith("ba7816bf")
    with pytest.raises(UsageError, match="cannot be read"):
        digest(tmp_path / "absent")


def test_missing_file_folder_and_garbage(tmp_path: Path) -> None:
    for content in (b"", b"garbage", os.urandom(300)):
        (tmp_path / "net.onnx").write_bytes(content)
        with pytest.raises(ThumbnetError, match=r"net\.onnx"):
            load(tmp_path / "net.onnx")
    for path in (tmp_path, tmp_path / "absent.onnx"):
        with pytest.raises(UsageError):
            load(path)


def test_dynamic_batch_becomes_one(tmp_path: Path) -> None:
    net = Net([node("Relu", "x")], [("n", 3, 4)])
    assert load(net.save(tmp_path)).inputs[0].shape == (1, 3, 4)


def test_other_dynamic_sizes_are_named(tmp_path: Path) -> None:
    path = Net([node("Relu", "x")], [(1, "channels", 4)]).save(tmp_path)
    with pytest.raises(UnsupportedModel, match="'x'") as caught:
        load(path)
    assert "--shape x=" in caught.value.hint
    assert load(path, shapes={"x": (1, 5, 4)}).inputs[0].shape == (1, 5, 4)
    with pytest.raises(UsageError, match="no input 'z'"):
        load(path, shapes={"z": (1, 2)})


def test_unknown_operator_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="Det") as caught:
        load(Net([node("Det", "x")], [(1, 2, 2)]).save(tmp_path))
    assert "Conv, " in caught.value.hint


REFUSED = {
    "batch": Net([node("Relu", "x")], [(2, 3)]),
    "batch moved": Net([node("Transpose", "x", perm=[1, 0])], [(1, 3)]),
    "batch reshaped away": Net([node("Reshape", "x s")], [(1, 3)], {"s": np.array([3, 1])}),
    "linear resize": Net(
        [node("Resize", "x - s", mode="linear")],
        [(1, 1, 2, 2)],
        {"s": np.array([1, 1, 2, 2], np.float32)},
    ),
    "two activations": Net([node("MatMul", "x x1")], [(1, 3, 3)] * 2),
    "left constant": Net([node("MatMul", "c x")], [(1, 3, 3)], {"c": np.zeros((3, 3), np.float32)}),
    "reflect": Net(
        [node("Pad", "x p", mode="reflect")], [(1, 3, 3)], {"p": np.array([0, 0, 1, 0, 0, 0])}
    ),
    "backward slice": Net(
        [node("Slice", "x s e a t")],
        [(1, 4)],
        {k: np.array([v]) for k, v in {"s": -1, "e": -9, "a": 1, "t": -1}.items()},
    ),
    "nan": Net([node("Add", "x c")], [(1, 2)], {"c": np.array([1, np.nan], np.float32)}),
    "dynamic quantization": Net([node("DynamicQuantizeLinear", "x", "y s z")], [(1, 2)]),
    "dangling": Net([node("Relu", "nowhere")], [(1, 2)]),
    "cycle": Net([node("Relu", "b", "a"), node("Relu", "a", "b"), node("Add", "x b")], [(1, 2)]),
    "written twice": Net([node("Relu", "x"), node("Abs", "x")], [(1, 2)]),
    "constant output": Net([node("Relu", "c")], [(1, 2)], {"c": np.zeros((1, 2), np.float32)}),
    "bomb": Net(
        [node("ConstantOfShape", "s", "t"), node("Add", "x t")],
        [(1, 2)],
        {"s": np.array([1 << 40])},
    ),
    "pad bomb": Net([node("Pad", "x p")], [(1, 2)], {"p": np.array([0, 1 << 40, 0, 0])}, opset=13),
    "resize bomb": Net(
        [node("Resize", "x - - z", mode="nearest")],
        [(1, 1, 2, 2)],
        {"z": np.array([1, 1, 1 << 40, 2])},
    ),
    "wide sum": Net(
        [node("Add", "a b", "t"), node("Add", "x t")],
        [(1, 2)],
        {"a": np.zeros((1 << 13, 1), np.float32), "b": np.zeros((1, 1 << 13), np.float32)},
    ),
    "int16": Net(
        [node("QuantizeLinear", "x s z", "t"), node("DequantizeLinear", "t s z")],
        [(1, 2)],
        {"s": np.float32(0.1), "z": np.int16(0)},
        opset=21,
    ),
    "torn shape": Net([node("Reshape", "x s")], [(1, 6)], {"s": np.array([1, 5])}),
    "unfitting": Net([node("Add", "x x1")], [(1, 6), (1, 5)]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedModel):
        load(REFUSED[name].save(tmp_path), islands=False)


def test_control_flow_is_refused(tmp_path: Path) -> None:
    body = onnx.helper.make_graph([], "g", [], [])
    net = Net([node("If", "x", then_branch=body, else_branch=body)], [(1,)])
    with pytest.raises(UnsupportedModel, match="control flow"):
        load(net.save(tmp_path))


@pytest.mark.parametrize("dims", [[1 << 40, 1 << 40], [-1], [1 << 29], [1] * 9])
def test_unreasonable_sizes(tmp_path: Path, dims: list[int]) -> None:
    model = CONV.model()
    model.graph.initializer[0].dims[:] = dims
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedModel, match="unreasonable"):
        load(tmp_path / "net.onnx")


def test_double_and_half_weights(tmp_path: Path) -> None:
    for kind in (np.float16, np.float64):
        net = Net(
            [node("Cast", "c", "f", to=1), node("Add", "x f")],
            [(1, 2)],
            {"c": np.array([1, 2], kind)},
        )
        graph = load(net.save(tmp_path))
        assert [t.data.dtype for t in graph.tensors.values() if t.data is not None] == [np.float32]


def external(folder: Path, **entries: str) -> Path:
    model = CONV.model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    folder.mkdir(exist_ok=True)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    (folder / "w.bin").write_bytes(b"\0" * 4 + WEIGHTS.tobytes())
    return folder / "net.onnx"


def test_external_data_in_the_folder_is_read(tmp_path: Path) -> None:
    path = external(tmp_path / "m", location="w.bin", offset="4")
    graph = run(load(path))
    arrays: list[Array] = [t.data for t in graph.tensors.values() if t.data is not None]
    assert any(np.array_equal(a, WEIGHTS.transpose(0, 2, 3, 1)) for a in arrays)


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "../w.bin"},
        {"location": "a/../../w.bin"},
        {"location": "/etc/passwd"},
        {"location": "link.bin"},
        {"location": "dir/w.bin"},
        {"location": "hard.bin"},
        {"location": "."},
        {"location": "fifo"},
        {"location": ""},
        {"location": "w.bin", "offset": "-4"},
        {"location": "w.bin", "offset": "8"},
        {"location": "w.bin", "offset": "4", "length": str(1 << 40)},
        {"location": "w.bin", "offset": "four"},
    ],
)
def test_external_data_elsewhere_is_refused(tmp_path: Path, entries: dict[str, str]) -> None:
    folder = tmp_path / "m"
    path = external(folder, **entries)
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    (folder / "dir").symlink_to(tmp_path)
    (folder / "hard.bin").hardlink_to(tmp_path / "w.bin")
    os.mkfifo(folder / "fifo")
    with pytest.raises(UnsupportedModel):
        load(path)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_mutated_files_raise_our_errors_only(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(CONV.model().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    (tmp_path / "net.onnx").write_bytes(content)
    with suppress(ThumbnetError):
        run(load(tmp_path / "net.onnx"))


@pytest.mark.parametrize("opset", [7, 13, 21, onnx.defs.onnx_opset_version()])
def test_oldest_to_newest_opset(opset: int, tmp_path: Path) -> None:
    """Newer opsets than onnxruntime knows are compared with onnx's own evaluator."""
    generator = np.random.default_rng(opset)
    weights = numpy_helper.from_array(generator.normal(size=(4, 3, 3, 3)).astype(np.float32), "w")
    chain = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Softmax", ["e"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph(chain, "g", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    onnx.save(model, tmp_path / "m.onnx")
    sample = generator.normal(size=(1, 3, 8, 8)).astype(np.float32)
    made = run(load(tmp_path / "m.onnx"))
    found = execute.run_float(made, (execute.to_device(made.inputs[0], sample),))[0]
    wanted = list(ReferenceEvaluator(model).run(None, {"x": sample}))
    close(found, wanted[0], 1e-5)
