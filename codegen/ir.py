"""The graph: tensors, nodes, quantization grids. Immutable; knows neither ONNX nor C.

The same `Graph` type serves two of the four forms (docs/architecture.md): *float*, after import and
simplification, and *quantized*, when every tensor carries a `Quant`. Names are single assignment;
`nodes` stand in execution order.

Conventions that every operator may rely on:

* axis 0 is the batch and has size 1;
* spatial tensors are channels last: `(1, H, W, C)`; convolution weights are `(C_out, kH, kW, C_in/groups)`,
  dense weights `(C_out, K)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


ITEM_BYTES: Mapping[str, int] = {
    "bool": 1,
    "int2": 1,
    "int4": 1,
    "int8": 1,
    "uint2": 1,
    "uint4": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float32": 4,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
}
"""Types of plain numbers, and the bytes that one takes in the arena."""
NUMPY_TYPES = {"int2": "int8", "int4": "int8", "uint2": "uint8", "uint4": "uint8"}


class InvalidGraph(AssertionError):
    """A pass broke the graph: a bug of ours, never of the user's model."""


@dataclass(frozen=True, slots=True)
class Quant:
    """An affine integer grid: real = scale * (stored - zero_point).

    Attributes:
        scales: one scale, or one per index of `axis`. Finite and positive.
        zero_points: as many as scales.
        axis: the axis that the scales run along; None when one scale serves the tensor.
        width: bits of an integer, two's complement: 8 for activations and most weights (16 for some that
            are expanded from a `Storage`), 32 for biases. 1 for binary activations: -1 or +1 times the
            scale, held as bits (codegen.bits).
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None
    width: int = 8

    @property
    def scale(self) -> float:
        """The only scale of a per-tensor grid."""
        if self.axis is not None:
            raise ValueError("a per-channel grid has no single scale")
        return self.scales[0]

    @property
    def zero_point(self) -> int:
        """The only zero point of a per-tensor grid."""
        if self.axis is not None:
            raise ValueError("a per-channel grid has no single zero point")
        return self.zero_points[0]


def per_tensor(scale: float, zero_point: int, width: int = 8) -> Quant:
    """A grid with one scale and zero point."""
    return Quant((float(scale),), (int(zero_point),), None, width)


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """Integers by which blocks of consecutive weights of a row are multiplied.

    Attributes:
        size: weights in a block; the last block of a row may have fewer.
        bits: of a factor in flash.
        shifts: whether a stored number s stands for the factor 2**s, rather than for s.
        values: what is stored, uint8, (rows, blocks).
    """

    size: int
    bits: int
    shifts: bool
    values: Array

    def expanded(self, length: int) -> IntArray:
        """The factor of every weight, (rows, length)."""
        numbers = self.values.astype(np.int64)
        factors = np.left_shift(1, numbers) if self.shifts else numbers
        repeated: IntArray = np.repeat(factors, self.size, axis=1)[:, :length]
        return repeated


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """How flash holds weights: codes of few bits, what a code stands for, factors of blocks.

    A weight is `levels[row, code]` times its factors: an integer, computed exactly. A row is what one
    output channel multiplies its inputs with.

    Attributes:
        scheme: name in codegen.quant.schemes.
        weights: the family that a user asks for: "int4", "ternary", ...
        bits: of a code in flash.
        codes: uint8, (rows, length).
        levels: int8, one row of 2**bits for all rows of weights, or one for each.
        factors: none, one, or one per level of blocks.
    """

    scheme: str
    weights: str
    bits: int
    codes: Array
    levels: Array
    factors: tuple[Factors, ...] = ()

    @property
    def offset(self) -> int | None:
        """What to subtract from a code, where that is all; None when there is a table to look up."""
        offset = -int(self.levels[0, 0])
        counted = np.arange(1 << self.bits) - offset
        return offset if len(self.levels) == 1 and np.array_equal(self.levels[0], counted) else None

    @property
    def is_bytes(self) -> bool:
        """Whether codes are int8 weights: a byte each, no more."""
        return self.bits == 8 and not self.factors and self.offset == 128

    def expanded(self) -> IntArray:
        """The integers that the arithmetic uses, (rows, length)."""
        rows, length = self.codes.shape
        levels = np.broadcast_to(self.levels, (rows, self.levels.shape[1])).astype(np.int64)
        found: IntArray = np.take_along_axis(levels, self.codes.astype(np.int64), axis=1)
        for factors in self.factors:
            found = found * factors.expanded(length)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A value of the graph: an activation, or a constant when `data` is present.

    In a float graph `data` is float32; in a quantized graph it holds the integers of the arithmetic.
    A `quant` that is present in a float graph is a grid that the model brought along and that is kept.
    `storage` says how flash holds weights that it does not hold as they are; `data` is what it expands to.
    `dtype` names the type of plain numbers ("float32", "int64", "bool"; a key of ITEM_BYTES): such a tensor
    has no grid and never gets one (docs/floats.md). None for reals that are to be quantized, and for what is.
    """

    name: str
    shape: tuple[int, ...]
    quant: Quant | None = None
    data: Array | None = None
    storage: Storage | None = None
    dtype: str | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape of an activation as it is stored: its own, unless it is bits (codegen.bits)."""
        if self.quant is None or self.quant.width != 1:
            return self.shape
        return (*self.shape[:-1], 4 * -(-self.shape[-1] // 32))

    @property
    def bytes(self) -> int:
        """Bytes that an activation takes."""
        return prod(self.stored_shape) * ITEM_BYTES[self.dtype or "int8"]

    @property
    def numpy(self) -> np.dtype[Any]:
        """The type of its numbers in NumPy: int8 on a grid. Numbers of 2 and 4 bits take a byte."""
        return np.dtype(NUMPY_TYPES.get(self.dtype or "int8", self.dtype or "int8"))

    @property
    def grid(self) -> Quant:
        """The quantization grid of a tensor that must have one."""
        if self.quant is None:
            raise InvalidGraph(f"{self.name} has no quantization grid")
        return self.quant

    @property
    def values(self) -> Array:
        """The data of a tensor that must be constant."""
        if self.data is None:
            raise InvalidGraph(f"{self.name} is no constant")
        return self.data


@runtime_checkable
class Op(Protocol):
    """What every operator class offers; see codegen/ops/__init__.py for the whole contract."""

    kind: ClassVar[str]

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """Shape of the output for these input shapes."""
        ...

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The operator in float32; axis 0 of activations may hold any number of samples."""
        ...


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. `sources` are the names of the ONNX nodes that it stands for."""

    op: Op
    inputs: tuple[str, ...]
    output: str
    sources: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name to show a user: the first ONNX node it came from, else its output."""
        return self.sources[0] if self.sources else self.output


