"""External data: from plain files in the model's folder alone, and inside before anyone else sees it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from codegen import importer
from codegen.ir import Array
from codegen.onnx_load import read_model
from targets.errors import UnsupportedModel
from tests.codegen.tiny_models import Net, node
from tests.hostile.mutate import messages

WEIGHTS = np.arange(24, dtype=np.float32).reshape(4, 6) / 7
SIZE = WEIGHTS.nbytes


def network() -> onnx.ModelProto:
    return Net([node("MatMul", "x w")], [(1, 4)], {"w": WEIGHTS}).model()


def point(tensor: onnx.TensorProto, **entries: str) -> None:
    """Says that a tensor lies elsewhere."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The model's folder, with traps in it and treasure around it."""
    inside = tmp_path / "model"
    (inside / "sub").mkdir(parents=True)
    for path in (tmp_path / "secret.bin", inside / "w.bin", inside / "sub" / "w.bin"):
        path.write_bytes(WEIGHTS.tobytes())
    (inside / "link.bin").symlink_to(tmp_path / "secret.bin")
    (inside / "near.bin").symlink_to("w.bin")
    (inside / "out").symlink_to(tmp_path)
    (inside / "root").symlink_to("/")
    (inside / "loop").symlink_to("loop")
    (inside / "hard.bin").hardlink_to(tmp_path / "secret.bin")
    os.mkfifo(inside / "fifo")
    (inside / "zero").symlink_to("/dev/zero")
    yield inside
    (inside / "fifo").unlink()


def load(folder: Path, **entries: str) -> list[Array]:
    """The constants of a model whose weights lie where the entries say."""
    model = network()
    point(model.graph.initializer[0], **entries)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    graph = importer.load(folder / "net.onnx")
    return [tensor.data for tensor in graph.tensors.values() if tensor.data is not None]


REFUSED: Mapping[str, Mapping[str, str]] = {
    "parent": {"location": "../secret.bin"},
    "parent behind a folder": {"location": "sub/../../secret.bin"},
    "absolute": {"location": "/etc/passwd"},
    "link": {"location": "link.bin"},
    "link within the folder": {"location": "near.bin"},
    "link to a folder": {"location": "out/secret.bin"},
    "link to /": {"location": "root/etc/passwd"},
    "link to itself": {"location": "loop"},
    "hard link": {"location": "hard.bin"},
    "offset beyond": {"location": "w.bin", "offset": str(SIZE + 1)},
    "offset below 0": {"location": "w.bin", "offset": "-4"},
    "offset and length beyond": {"location": "w.bin", "offset": "4", "length": str(SIZE)},
    "length of 2^40": {"location": "w.bin", "length": str(1 << 40)},
    "length below 0": {"location": "w.bin", "length": "-1"},
    "length no number": {"location": "w.bin", "length": "0x60"},
    "length of many digits": {"location": "w.bin", "length": "9" * 5000},
    "unknown key": {"location": "w.bin", "mode": "write"},
    "base path": {"location": "w.bin", "basepath": "/"},
    "FIFO": {"location": "fifo"},
    "/dev/zero": {"location": "/dev/zero"},
    "link to /dev/zero": {"location": "zero"},
    "/proc": {"location": "/proc/self/environ"},
    "link to /proc": {"location": "root/proc/self/environ"},
    "folder": {"location": "sub"},
    "the folder itself": {"location": "."},
    "nothing": {"location": ""},
    "no location": {"offset": "0"},
    "absent": {"location": "none.bin"},
    "file as a folder": {"location": "w.bin/w.bin"},
    "backslash": {"location": "..\\secret.bin"},
    "NUL": {"location": "w.bin\0.txt"},
    "too long": {"location": "w" * 5000},
    "URL": {"location": "file:///etc/passwd"},
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    with pytest.raises(UnsupportedModel, match="external data") as caught:
        load(folder, **REFUSED[name])
    assert "'w'" in str(caught.value) or "w" * 200 in str(caught.value)


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "w.bin"},
        {"location": "sub/w.bin", "offset": "0", "length": str(SIZE)},
        {"location": "./w.bin", "checksum": "0" * 40},
    ],
)
@pytest.mark.parametrize("place", [".", "..", "/"])
def test_read_wherever_the_process_runs(
    entries: dict[str, str], place: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / place)
    found = load(folder, **entries)
    assert any(np.array_equal(constant, WEIGHTS.T) for constant in found)


