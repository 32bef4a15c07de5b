"""An ONNX file read with suspicion: sizes checked, external data inlined by us, shapes pinned.

The file is untrusted (docs/security.md). Nothing is allocated before its size is known to be
reasonable, and no other library gets to open a path that the file names.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path, PurePosixPath
from typing import TypeVar

import onnx

from codegen.limits import (
    MAX_ACTIVATION,
    MAX_ELEMENTS,
    MAX_FILE,
    MAX_ITEM_BITS,
    MAX_NODES,
    MAX_RANK,
)
from targets.errors import ThumbnetError, ToolMissing, UnsupportedModel, UsageError

Result = TypeVar("Result")
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
    """What a library's error says, in a line: its first, or its name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


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
    for tensor in _tensors(model):
        _check_tensor(tensor)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _inline(tensor, path.resolve().parent)
    return model


def pin_inputs(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Gives every input a static shape, batch 1, and forgets what the file says of other values."""
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
        pinned = shapes.get(value.name) or _pinned(value.name, given)
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


def _pinned(name: str, given: list[int | str]) -> tuple[int, ...]:
    if given and isinstance(given[0], str):
        given[0] = 1
    sizes = tuple(size for size in given if isinstance(size, int))
    if len(sizes) != len(given):
        raise _dynamic(name, f"the dynamic shape {given}")
    if not sizes or sizes[0] != 1:
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


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            kind = onnx.AttributeProto
            if attribute.type in (kind.GRAPH, kind.GRAPHS, kind.SPARSE_TENSOR, kind.TYPE_PROTO):
                name = node.name or node.op_type
                why = f"{node.op_type} {name!r}: control flow and sparse tensors are not supported"
                raise UnsupportedModel(why, node=name)
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _check_tensor(tensor: onnx.TensorProto) -> None:
    dims = tuple(tensor.dims)
    if len(dims) > MAX_RANK or min(dims, default=0) < 0 or prod(dims) > MAX_ELEMENTS:
        raise UnsupportedModel(f"tensor {tensor.name!r} has the unreasonable shape {list(dims)}")
    if tensor.data_type not in KNOWN_TYPES:
        raise UnsupportedModel(f"tensor {tensor.name!r} has the unknown type {tensor.data_type}")


def _inline(tensor: onnx.TensorProto, folder: Path) -> None:
    """Reads external data: from a plain file inside the model's folder, within the file's size."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    place = f"external data {location!r} of tensor {tensor.name!r}"
    parts = PurePosixPath(location).parts
    if not parts or ".." in parts or "\\" in location or PurePosixPath(location).is_absolute():
        raise UnsupportedModel(f"{place} does not lie in the model's folder")
    path = folder.joinpath(*parts)
    try:
        status = path.lstat()
        inside = path.resolve(strict=True) == path
        if not inside or not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise UnsupportedModel(f"{place} is a link or no regular file")
        start, length = int(entries.get("offset", "0")), int(entries.get("length", "-1"))
        length = status.st_size - start if "length" not in entries else length
        if start < 0 or length < 0 or start + length > status.st_size:
            raise UnsupportedModel(f"{place} lies outside the file")
        if length > (prod(tensor.dims) * MAX_ITEM_BITS) // 8:
            raise UnsupportedModel(f"{place} is longer than the tensor")
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(length)
    except (OSError, ValueError) as error:
        raise UnsupportedModel(f"{place} cannot be read: {error}") from error
    tensor.raw_data = content
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]