@dataclass(frozen=True, slots=True)
class Port:
    """A model input or output.

    Attributes:
        name: as the ONNX file spells it.
        tensor: the tensor in the graph.
        shape: shape in the ONNX file, batch fixed.
        perm: axis i of the device's tensor is axis perm[i] of the ONNX tensor. The identity unless the
            channels were moved last, so that no transposition runs on the device.
    """

    name: str
    tensor: str
    shape: tuple[int, ...]
    perm: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """A network in execution order."""

    name: str
    tensors: Mapping[str, Tensor]
    nodes: tuple[Node, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def consumers(self, tensor: str) -> tuple[Node, ...]:
        """The nodes that read a tensor, in execution order."""
        return tuple(node for node in self.nodes if tensor in node.inputs)

    def producer(self, tensor: str) -> Node | None:
        """The node that writes a tensor; None for inputs and constants."""
        return next((node for node in self.nodes if node.output == tensor), None)

    def is_output(self, tensor: str) -> bool:
        """Whether a tensor is an output of the network."""
        return any(port.tensor == tensor for port in self.outputs)

    def with_tensors(self, *changed: Tensor) -> Graph:
        """The same graph with some tensors replaced or added."""
        return replace(self, tensors={**self.tensors, **{t.name: t for t in changed}})

    def __str__(self) -> str:
        """One line per node, for dumps and tests."""
        lines = [f"graph {self.name}"]
        lines += [f"  input {p.tensor} {_describe(self.tensors[p.tensor])}" for p in self.inputs]
        for node in self.nodes:
            operands = ", ".join(
                f"const{list(self.tensors[name].shape)}"
                if self.tensors[name].data is not None
                else name
                for name in node.inputs
            )
            out = _describe(self.tensors[node.output])
            lines.append(f"  {node.output} {out} = {node.op}({operands})")
        lines += [f"  output {p.tensor}" for p in self.outputs]
        return "\n".join(lines)


def _describe(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape))
    if tensor.dtype is not None:
        return f"{shape} {tensor.dtype}"
    if tensor.quant is None or tensor.quant.axis is not None:
        return shape
    if tensor.quant.width == 1:
        return f"{shape} bits({tensor.quant.scale:.6g})"
    return f"{shape} int{tensor.quant.width}({tensor.quant.scale:.6g}, {tensor.quant.zero_point})"