def test_a_model_behind_a_link_has_the_folder_of_its_file(folder: Path, tmp_path: Path) -> None:
    load(folder, location="w.bin")
    other = tmp_path / "other"
    other.mkdir()
    (other / "net.onnx").symlink_to(folder / "net.onnx")
    assert importer.load(other / "net.onnx").tensors


def test_a_file_of_the_working_folder_is_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries that get a model without its path look there."""
    monkeypatch.chdir(folder.parent)
    with pytest.raises(UnsupportedModel, match=r"secret\.bin"):
        load(folder, location="secret.bin")


def test_more_bytes_than_the_tensor_has(folder: Path) -> None:
    (folder / "w.bin").write_bytes(bytes(1 << 20))
    with pytest.raises(UnsupportedModel, match="longer than the tensor"):
        load(folder, location="w.bin")


def test_keys_given_twice(folder: Path) -> None:
    model = network()
    point(model.graph.initializer[0], location="w.bin")
    model.graph.initializer[0].external_data.add(key="location", value="../secret.bin")
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedModel, match="twice"):
        importer.load(folder / "net.onnx")


def _attribute(model: onnx.ModelProto) -> Any:
    found = helper.make_node("Constant", [], ["c"])
    found.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    model.graph.node.insert(0, found)
    return model.graph.node[0].attribute[0].t


def _mistyped(model: onnx.ModelProto) -> Any:
    graph = model.graph.node[0].attribute.add(name="alpha", type=onnx.AttributeProto.INT).g
    return graph.initializer.add()


def _nested(model: onnx.ModelProto) -> Any:
    graph = model.graph.node[0].attribute.add(name="body", type=onnx.AttributeProto.GRAPH).g
    return graph.initializer.add()


def _sparse(model: onnx.ModelProto) -> Any:
    return model.graph.sparse_initializer.add().values


def _sparse_attribute(model: onnx.ModelProto) -> Any:
    return model.graph.node[0].attribute.add(name="alpha").sparse_tensors.add().values


def _function(model: onnx.ModelProto) -> Any:
    return model.functions.add(name="f").node.add().attribute.add(name="a").t


PLACES: Mapping[str, Callable[[onnx.ModelProto], Any]] = {
    "attribute": _attribute,
    "list in an attribute": lambda m: m.graph.node[0].attribute.add(name="a").tensors.add(),
    "subgraph": _nested,
    "subgraph that says it is a number": _mistyped,
    "sparse weights": _sparse,
    "sparse attribute": _sparse_attribute,
    "function": _function,
    "training": lambda m: m.training_info.add().initialization.initializer.add(),
}


@pytest.mark.parametrize("name", PLACES)
def test_no_tensor_escapes(name: str, folder: Path) -> None:
    """Wherever a tensor may lie in a file: it is read by us, dropped, or the model is refused."""
    model = network()
    tensor = PLACES[name](model)
    tensor.data_type = TensorProto.FLOAT
    tensor.dims.append(6)
    point(tensor, location="../secret.bin")
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    try:
        found = read_model(folder / "net.onnx")
    except UnsupportedModel:
        return
    left = [m for m in messages(found) if isinstance(m, onnx.TensorProto) and m.external_data]
    assert not left
    assert name == "training"


def test_nothing_but_the_model_and_its_data_is_opened(folder: Path) -> None:
    opened: list[str] = []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and recording:
            opened.append(str(arguments[0]))

    recording = False
    sys.addaudithook(hook)  # stays to the end of the process, and does nothing by then
    load(folder, location="w.bin")
    recording = True
    load(folder, location="w.bin")
    recording = False
    within = {Path(name).name for name in opened if name.startswith(str(folder))}
    assert within == {"net.onnx", "w.bin"}
    assert not [name for name in opened if name.startswith("/proc") or "secret" in name]
