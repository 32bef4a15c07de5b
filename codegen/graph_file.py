"""A quantized graph as one .npz file: lets `thumbnet emulate DIR` compare without the ONNX model.

The file holds one JSON text and the constants as arrays; nothing in it is ever executed or unpickled.
"""

from __future__ import annotations

import dataclasses
import io
import json
import typing
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from codegen import archives
from codegen.ir import Array, Graph, Node, Op, Port, Quant, Tensor, verify_quantized
from codegen.ops import OPS
from targets.errors import UsageError

FORMAT = 1
MAX_BYTES = 512 << 20  # of the constants, unpacked


def dump(graph: Graph) -> bytes:
    """A quantized graph as the bytes of an .npz file; same graph, same bytes."""
    constants = {f"c{i}": t for i, t in enumerate(graph.tensors.values()) if t.data is not None}
    keys = {tensor.name: key for key, tensor in constants.items()}
    text = json.dumps(
        {
            "format": FORMAT,
            "name": graph.name,
            "tensors": [
                {
                    "name": t.name,
                    "shape": t.shape,
                    "quant": dataclasses.asdict(t.quant) if t.quant else None,
                    "data": keys.get(t.name),
                    "dtype": t.dtype,
                }
                for t in graph.tensors.values()
            ],
            "nodes": [
                {
                    "kind": n.op.kind,
                    "op": _fields(n.op),
                    "inputs": n.inputs,
                    "output": n.output,
                    "sources": n.sources,
                }
                for n in graph.nodes
            ],
            "inputs": [dataclasses.asdict(p) for p in graph.inputs],
            "outputs": [dataclasses.asdict(p) for p in graph.outputs],
            "states": graph.states,
        },
        ensure_ascii=True,
    )
    arrays = {key: tensor.data for key, tensor in constants.items() if tensor.data is not None}
    arrays["graph"] = np.frombuffer(text.encode(), np.uint8)
    return _archive(arrays)


def load(path: Path) -> Graph:
    """The graph that `dump` wrote.

    Raises:
        UsageError: the file is missing, damaged or of another version.
    """
    try:
        arrays = archives.read(path, MAX_BYTES)
        text = json.loads(bytes(arrays["graph"]).decode())
        if text["format"] != FORMAT:
            raise UsageError(f"{path}: written by another version", hint="generate again")
        return verify_quantized(_graph(text, arrays))
    except UsageError:
        raise
    except Exception as error:  # a damaged file fails in any of the classes that it is read into
        raise UsageError(
            f"{path}: not a thumbnet reference file ({type(error).__name__})",
            hint="generate the project again",
        ) from error


def _archive(arrays: Mapping[str, Array]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, array in arrays.items():
            one = io.BytesIO()
            np.lib.format.write_array(one, np.ascontiguousarray(array), allow_pickle=False)
            # A fixed date: the archive's bytes may depend on the graph alone.
            archive.writestr(
                zipfile.ZipInfo(f"{key}.npy", (1980, 1, 1, 0, 0, 0)),
                one.getvalue(),
                zipfile.ZIP_DEFLATED,
            )
    return buffer.getvalue()


def _fields(op: Op) -> dict[str, object]:
    names = [field.name for field in dataclasses.fields(op)]  # type: ignore[arg-type]
    return {name: _plain_data(getattr(op, name)) for name in names}


def _plain_data(value: object) -> object:
    """What JSON can hold: a part of an operator becomes its fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return [_plain_data(item) for item in value] if isinstance(value, tuple) else value


def _operator(kind: str, fields: dict[str, object]) -> Op:
    """The operator of fields as JSON gives them, parts of it made anew."""
    cls = OPS[kind]
    hints = typing.get_type_hints(cls)
    given = {name: _made(hints.get(name), value) for name, value in _named(fields).items()}
    return cls(**given)


def _made(hint: Any, value: object) -> object:
    if isinstance(value, tuple):
        (inner, *_) = typing.get_args(hint) or (None,)
        return tuple(_made(inner, item) for item in value)
    if isinstance(value, dict) and dataclasses.is_dataclass(hint):
        return hint(**_named(value))  # type: ignore[operator]
    return value


def _tuples(value: object) -> object:
    """JSON's lists as the tuples they were."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _named(fields: Mapping[str, object]) -> dict[str, object]:
    return {key: _tuples(value) for key, value in fields.items()}


def _graph(text: dict[str, list[dict[str, object]]], arrays: Mapping[str, Array]) -> Graph:
    tensors = {}
    for entry in text["tensors"]:
        fields = _named(entry)
        quant = entry["quant"]
        tensors[str(fields["name"])] = Tensor(
            name=str(fields["name"]),
            shape=fields["shape"],  # type: ignore[arg-type]
            quant=Quant(**_named(quant)) if isinstance(quant, dict) else None,  # type: ignore[arg-type]
            data=arrays[str(entry["data"])] if entry["data"] else None,
            dtype=str(entry["dtype"]) if entry.get("dtype") else None,
        )
    nodes = tuple(
        Node(
            op=_operator(str(entry["kind"]), entry["op"]),  # type: ignore[arg-type]
            inputs=_tuples(entry["inputs"]),  # type: ignore[arg-type]
            output=str(entry["output"]),
            sources=_tuples(entry["sources"]),  # type: ignore[arg-type]
        )
        for entry in text["nodes"]
    )
    return Graph(
        name=str(text["name"]),
        tensors=tensors,
        nodes=nodes,
        inputs=tuple(Port(**_named(p)) for p in text["inputs"]),  # type: ignore[arg-type]
        outputs=tuple(Port(**_named(p)) for p in text["outputs"]),  # type: ignore[arg-type]
        states=_tuples(text.get("states", [])),  # type: ignore[arg-type]
    )
