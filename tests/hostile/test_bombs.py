"""Files that ask for much are refused in a clear line, at once, and without taking memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from onnx import TensorProto

from codegen import importer
from targets.errors import UnsupportedModel, UsageError
from tests.hostile.bombs import MILLIONS, bombs

ROOT = Path(__file__).resolve().parents[2]
NAMES = [*bombs(), *(f"a million {what}" for what in MILLIONS), "a node of 500,000 operands"]
MOST_SECONDS = 2.0
MOST_BYTES = 512 << 20


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """What came of each, all in one process."""
    command = [sys.executable, "-m", "tests.hostile.bombs", str(tmp_path_factory.mktemp("bombs"))]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return {found["name"]: found for found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", NAMES)
def test_a_bomb_is_refused(name: str, tried: dict[str, dict[str, object]]) -> None:
    found = tried[name]
    assert isinstance(found["said"], str) and found["said"]
    assert isinstance(found["seconds"], float) and found["seconds"] < MOST_SECONDS
    assert isinstance(found["peak"], int) and found["peak"] < MOST_BYTES


def _strings(folder: Path, size: int) -> Path:
    """A model whose description is that long; the file has holes, so the disk holds none of it."""
    content = bombs()["NaN"].SerializeToString()
    with (folder / "bomb.onnx").open("wb") as file:
        file.write(content + b"\x32" + _varint(size))
        file.truncate(len(content) + 1 + len(_varint(size)) + size)
    return folder / "bomb.onnx"


def _varint(value: int) -> bytes:
    groups = [value >> shift & 127 for shift in range(0, value.bit_length(), 7)]
    return bytes([group | 128 for group in groups[:-1]] + groups[-1:])


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the limit is"):
        importer.load(_strings(tmp_path, 1 << 30))


def test_external_data_that_is_too_large(tmp_path: Path) -> None:
    """Each tensor is small enough, all together are not; they share one file with holes."""
    count, size = 20, 1 << 24
    tensors = [TensorProto(name=f"w{i}", data_type=1, dims=[1, size // 4]) for i in range(count)]
    for tensor in tensors:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
    network = bombs()["stride 0"]
    network.graph.initializer.extend(tensors)
    (tmp_path / "net.onnx").write_bytes(network.SerializeToString())
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(size)
    with pytest.raises(UnsupportedModel, match="larger than"):
        importer.load(tmp_path / "net.onnx")