def node_macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of a node: outputs times the length of a weight row; 0 without weights.

    Operators on plain numbers count them by themselves.
    """
    counted = getattr(node.op, "macs", None)
    if counted is not None:
        return int(counted(tuple(graph.tensors[name].shape for name in node.inputs)))
    if node.op.kind not in ("binary_conv2d", "conv2d", "dense"):
        return 0
    weights = graph.tensors[node.inputs[1]]
    return graph.tensors[node.output].size * (weights.size // weights.shape[0])


def macs(graph: Graph) -> int:
    """Multiply-accumulates of one inference."""
    return sum(node_macs(graph, node) for node in graph.nodes)


def verify(graph: Graph) -> Graph:
    """Returns the graph if it is well formed, else raises InvalidGraph.

    Checks: every operand exists and is written before it is read, single assignment, inferred shapes
    equal the recorded ones, constants have the shape they claim, outputs exist.
    """
    known = {port.tensor for port in graph.inputs}
    known |= {name for name, tensor in graph.tensors.items() if tensor.data is not None}
    for name, tensor in graph.tensors.items():
        if name != tensor.name:
            raise InvalidGraph(f"tensor {tensor.name} is filed under {name}")
        if tensor.data is not None and tensor.data.shape != tensor.shape:
            raise InvalidGraph(f"constant {name}: data {tensor.data.shape}, shape {tensor.shape}")
    for node in graph.nodes:
        missing = [name for name in node.inputs if name not in known]
        if missing:
            raise InvalidGraph(f"{node.label}: reads {missing[0]} before it is written")
        if node.output in known:
            raise InvalidGraph(f"{node.label}: writes {node.output} a second time")
        shape = node.op.infer(tuple(graph.tensors[name].shape for name in node.inputs))
        if shape != graph.tensors[node.output].shape:
            recorded = graph.tensors[node.output].shape
            raise InvalidGraph(f"{node.label}: infers {shape}, recorded {recorded}")
        known.add(node.output)
    for port in graph.outputs:
        if port.tensor not in known:
            raise InvalidGraph(f"output {port.name} is never written")
    return graph


def verify_quantized(graph: Graph) -> Graph:
    """Returns the graph if it is well formed and no real number is left, else raises InvalidGraph."""
    verify(graph)
    for tensor in graph.tensors.values():
        if tensor.dtype is not None:
            if tensor.data is not None and tensor.data.dtype != tensor.numpy:
                raise InvalidGraph(f"{tensor.name} holds {tensor.data.dtype}, not {tensor.dtype}")
            continue
        if tensor.quant is None:
            raise InvalidGraph(f"{tensor.name} has no quantization grid")
        if tensor.data is not None and not np.issubdtype(tensor.data.dtype, np.integer):
            raise InvalidGraph(f"{tensor.name} holds {tensor.data.dtype}, not integers")
        if tensor.storage is not None and not np.array_equal(
            tensor.storage.expanded().reshape(tensor.shape), tensor.values
        ):
            raise InvalidGraph(f"{tensor.name} is not what its storage expands to")
    return graph


def layer_names(nodes: Sequence[Node]) -> list[str]:
    """Labels made unique: the second layer of an ONNX node is called "node#2"."""
    seen: dict[str, int] = {}
    names = []
    for node in nodes:
        seen[node.label] = seen.get(node.label, 0) + 1
        number = seen[node.label]
        names.append(node.label if number == 1 else f"{node.label}#{number}")
    return names
