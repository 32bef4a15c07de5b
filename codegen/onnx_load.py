"""An ONNX file read with suspicion: sizes checked, external data inlined by us, shapes pinned.

The file is untrusted (docs/security.md). Nothing is allocated before its size is known to be
reasonable, and no other library gets to open a path that the file names.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from math import prod
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar

import onnx

from codegen.limits import (
    MAX_ACTIVATION,
    MAX_ELEMENTS,
    MAX_FILE,
    MAX_ITEM_BITS,
    MAX_NAMES,
    MAX_NODES,
    MAX_RANK,
)
from targets.errors import ThumbnetError, ToolMissing, UnsupportedModel, UsageError

Result = TypeVar("Result")
OLDEST_OPSET = 7
EXTERNAL_KEYS = frozenset({"location", "offset", "length", "checksum"})
_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK
KNOWN_TYPES = frozenset(onnx.TensorProto.DataType.values()) - {onnx.TensorProto.UNDEFINED}


def guarded(what: str, action: Callable[[], Result]) -> Result:
    """The action's result. Whatever a library raises on hostile input becomes UnsupportedModel."""
    try:
        return action()
    except ThumbnetError:
        raise
    except (MemoryError, RecursionError) as error:
        raise UnsupportedModel(f"{what}: the model is too large or too deep") from error
    except Exception as error:
        raise UnsupportedModel(f"{what}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What a library's error says, in a line: its first, or its name; and the node, where onnx tells it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    nodes = [line.partition("Context: ")[2] for line in lines[1:] if "Context: " in line]
    return "; ".join([lines[0][:300], *(node[:300] for node in nodes[:1])])


def read_model(path: Path) -> onnx.ModelProto:
    """The model of a file, with every tensor inside and every size checked."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise UsageError(f"{path} is not a file")
        if size > MAX_FILE:
            raise UsageError(f"{path} has {size} bytes; the limit is {MAX_FILE}")
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    model = onnx.ModelProto()
    guarded(f"{path} is not an ONNX model", lambda: model.ParseFromString(content))
    if not model.graph.node and not model.graph.output:
        raise UsageError(f"{path} is not an ONNX model: it holds no graph")
    _check_graph(path, model)
    _check_texts(path, model)
    _check_versions(model)
    _check_wiring(model.graph)
    del model.training_info[:]  # graphs that nobody runs
    for tensor in _tensors(model):
        _check_tensor(tensor)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _inline(tensor, path.resolve().parent, MAX_FILE - size)
            size += len(tensor.raw_data)
    return model


def pin_inputs(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], any_shape: bool = False
) -> None:
    """Gives every input a static shape and forgets what the file says of other values.

    Args:
        model: changed in place.
        shapes: of inputs with dynamic sizes, by name.
        any_shape: whether an input's axis 0 may be something else than a batch of one.
    """
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    ports = [value for value in graph.input if value.name not in constants]
    unknown = sorted(set(shapes) - {value.name for value in ports})
    if unknown:
        names = ", ".join(value.name for value in ports)
        raise UsageError(f"the model has no input {unknown[0]!r}", hint=f"its inputs are {names}")
    for value in ports:
        tensor_type = value.type.tensor_type
        if not tensor_type.HasField("shape") and value.name not in shapes:
            raise _dynamic(value.name, "no shape")
        given = [_extent(dim) for dim in tensor_type.shape.dim]
        pinned = shapes.get(value.name) or _pinned(value.name, given, any_shape)
        del tensor_type.shape.dim[:]
        for size in pinned:
            tensor_type.shape.dim.add().dim_value = size
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")


def check(model: onnx.ModelProto) -> None:
    """Raises what the ONNX checker finds. It insists on output shapes, though nobody needs them."""
    for value in model.graph.output:
        value.type.tensor_type.shape.SetInParent()
    onnx.checker.check_model(model)
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model after onnxslim."""
    try:
        import onnxslim  # noqa: PLC0415  an optional package
    except ImportError as error:
        hint = 'pip install "thumbnet[simplify]"'
        raise ToolMissing("--simplify needs onnxslim, which is not installed", hint=hint) from error
    slim: onnx.ModelProto = guarded("onnxslim", lambda: onnxslim.slim(model))
    return slim


def _extent(dim: onnx.TensorShapeProto.Dimension) -> int | str:
    return (
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else dim.dim_param or "?"
    )


def _pinned(name: str, given: list[int | str], any_shape: bool) -> tuple[int, ...]:
    if given and isinstance(given[0], str):
        given[0] = 1
    sizes = tuple(size for size in given if isinstance(size, int))
    if len(sizes) != len(given):
        raise _dynamic(name, f"the dynamic shape {given}")
    if not any_shape and (not sizes or sizes[0] != 1):
        raise UnsupportedModel(f"input {name!r} has shape {given}: the batch must come first, 1")
    if len(sizes) > MAX_RANK or prod(sizes) > MAX_ACTIVATION:
        raise UnsupportedModel(f"input {name!r} has the unreasonable shape {given}")
    return sizes


def _dynamic(name: str, what: str) -> UnsupportedModel:
    hint = f"fix the sizes, for example --shape {name}=1,3,96,96"
    return UnsupportedModel(f"input {name!r} has {what}", hint=hint)


def _check_graph(path: Path, model: onnx.ModelProto) -> None:
    if len(model.graph.node) > MAX_NODES:
        raise UnsupportedModel(
            f"{path} has {len(model.graph.node)} nodes; the limit is {MAX_NODES}"
        )
    if model.functions:
        raise UnsupportedModel(f"{path} has local functions", hint="export it with them inlined")
    if model.graph.sparse_initializer:
        raise UnsupportedModel(f"{path} has sparse weights")


def _check_texts(path: Path, model: onnx.ModelProto) -> None:
    """Protobuf hands out what is no UTF-8 as bytes: nothing that is read here may be."""
    for count, text in enumerate(_texts(model)):
        if not isinstance(text, str):
            raise UnsupportedModel(f"{path}: the name {text!r} is no UTF-8")
        if count >= MAX_NAMES:
            raise UnsupportedModel(f"{path} has more than {MAX_NAMES} names of nodes and values")


def _texts(model: onnx.ModelProto) -> Iterator[object]:
    """Every text that the importer reads."""
    yield from (entry.domain for entry in model.opset_import)
    for port in chain(model.graph.input, model.graph.output):
        yield port.name
        yield from (dim.dim_param for dim in port.type.tensor_type.shape.dim)
    for tensor in model.graph.initializer:
        yield tensor.name
        for entry in tensor.external_data:
            yield from (entry.key, entry.value)
    for node in model.graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
        for tensor in (t for a in node.attribute for t in (a.t, *a.tensors)):
            yield from (text for entry in tensor.external_data for text in (entry.key, entry.value))


def _means_the_same(model: onnx.ModelProto, version: int) -> bool:
    """Whether an older version of the standard operators defines those used as the oldest known one does."""
    used = {node.op_type for node in model.graph.node if node.domain in ("", "ai.onnx")}
    try:
        return 1 <= version < OLDEST_OPSET and all(
            onnx.defs.get_schema(name, version).since_version
            == onnx.defs.get_schema(name, OLDEST_OPSET).since_version
            for name in used
        )
    except onnx.defs.SchemaError:
        return False


def _check_versions(model: onnx.ModelProto) -> None:
    """One version per domain; of the standard operators, one whose meaning is known."""
    newest = onnx.defs.onnx_opset_version()
    found: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if found.setdefault(domain, entry.version) != entry.version:
            both = f"{found[domain]} and {entry.version}"
            raise UnsupportedModel(f"the model imports versions {both} of the domain {domain!r}")
    version = found.get("", newest)
    if not (OLDEST_OPSET <= version <= newest or _means_the_same(model, version)):
        why = f"opset {found['']} is not among {OLDEST_OPSET} to {newest}"
        hint = "export for one of these; a newer onnx package knows newer ones"
        raise UnsupportedModel(f"{why}, which this installation knows", hint=hint)


def _check_wiring(graph: onnx.GraphProto) -> None:
    """Every value is written once, and before it is read."""
    stored = [tensor.name for tensor in graph.initializer]
    given = [port.name for port in graph.input]
    for names in (stored, given):
        if len(set(names)) < len(names):
            ((twice, _),) = Counter(names).most_common(1)
            raise UnsupportedModel(f"two inputs or two weights are called {twice!r}")
    known = {"", *stored, *given}
    for node in graph.node:
        called = _called(node)
        unknown = [name for name in node.input if name not in known]
        if unknown:
            why = f"reads {unknown[0]!r}, which nothing before it writes"
            raise UnsupportedModel(f"{called} {why}", node=node.name)
        for name in filter(None, node.output):
            if name in known:
                why = f"writes {name!r}, which is there already"
                raise UnsupportedModel(f"{called} {why}", node=node.name)
            known.add(name)


def _called(node: onnx.NodeProto) -> str:
    """What messages call a node: its type, in quotes where that is no plain word, and its name."""
    kind = node.op_type if node.op_type.isidentifier() else repr(node.op_type)
    return f"{kind} {node.name or next(filter(None, node.output), node.op_type)!r}"


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if _is_nested(attribute):
                why = f"{_called(node)}: control flow and sparse tensors are not supported"
                raise UnsupportedModel(why, node=node.name)
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _is_nested(attribute: onnx.AttributeProto) -> bool:
    """Whether an attribute holds a graph or the like, whatever it says that it is."""
    kind = onnx.AttributeProto
    declared = attribute.type in (
        kind.GRAPH, kind.GRAPHS, kind.SPARSE_TENSOR, kind.SPARSE_TENSORS,
        kind.TYPE_PROTO, kind.TYPE_PROTOS,
    )  # fmt: skip
    lists = (attribute.graphs, attribute.sparse_tensors, attribute.type_protos)
    single = any(attribute.HasField(field) for field in ("g", "sparse_tensor", "tp"))
    return declared or single or any(len(values) for values in lists)


def _check_tensor(tensor: onnx.TensorProto) -> None:
    dims = tuple(tensor.dims)
    if len(dims) > MAX_RANK or min(dims, default=0) < 0 or prod(dims) > MAX_ELEMENTS:
        raise UnsupportedModel(f"tensor {tensor.name!r} has the unreasonable shape {list(dims)}")
    if tensor.data_type not in KNOWN_TYPES:
        raise UnsupportedModel(f"tensor {tensor.name!r} has the unknown type {tensor.data_type}")


def _inline(tensor: onnx.TensorProto, folder: Path, left: int) -> None:
    """Reads external data: from a plain file inside the model's folder, within the file's size.

    Args:
        tensor: its fields change.
        folder: where the model lies, resolved.
        left: bytes that the model may still take.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    place = f"external data {entries.get('location', '')!r} of tensor {tensor.name!r}"
    strange = sorted(set(entries) - EXTERNAL_KEYS)
    if strange or len(entries) != len(tensor.external_data):
        raise UnsupportedModel(f"{place} has the key {(strange or ['twice'])[0]!r}")
    start = _number(place, entries.get("offset", "0"))
    length = _number(place, entries["length"]) if "length" in entries else None
    path = _within(place, entries.get("location", ""), folder)
    try:
        # Not through links, and without waiting for whoever writes into a pipe.
        with open(path, "rb", opener=lambda p, flags: os.open(p, flags | _PLAIN)) as file:
            content = _read(place, file, start, length, tensor, left)
    except OSError as error:
        raise UnsupportedModel(f"{place} cannot be read: {error.strerror}") from error
    tensor.raw_data = content
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def _within(place: str, location: str, folder: Path) -> Path:
    """The path that a location names, below the folder and without links on the way."""
    parts = PurePosixPath(location).parts
    strange = ".." in parts or "\\" in location or "\0" in location
    if not parts or strange or PurePosixPath(location).is_absolute():
        raise UnsupportedModel(f"{place} does not lie in the model's folder")
    path = folder.joinpath(*parts)
    try:
        inside = path.resolve(strict=True) == path
    except (OSError, RuntimeError) as error:
        raise UnsupportedModel(f"{place} cannot be read: {reason(error)}") from error
    if not inside:
        raise UnsupportedModel(f"{place} is a link or no regular file")
    return path


def _read(
    place: str, file: BinaryIO, start: int, length: int | None, tensor: onnx.TensorProto, left: int
) -> bytes:
    """Bytes of an open file, once it is known to be a plain one that has them."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise UnsupportedModel(f"{place} is a link or no regular file")
    size = status.st_size - start if length is None else length
    if size < 0 or start + size > status.st_size:
        raise UnsupportedModel(f"{place} lies outside the file")
    if size > prod(tensor.dims) * MAX_ITEM_BITS // 8:
        raise UnsupportedModel(f"{place} is longer than the tensor")
    if size > left:
        raise UnsupportedModel(f"{place}: the model is larger than {MAX_FILE} bytes")
    file.seek(start)
    return file.read(size)


def _number(place: str, text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text, re.ASCII):
        raise UnsupportedModel(f"{place}: {text!r} is no offset or length")
    return int(text)
