"""A graph -> an ONNX file as codegen.importer reads it back: in QDQ form with grids, float32 without.

Images are channels first in the file; the ports keep the names and layouts they came with. With grids weights
are int8 with a scale per channel, biases int32, activations int8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from codegen import __version__
from codegen.ir import Array, Graph, Node, Port, Quant, layer_names
from codegen.names import identifier
from codegen.qdq import constant_value
from targets.errors import UnsupportedModel

OPSET = 17
IR_VERSION = 9
FIRST = (0, 3, 1, 2)  # channels first, of a tensor with channels last
LAST = (0, 2, 3, 1)
KEEPS_GRID = frozenset({"max_pool", "reshape", "slice", "transpose"})
FUNCTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "elu": ("Elu", ("alpha",)),
    "hard_sigmoid": ("HardSigmoid", ("alpha", "beta")),
    "hard_swish": ("HardSwish", ()),
    "identity": ("Identity", ()),
    "leaky_relu": ("LeakyRelu", ("alpha",)),
    "relu": ("Relu", ()),
    "sigmoid": ("Sigmoid", ()),
    "tanh": ("Tanh", ()),
}
"""ONNX operator and attributes by function of a Lookup; "clip" has operands instead, "sign" is a choice."""


def refuse(graph: Graph) -> None:
    """Raises UnsupportedModel for a node that cannot be written."""
    for node in graph.nodes:
        why = _obstacle(graph, node)
        if why:
            raise UnsupportedModel(
                f"{node.label}: {why}",
                hint="train elsewhere and import the QDQ model instead",
                node=node.label,
            )


def _obstacle(graph: Graph, node: Node) -> str:
    kind, op = node.op.kind, _op(node)
    if kind == "lookup" and op.function == "sign" and op.alpha != 1:
        return "a sign that is not 1 at 0 cannot be trained here"
    if kind == "lookup" and op.function not in (*FUNCTIONS, "clip", "sign"):
        return f"{op.function} cannot be trained here"
    if kind == "dense" and len(graph.tensors[node.inputs[0]].shape) != 2:
        return "a dense layer over more than one row cannot be trained here"
    if kind == "add" and op.signs == (-1, -1):
        return "a negated sum cannot be trained here"
    if kind not in WRITERS:
        return f"{kind} cannot be trained here"
    return ""


def dump(graph: Graph) -> bytes:
    """The file's bytes; same graph, same bytes.

    Args:
        graph: float operators. Every activation has a grid and all weights have integers on grids of axis 0,
            or none has a grid.

    Raises:
        UnsupportedModel: a node that ONNX has no operator for, or that `refuse` refuses.
    """
    refuse(graph)
    writer, names = _Writer(graph), node_names(graph)
    for port in graph.inputs:
        writer.input(port)
    for node in graph.nodes:
        writer.layer(names[node.output], node)
    for port in graph.outputs:
        writer.output(port)
    found = helper.make_graph(
        writer.nodes,
        identifier(graph.name),
        [_value(port, port.name) for port in graph.inputs],
        [_value(port, port.name) for port in graph.outputs],
        writer.constants,
    )
    model = helper.make_model(
        found,
        producer_name="thumbnet",
        producer_version=__version__,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    return bytes(model.SerializeToString(deterministic=True))


def node_names(graph: Graph) -> dict[str, str]:
    """The names that layers have in the file, by output: those that a recipe knows them by."""
    layers = [node for node in graph.nodes if node.op.kind != "reshape"]
    names = dict(zip((node.output for node in layers), layer_names(layers), strict=True))
    return {node.output: names.get(node.output, f"{node.output}/reshape") for node in graph.nodes}


def _value(port: Port, name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, port.shape)


def _op(node: Node) -> Any:
    """The operator, whose fields depend on its kind."""
    return node.op


class _Writer:
    """Collects nodes and constants. `values` are the file's names of the graph's tensors."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.values: dict[str, str] = {}
        self._names = {port.name for port in (*graph.inputs, *graph.outputs)}
        self._nodes: dict[str, int] = {}
        self._known: dict[tuple[str, bytes], str] = {}

    def constant(self, hint: str, array: Array) -> str:
        """An initializer; equal ones of one name are kept once."""
        key = (f"{hint} {array.dtype} {array.shape}", array.tobytes())
        if key not in self._known:
            self._known[key] = self._fresh(hint)
            # Not ascontiguousarray, which would give scalars an axis.
            self.constants.append(numpy_helper.from_array(array.copy(order="C"), self._known[key]))
        return self._known[key]

    def emit(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """A node of this name, with a number where there is one already; returns its output."""
        output = self._fresh(f"{name}/value")
        self._nodes[name] = self._nodes.get(name, 0) + 1
        if self._nodes[name] > 1:
            name = f"{name}#{self._nodes[name]}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name, **attributes))
        return output

    def moved(self, value: str, perm: Sequence[int], name: str) -> str:
        """A value with its axes reordered."""
        if list(perm) == sorted(perm):
            return value
        return self.emit("Transpose", [value], f"{name}/transpose", perm=list(perm))

    def on_grid(self, value: str, quant: Quant | None, name: str) -> str:
        """A value through QuantizeLinear and DequantizeLinear, where it has a grid."""
        if quant is None:
            return value
        scale = self.constant("scale", np.array(quant.scale, np.float32))
        zero = self.constant("zero_point", np.array(quant.zero_point, np.int8))
        stored = self.emit("QuantizeLinear", [value, scale, zero], f"{name}/quantize")
        return self.emit("DequantizeLinear", [stored, scale, zero], f"{name}/dequantize")

    def input(self, port: Port) -> None:
        """An input on its grid, then in the file's layout."""
        value = self.on_grid(port.name, self.graph.tensors[port.tensor].quant, port.name)
        perm = tuple(port.perm[axis] for axis in FIRST) if len(port.perm) == 4 else port.perm
        self.values[port.tensor] = self.moved(value, perm, port.name)

    def output(self, port: Port) -> None:
        """An output in the layout that it came with."""
        perm = [int(axis) for axis in np.argsort(port.perm)]
        if len(perm) == 4:
            perm = [LAST[axis] for axis in perm]
        value = self.moved(self.values[port.tensor], perm, port.name)
        self.nodes.append(helper.make_node("Identity", [value], [port.name], f"{port.name}/port"))

    def layer(self, name: str, node: Node) -> None:
        """One operator, its clamp, and the grid of its result."""
        tensor = self.graph.tensors[node.output]
        native = node.op.kind in NATIVE or self._are_images(node)
        inputs = [self._operand(name, operand, native) for operand in node.inputs]
        value = WRITERS[node.op.kind](self, name, node, inputs)
        if not native and len(tensor.shape) == 4:
            value = self.moved(value, FIRST, f"{name}/out")
        value = self._clamped(name, value, getattr(node.op, "clamp", None))
        before = self.graph.tensors[node.inputs[0]].quant
        if node.op.kind not in KEEPS_GRID or before != tensor.quant:
            value = self.on_grid(value, tensor.quant, name)
        self.values[node.output] = value

    def rank(self, name: str) -> int:
        """The number of axes of a tensor."""
        return len(self.graph.tensors[name].shape)

    def _are_images(self, node: Node) -> bool:
        """Whether an elementwise operator joins images, which may as well lie channels first."""
        operands = [self.graph.tensors[name] for name in node.inputs]
        alike = all(t.data is None and len(t.shape) == 4 for t in operands)
        return node.op.kind in ("add", "mul") and alike

    def _fresh(self, hint: str) -> str:
        name, number = hint, 1
        while name in self._names:
            number += 1
            name = f"{hint}#{number}"
        self._names.add(name)
        return name

    def _operand(self, layer: str, name: str, native: bool) -> str:
        """An operand as the operator wants it: images channels first, or last where it is not native."""
        tensor = self.graph.tensors[name]
        if tensor.data is None:
            value = self.values[name]
            return (
                value if native or self.rank(name) != 4 else self.moved(value, LAST, f"{layer}/in")
            )
        if tensor.quant is not None and tensor.quant.axis is None:
            scale = self.constant("scale", np.array(tensor.quant.scale, np.float32))
            zero = self.constant("zero_point", np.array(tensor.quant.zero_point, np.int8))
            operands = [self.constant(name, tensor.data), scale, zero]
            return self.emit("DequantizeLinear", operands, f"{layer}/constant")
        if tensor.quant is not None:
            return self._weights(layer, name)
        data = tensor.data.transpose(FIRST) if native and tensor.data.ndim == 4 else tensor.data
        return self.constant(name, data.astype(np.float32))

    def _weights(self, layer: str, name: str) -> str:
        """Integer weights and their scales, channels first."""
        tensor = self.graph.tensors[name]
        assert tensor.data is not None
        data = tensor.data.transpose(FIRST) if tensor.data.ndim == 4 else tensor.data
        stored = self.constant(name, data.astype(np.int8))
        scales = self.constant(f"{name}.scales", np.array(tensor.grid.scales, np.float32))
        zeros = self.constant(f"{name}.zeros", np.array(tensor.grid.zero_points, np.int8))
        return self.emit("DequantizeLinear", [stored, scales, zeros], f"{layer}/weights", axis=0)

    def _clamped(self, name: str, value: str, clamp: tuple[float, float] | None) -> str:
        if clamp is None:
            return value
        if clamp == (0.0, inf):
            return self.emit("Relu", [value], f"{name}/clamp")
        ends = [
            "" if np.isinf(end) else self.constant("bound", np.array(end, np.float32))
            for end in clamp
        ]
        return self.emit("Clip", [value, *ends], f"{name}/clamp")


def _bias(writer: _Writer, name: str, node: Node) -> str:
    """The bias as integers on the product of the scales of input and weights; as it is without grids."""
    x, w, b = (writer.graph.tensors[operand] for operand in node.inputs)
    if w.quant is None:
        return writer.constant(b.name, constant_value(b).astype(np.float32))
    scales = x.grid.scale * np.array(w.grid.scales)
    stored = np.rint(constant_value(b).astype(np.float64) / scales).astype(np.int32)
    integers = writer.constant(f"{name}.bias", stored)
    steps = writer.constant(f"{name}.bias.scales", scales.astype(np.float32))
    return writer.emit("DequantizeLinear", [integers, steps], f"{name}/bias", axis=0)


def _conv2d(writer: _Writer, name: str, node: Node, inputs: Sequence[str]) -> str:
    op = _op(node)
    return writer.emit(
        "Conv",
        [*inputs[:2], _bias(writer, name, node)],
        name,
        strides=op.stride,
        pads=op.pads,
        dilations=op.dilation,
        group=op.groups,
        kernel_shape=writer.graph.tensors[node.inputs[1]].shape[1:3],
    )


def _dense(writer: _Writer, name: str, node: Node, inputs: Sequence[str]) -> str:
    return writer.emit("Gemm", [*inputs[:2], _bias(writer, name, node)], name, transB=1)


def _pool(writer: _Writer, name: str, node: Node, inputs: Sequence[str]) -> str:
    op = _op(node)
    form = {"kernel_shape": op.kernel, "strides": op.stride, "pads": op.pads}
    if node.op.kind == "max_pool":
        return writer.emit("MaxPool", inputs, name, dilations=op.dilation, **form)
    include = int(op.count_include_pad)
    return writer.emit("AveragePool", inputs, name, count_include_pad=include, **form)


def _add(writer: _Writer, name: str, node: Node, inputs: Sequence[str]) -> str:
    signs = _op(node).signs
    if signs == (1, 1):
        return writer.emit("Add", inputs, name)
    return writer.emit("Sub", inputs if signs == (1, -1) else inputs[::-1], name)


def _lookup(writer: _Writer, name: str, node: Node, inputs: Sequence[str]) -> str:
    op = _op(node)
    if op.function == "clip":
        ends = (op.alpha, op.beta)
        bounds = [
            "" if np.isinf(end) else writer.constant("bound", np.array(end, np.float32))
            for end in ends
        ]
        return writer.emit("Clip", [*inputs, *bounds], name)
    if op.function == "sign":
        zero, above, below = (writer.constant("sign", np.array(v, np.float32)) for v in (0, 1, -1))
        is_above = writer.emit("GreaterOrEqual", [*inputs, zero], name)
        return writer.emit("Where", [is_above, above, below], name)
    kind, keys = FUNCTIONS[op.function]
    numbers = dict(zip(keys, (op.alpha, op.beta), strict=False))
    return writer.emit(kind, inputs, name, **numbers)


def _slice(writer: _Writer, name: str, node: Node, inputs: Sequence[str]) -> str:
    op = _op(node)
    parts = zip(op.begins, op.sizes, op.steps, strict=True)
    ends = [begin + (size - 1) * step + 1 for begin, size, step in parts]
    lists = (op.begins, ends, range(len(op.begins)), op.steps)
    operands = [writer.constant("slice", np.array(list(values), np.int64)) for values in lists]
    return writer.emit("Slice", [*inputs, *operands], name)


def _pad(writer: _Writer, name: str, node: Node, inputs: Sequence[str]) -> str:
    op = _op(node)
    sizes = [pair[end] for end in (0, 1) for pair in op.pads]
    value = writer.constant("fill", np.array(op.value, np.float32))
    return writer.emit("Pad", [*inputs, writer.constant("pads", np.array(sizes)), value], name)


def _reshape(writer: _Writer, name: str, node: Node, inputs: Sequence[str]) -> str:
    shape = writer.constant("shape", np.array(_op(node).shape, np.int64))
    return writer.emit("Reshape", [*inputs, shape], name)


def _mean(writer: _Writer, name: str, node: Node, inputs: Sequence[str]) -> str:
    op = _op(node)
    return writer.emit("ReduceMean", inputs, name, axes=op.axes, keepdims=int(op.keepdims))


WRITERS: Mapping[str, Callable[[_Writer, str, Node, Sequence[str]], str]] = {
    "add": _add,
    "average_pool": _pool,
    "concat": lambda w, name, node, x: w.emit("Concat", x, name, axis=_op(node).axis),
    "conv2d": _conv2d,
    "dense": _dense,
    "lookup": _lookup,
    "max_pool": _pool,
    "mean": _mean,
    "mul": lambda w, name, _, x: w.emit("Mul", x, name),
    "pad": _pad,
    "reshape": _reshape,
    "slice": _slice,
    "softmax": lambda w, name, _, x: w.emit("Softmax", x, name, axis=-1),
    "transpose": lambda w, name, node, x: w.emit("Transpose", x, name, perm=_op(node).perm),
}
NATIVE = frozenset({"conv2d", "average_pool", "max_pool", "lookup"})
"""Operators that run in the file's layout; the others see images with channels last."""
