"""The builder that converters emit graph nodes into, and the plain ONNX node that they read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import TypeAlias

import numpy as np

from codegen.ir import Array, FloatArray, Graph, Node, Op, Port, Quant, Tensor
from codegen.limits import MAX_ACTIVATION, MAX_ELEMENTS, MAX_RANK
from codegen.onnx_node import OnnxNode
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

    def __init__(self) -> None:
        """An empty graph."""
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
        if onnx_name not in self._by_onnx_name:
            raise UnsupportedModel(f"value {onnx_name!r} is read before any node writes it")
        return self._by_onnx_name[onnx_name]

    def set(self, onnx_name: str, tensor: str) -> None:
        """Records the tensor that an ONNX value became."""
        if onnx_name in self._by_onnx_name:
            raise UnsupportedModel(f"value {onnx_name!r} is written twice")
        self._by_onnx_name[onnx_name] = tensor

    def read(self, node: OnnxNode, index: int) -> str:
        """The tensor of a node's operand that must be present."""
        if not node.has(index):
            raise node.unsupported(f"operand {index} is missing")
        return self.get(node.inputs[index])

    def write(self, node: OnnxNode, tensor: str) -> None:
        """Records the tensor that a node's first output became."""
        self.set(node.outputs[0], tensor)

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
        """A constant as numbers (dequantized if need be); None for an activation."""
        tensor = self.tensors[name]
        return None if tensor.data is None else constant_value(tensor)

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
