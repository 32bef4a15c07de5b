"""The builder that converters emit graph nodes into, and the plain ONNX node that they read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import TypeAlias

import numpy as np

from codegen.forms import Reshape, ToFloat, ToGrid
from codegen.ir import ITEM_BYTES, Array, FloatArray, Graph, Node, Op, Port, Quant, Tensor
from codegen.limits import MAX_ACTIVATION, MAX_ELEMENTS, MAX_RANK
from codegen.onnx_node import OnnxNode
from codegen.plain import PlainOp
from codegen.qdq import constant_value
from targets.errors import UnsupportedModel

__all__ = ["Builder", "Converter", "OnnxNode", "as_floats"]

MOVES = frozenset(
    {"concat", "lookup", "max_pool", "pad", "reshape", "resize", "slice", "transpose"}
)


def as_floats(inputs: tuple[Array, ...]) -> tuple[FloatArray, ...]:
    """The operands of an evaluation as float32."""
    return tuple(np.asarray(array, np.float32) for array in inputs)


def finite(array: Array, name: str) -> FloatArray:
    """Numbers as float32. NaN is refused, and infinity, unless it is a lone bound of a Clip."""
    with np.errstate(over="ignore"):
        data = array.astype(np.float32)
    if np.isnan(data).any() or (data.size > 1 and not np.isfinite(data).all()):
        raise UnsupportedModel(f"tensor {name!r} holds NaN or infinity")
    return data


class Builder:
    """A graph under construction. ONNX value names map to tensors through `get` and `set`."""

    def __init__(self, floats: bool = False, islands: bool = True) -> None:
        """An empty graph; all of it, or what cannot be quantized, is to compute on plain numbers."""
        self.floats, self.islands = floats, islands or floats
        self.led: set[str] = set()  # with an axis 0 for samples that the ONNX tensor has not
        self._plain: dict[str, str] = {}
        self._real: dict[str, str] = {}
        self._withheld: dict[str, UnsupportedModel] = {}
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.inputs: list[Port] = []
        self.stored_types: dict[str, str] = {}
        self.conditions: dict[str, tuple[str, int]] = {}  # truth values: a sign, and that of "true"
        self._by_onnx_name: dict[str, str] = {}
        self._copies: dict[str, int] = {}
        self._constants = 0

    def get(self, onnx_name: str) -> str:
        """The tensor that an ONNX value became."""
        if onnx_name in self._withheld:
            raise self._withheld[onnx_name]
        if onnx_name not in self._by_onnx_name:
            raise UnsupportedModel(f"value {onnx_name!r} is read before any node writes it")
        return self._by_onnx_name[onnx_name]

    def set(self, onnx_name: str, tensor: str) -> None:
        """Records the tensor that an ONNX value became."""
        if onnx_name in self._by_onnx_name:
            raise UnsupportedModel(f"value {onnx_name!r} is written twice")
        self._by_onnx_name[onnx_name] = tensor

    def read(self, node: OnnxNode, index: int) -> str:
        """The tensor of a node's operand that must be present, as an operator on reals takes it."""
        name = self._given(node, index)
        tensor = self.tensors[name]
        if tensor.data is not None or (tensor.dtype is None and name not in self.led):
            return name
        return self._as_real(node, name)

    def real_behind(self, node: OnnxNode, index: int, shape: tuple[int, ...]) -> str:
        """A node's operand as a real tensor of a shape: before it became plain, if no more happened to it."""
        name = self._given(node, index)
        makers = {n.output: n for n in self.nodes if n.op.kind in ("reshape", "to_float")}
        found = name
        while self.tensors[found].dtype is not None and found in makers:
            found = makers[found].inputs[0]
        if self.tensors[found].dtype is None and not self.is_constant(found):
            if self.shape(found) == shape:
                return found
            return self.emit(Reshape(shape), (found,), node.sources, f"{found}.shaped")
        if self.tensors[name].dtype != "float32":
            raise node.unsupported(f"it computes on numbers of type {self.tensors[name].dtype}")
        return self.emit(ToGrid(shape), (name,), node.sources, f"{name}.real")

    def viewed(self, real: str, shape: tuple[int, ...], sources: tuple[str, ...]) -> str:
        """A real tensor as ONNX knows it: it stays real where a batch of one comes first in the shape."""
        if shape[0] == 1:
            return self.emit(Reshape(shape), (real,), sources)
        found = self.emit(ToFloat((1, *shape)), (real,), sources)
        self.led.add(found)
        return found

    def withhold(self, onnx_name: str, error: UnsupportedModel) -> None:
        """Says what to raise if anybody reads an ONNX value."""
        self._withheld[onnx_name] = error

    def plain(self, node: OnnxNode, index: int) -> str:
        """The tensor of a node's operand that must be present, as plain numbers under an axis for samples."""
        return self.as_plain(node, self._given(node, index))

    def as_plain(self, node: OnnxNode, name: str) -> str:
        """A tensor that a node reads as plain numbers under an axis for samples."""
        if name not in self._plain:
            self._plain[name] = self._as_plain(node, name)
        return self._plain[name]

    def dtype(self, name: str) -> str:
        """The type of a tensor of plain numbers."""
        found = self.tensors[name].dtype
        if found is None:
            raise UnsupportedModel(f"{name!r} holds no plain numbers")
        return found

    def plain_shape(self, name: str) -> tuple[int, ...]:
        """The shape in ONNX of a tensor that `plain` gave: without the axis for samples."""
        return self.tensors[name].shape[1:]

    def onnx_shape(self, name: str) -> tuple[int, ...]:
        """The shape in ONNX of any tensor: without an axis for samples that was put before it."""
        shape = self.tensors[name].shape
        return shape[1:] if name in self.led else shape

    def plain_constant(self, array: Array, hint: str, dtype: str | None = None) -> str:
        """A constant of plain numbers; it gets the axis for samples."""
        kind = dtype or array.dtype.name
        kind = "float32" if kind in ("float16", "float64", "bfloat16") else kind
        if kind not in ITEM_BYTES:
            raise UnsupportedModel(f"constant {hint!r} is of type {kind}")
        name = self.constant(array.reshape(1, *array.shape), hint)
        tensor = replace(self.tensors[name], dtype=kind)
        self.tensors[name] = replace(tensor, data=tensor.values.astype(tensor.numpy))
        self.led.add(name)
        return name

    def reads_plain(self, node: OnnxNode) -> bool:
        """Whether some operand of a node holds plain numbers."""
        found = (self._by_onnx_name.get(name) for name in node.inputs if name)
        return any(name is not None and self.tensors[name].dtype is not None for name in found)

    def mark(self) -> tuple[int, int]:
        """Where the graph stands; see `roll_back`."""
        return len(self.nodes), len(self.tensors)

    def roll_back(self, mark: tuple[int, int]) -> None:
        """Forgets nodes and tensors that were added since a mark."""
        del self.nodes[mark[0] :]
        for name in list(self.tensors)[mark[1] :]:
            del self.tensors[name]
            self.led.discard(name)
        for known in (self._plain, self._real):
            for key in [key for key, name in known.items() if name not in self.tensors]:
                del known[key]

    def _given(self, node: OnnxNode, index: int) -> str:
        if not node.has(index):
            raise node.unsupported(f"operand {index} is missing")
        return self.get(node.inputs[index])

    def _as_real(self, node: OnnxNode, name: str) -> str:
        """Plain float32 numbers as reals, whose axis 0 is the ONNX tensor's batch of one."""
        tensor = self.tensors[name]
        if name in self._real:
            return self._real[name]
        if tensor.dtype not in (None, "float32"):
            raise node.unsupported(f"it computes on numbers of type {tensor.dtype}")
        shape = tensor.shape[1:] if name in self.led else tensor.shape
        if not shape or shape[0] != 1:
            raise node.unsupported(
                f"an operand has shape {list(shape)}: no batch of one comes first"
            )
        op: Op = ToGrid(shape) if tensor.dtype else Reshape(shape)
        self._real[name] = self.emit(op, (name,), node.sources, f"{name}.real")
        return self._real[name]

    def _as_plain(self, node: OnnxNode, name: str) -> str:
        tensor = self.tensors[name]
        if tensor.dtype is not None and name in self.led:
            return name
        if tensor.data is not None:
            if tensor.quant is not None:
                return self.plain_constant(constant_value(tensor), name)
            return self.plain_constant(tensor.data, name)
        if name in self.stored_types:
            raise node.unsupported("it computes on integers that no DequantizeLinear reads")
        shape = (1, *tensor.shape)
        op: Op = Reshape(shape) if tensor.dtype else ToFloat(shape)
        found = self.emit(op, (name,), node.sources, f"{name}.plain")
        self.led.add(found)
        return found

    def write(self, node: OnnxNode, tensor: str) -> None:
        """Records the tensor that a node's first output became."""
        self.set(node.outputs[0], tensor)

    def plain_input(self, name: str, shape: tuple[int, ...], dtype: str) -> str:
        """Adds a graph input of plain numbers; it gets an axis for samples unless it has a batch of one."""
        led = not shape or shape[0] != 1
        tensor = self.input(name, (1, *shape) if led else shape)
        self.tensors[tensor] = replace(self.tensors[tensor], dtype=dtype)
        if led:
            self.led.add(tensor)
        return tensor

    def input(self, name: str, shape: tuple[int, ...], dtype: str = "float32") -> str:
        """Adds a graph input; the type is remembered where the file's holds integers."""
        tensor = self._fresh(name)
        self.tensors[tensor] = Tensor(tensor, shape)
        self.inputs.append(Port(name, tensor, shape, tuple(range(len(shape)))))
        if dtype != "float32":
            self.stored_types[tensor] = dtype
        return tensor

    def constant(self, array: Array, hint: str = "constant", quant: Quant | None = None) -> str:
        """Adds a constant: float32, stored integers of `quant`, or the integers of a shape."""
        data = array
        if np.issubdtype(array.dtype, np.floating):
            data = finite(array, hint)
        self._constants += data.size
        if self._constants > MAX_ELEMENTS:
            raise UnsupportedModel(f"constant {hint!r}: the model's constants are too large")
        name = self._fresh(hint)
        self.tensors[name] = Tensor(name, data.shape, quant, data)
        return name

    def emit(self, op: Op, inputs: Sequence[str], sources: tuple[str, ...], hint: str = "") -> str:
        """Adds a node and returns its output, named after `hint` or the first source."""
        label = sources[0] if sources else op.kind
        try:
            shape = op.infer(tuple(self.shape(name) for name in inputs))
        except (ValueError, IndexError) as error:
            raise UnsupportedModel(f"{op.kind} {label!r}: {error}", node=label) from error
        _check_shape(op, label, shape)
        output = self._fresh(hint or label)
        self.tensors[output] = Tensor(output, shape)
        if isinstance(op, PlainOp) or self.tensors[inputs[0]].dtype is not None:
            self._type(op, inputs, output, label)
        else:
            self._pass_on(op, inputs, output, label)
        self.nodes.append(Node(op, tuple(inputs), output, sources))
        return output

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self.tensors[name].shape

    def rank(self, name: str) -> int:
        """The number of axes of a tensor."""
        return len(self.tensors[name].shape)

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is known at compile time."""
        return self.tensors[name].data is not None

    def value(self, name: str) -> Array | None:
        """A constant as numbers (dequantized if need be), as ONNX shapes it; None for an activation."""
        tensor = self.tensors[name]
        if tensor.data is None:
            return None
        return constant_value(tensor)[0] if name in self.led else constant_value(tensor)

    def static(self, node: OnnxNode, index: int) -> Array | None:
        """An operand that must be constant, as numbers; None when it is absent."""
        if not node.has(index):
            return None
        value = self.value(self.get(node.inputs[index]))
        if value is None:
            hint = "`--simplify` may turn computed shapes into constants"
            raise node.unsupported(f"operand {index} must be a constant", hint)
        return value

    def integers(self, node: OnnxNode, key: str, index: int) -> tuple[int, ...] | None:
        """A list of integers that older opsets keep in an attribute, newer ones in an operand."""
        value = self.static(node, index)
        if value is None:
            return node.integers(key)
        return tuple(int(item) for item in value.reshape(-1))

    def annotate(self, name: str, quant: Quant | None, dtype: str) -> None:
        """Records that the file's activation holds stored integers, of this grid and type."""
        self.tensors[name] = replace(self.tensors[name], quant=quant)
        self.stored_types[name] = dtype

    def meaning(self, node: OnnxNode, name: str, number: float) -> float:
        """The real number that a node means by a number beside a tensor of stored integers."""
        if name not in self.stored_types:
            return number
        grid = self.tensors[name].quant
        if grid is None:
            raise node.unsupported("it computes on integers of an unknown scale")
        shift = 128 if self.stored_types[name] == "uint8" else 0
        return grid.scale * (number - shift - grid.zero_point)

    def finish(self, name: str, outputs: Sequence[tuple[str, str]]) -> Graph:
        """The graph with these outputs (ONNX name, tensor); unread constants are left out."""
        ports = tuple(self._port(onnx_name, tensor) for onnx_name, tensor in outputs)
        used = {port.tensor for port in (*self.inputs, *ports)}
        for node in self.nodes:
            used.update((*node.inputs, node.output))
        tensors = {key: tensor for key, tensor in self.tensors.items() if key in used}
        return Graph(name, tensors, tuple(self.nodes), tuple(self.inputs), ports)

    def _type(self, op: Op, inputs: Sequence[str], output: str, label: str) -> None:
        """The type of an operator's plain result; moving plain numbers changes no type."""
        types = tuple(self.tensors[name].dtype or "float32" for name in inputs)
        dtype: str | None = types[0]
        if isinstance(op, PlainOp):
            try:
                dtype = op.result_type(types)
            except ValueError as error:
                raise UnsupportedModel(f"{op.kind} {label!r}: {error}", node=label) from error
            self.led.add(output)
        elif isinstance(op, ToGrid):
            dtype = None
        self.tensors[output] = replace(self.tensors[output], dtype=dtype)

    def _pass_on(self, op: Op, inputs: Sequence[str], output: str, label: str) -> None:
        """Stored integers may be moved and clipped; whoever computes must read them as reals."""
        kinds = {(self.tensors[x].quant, self.stored_types.get(x)) for x in inputs}
        quant, dtype = next(iter(kinds))
        if op.kind == "dequantize" or not any(name in self.stored_types for name in inputs):
            return
        if op.kind not in MOVES or len(kinds) > 1 or dtype is None:
            why = f"{op.kind} {label!r} computes on integers that no DequantizeLinear reads"
            raise UnsupportedModel(why, node=label)
        self.annotate(output, quant, dtype)

    def _port(self, onnx_name: str, tensor: str) -> Port:
        if tensor in self.led and self.shape(tensor)[1:2] == (1,):
            tensor = self.emit(Reshape(self.shape(tensor)[1:]), (tensor,), (), f"{tensor}.out")
        shape = self.shape(tensor)
        return Port(onnx_name, tensor, shape, tuple(range(len(shape))))

    def _fresh(self, hint: str) -> str:
        name = hint
        while name in self.tensors:
            self._copies[hint] = self._copies.get(hint, 0) + 1
            name = f"{hint}.{self._copies[hint]}"
        return name


Converter: TypeAlias = Callable[[OnnxNode, Builder], None]
Converters: TypeAlias = Mapping[str, Converter]


def _check_shape(op: Op, label: str, shape: tuple[int, ...]) -> None:
    if not shape or shape[0] != 1:
        why = f"the result has shape {list(shape)}; the first axis must stay the batch, of size 1"
        raise UnsupportedModel(f"{op.kind} {label!r}: {why}", node=label)
    if len(shape) > MAX_RANK or min(shape) < 1 or prod(shape) > MAX_ACTIVATION:
        why = f"the result has the unreasonable shape {list(shape)}"
        raise UnsupportedModel(f"{op.kind} {label!r}: {why}", node=label)
