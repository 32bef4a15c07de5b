"""What means the same becomes the same C, in whatever order a file holds it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random

import onnx
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tests.hostile import fields
from tests.hostile.seeds import seeds
from thumbnet import compiler
from thumbnet.options import CompileOptions

WRITTEN = (".c", ".h", ".S", ".ld", ".txt", ".svg", ".toml", "")


def varint(content: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = shift = 0
    while True:
        byte = content[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def encoded(value: int) -> bytes:
    groups = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([group | 128 for group in groups[:-1]] + groups[-1:])


def pieces(content: bytes) -> Iterator[tuple[int, bytes, bytes | None]]:
    """The fields of a message: number, all bytes, and the value's where it has a length."""
    at = 0
    while at < len(content):
        start = at
        key, at = varint(content, at)
        inside = None
        if key & 7 == 0:
            _, at = varint(content, at)
        elif key & 7 == 2:
            size, at = varint(content, at)
            inside, at = content[at : at + size], at + size
        else:
            at += 8 if key & 7 == 1 else 4
        yield key >> 3, content[start:at], inside


def shuffled(content: bytes, kind: Descriptor, random: Random) -> bytes:
    """The same message with its fields in another order; those of a list keep theirs."""
    groups: dict[int, list[bytes]] = {}
    order: list[int] = []
    for number, field_bytes, inside in pieces(content):
        whole = field_bytes
        field = kind.fields_by_number.get(number)
        if inside is not None and field and field.type == FieldDescriptor.TYPE_MESSAGE:
            inner = shuffled(inside, field.message_type, random)
            whole = encoded(number << 3 | 2) + encoded(len(inner)) + inner
        groups.setdefault(number, []).append(whole)
        order.append(number)
    random.shuffle(order)
    waiting = {number: iter(found) for number, found in groups.items()}
    return b"".join(next(waiting[number]) for number in order)


def wire(model: onnx.ModelProto, random: Random) -> bytes:
    return shuffled(model.SerializeToString(), onnx.ModelProto.DESCRIPTOR, random)


def lists(model: onnx.ModelProto, random: Random) -> bytes:
    """Lists whose order means nothing."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    unordered = [found.opset_import, found.metadata_props, found.graph.initializer]
    unordered += [found.graph.value_info, *(node.attribute for node in found.graph.node)]
    for values in unordered:
        copies = [type(one).FromString(one.SerializeToString()) for one in values]
        random.shuffle(copies)
        del values[:]
        values.extend(copies)
    content: bytes = found.SerializeToString()
    return content


ORDERS: Mapping[str, Callable[[onnx.ModelProto, Random], bytes]] = {"wire": wire, "lists": lists}


def written(folder: Path, content: bytes) -> dict[str, str]:
    """The texts of a project without the digest of the model and what follows from it."""
    (folder / "net.onnx").write_bytes(content)
    made = compiler.compile_model(folder / "net.onnx", CompileOptions(calib="random"))
    sha256 = made.manifest["model_sha256"]
    found = {}
    for name, text in made.files.items():
        if Path(name).suffix in WRITTEN and name != "app_hello.h":
            found[name] = text.decode().replace(sha256, "").replace(sha256[:16], "")
    return found


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["fields", *seeds()])
def test_order_changes_nothing(name: str, order: str, tmp_path: Path) -> None:
    model = fields.model() if name == "fields" else seeds()[name]
    content = ORDERS[order](model, Random(name))
    assert content != model.SerializeToString()
    assert onnx.ModelProto.FromString(content).ByteSize() == model.ByteSize()
    assert written(tmp_path, content) == written(tmp_path, model.SerializeToString())


def test_digests_are_all_that_names_the_file(tmp_path: Path) -> None:
    text = written(tmp_path, fields.model().SerializeToString())["net.h"]
    assert not re.search("[0-9a-f]{16}", text)
