"""ONNX in, float graph out. This module, onnx_load.py and onnx_save.py are the only ones that import onnx."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from codegen.build import Builder, OnnxNode, finite
from codegen.ir import Array, Graph, verify
from codegen.limits import MAX_FOLDED, check_work
from codegen.lowering import CONVERTERS, SUPPORTED, refused
from codegen.lowering.plain import PLAIN
from codegen.lowering.plain.constants import copied
from codegen.names import identifier
from codegen.onnx_load import check, guarded, pin_inputs, read_model, reason, simplified
from targets.errors import ThumbnetError, UnsupportedModel, UsageError

INPUT_TYPES = {1: "float32", 10: "float32", 11: "float32", 2: "uint8", 3: "int8"}
PLAIN_INPUTS = {
    1: "float32", 10: "float32", 11: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16",
    6: "int32", 7: "int64", 9: "bool", 12: "uint32", 21: "uint4", 22: "int4", 25: "uint2", 26: "int2",
}  # fmt: skip

# What exporters compute shapes and constants with. Evaluated here when every operand is constant.
FOLDABLE = frozenset({
    "Abs", "Add", "And", "BlackmanWindow", "Cast", "Ceil", "Clip", "Concat", "ConstantOfShape",
    "Div", "Equal", "Exp", "Expand", "Flatten", "Floor", "Gather", "Greater", "GreaterOrEqual",
    "HammingWindow", "HannWindow", "Identity", "Less", "LessOrEqual", "Max", "MelWeightMatrix",
    "Min", "Mul", "Neg", "Not", "Or", "Pow", "QuantizeLinear", "Range", "Reciprocal", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Sign", "Slice", "Split",
    "Sqrt", "Squeeze", "Sub", "Sum", "Tile", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
WINDOWS = frozenset({"BlackmanWindow", "HammingWindow", "HannWindow"})
MOVES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
# Worth a way back to integers, where an operand is plain.
WEIGHTED = frozenset({"Conv", "ConvTranspose", "GRU", "Gemm", "LSTM", "MatMul"})
MARKERS = frozenset({"DequantizeLinear", "QuantizeLinear"})  # of grids that integers alone can have
GRIDS = MARKERS | {"QLinearConv", "QLinearMatMul"}
COMPARISONS = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
RECURRENT = frozenset({"GRU", "LSTM"})
IN_FLOAT = GRIDS | COMPARISONS | RECURRENT  # whose plain form serves where nothing is quantized
COMPUTED = MOVES | {
    "BipolarQuant",
    "DequantizeLinear",
    "IntQuant",
    "Quant",
}  # their converters take constants


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def load(
    path: Path,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    simplify: bool = False,
    floats: bool = False,
    islands: bool = True,
) -> Graph:
    """The float graph of an ONNX file, before any pass.

    Shapes are inferred by our operators: onnx's own inference can abort the process on a hostile file.

    Args:
        path: the file.
        shapes: sizes for inputs that the file leaves open, by input name.
        simplify: run onnxslim first.
        floats: everything is to compute on plain numbers; inputs may then have any shape and type.
        islands: what has no form on reals, which are to be quantized, may compute on plain numbers.
    """
    model = guarded(str(path), lambda: read_model(path))
    guarded(str(path), lambda: _refuse_unknown(model))
    guarded(str(path), lambda: pin_inputs(model, shapes or {}, floats))
    guarded(str(path), lambda: check(model))
    if simplify:
        model = simplified(model)
    b = Builder(floats, islands)
    guarded(str(path), lambda: _convert(model, b))
    outputs = [(value.name, _output(b, value.name)) for value in model.graph.output]
    _check_outputs(b, outputs)
    graph = verify(b.finish(identifier(path.stem), outputs))
    check_work(graph)
    return graph


def _output(b: Builder, name: str) -> str:
    """The tensor of an output; what does not depend on the inputs is copied from flash."""
    tensor = b.get(name)
    return copied(b, tensor) if b.floats and b.is_constant(tensor) else tensor


def _check_outputs(b: Builder, outputs: list[tuple[str, str]]) -> None:
    for name, tensor in outputs:
        if b.is_constant(tensor):
            raise UnsupportedModel(f"output {name!r} does not depend on the inputs")
        if tensor in b.conditions:
            raise UnsupportedModel(f"output {name!r} is a truth value; outputs must be numbers")
    if not outputs or not (b.inputs or b.floats):
        raise UnsupportedModel("the model has no inputs or no outputs")


def _refuse_unknown(model: onnx.ModelProto) -> None:
    for proto in model.graph.node:
        key = _node(proto, {}).key
        if (
            key not in CONVERTERS
            and key not in PLAIN
            and key not in FOLDABLE
            and key not in ("Constant", "Shape", "Size")
        ):
            raise _unknown(_node(proto, {}))


def _unknown(node: OnnxNode) -> UnsupportedModel:
    hint = "supported: " + ", ".join(sorted({*SUPPORTED, *PLAIN}))
    key = node.key if node.key.isprintable() else repr(node.key)
    why = f"node {node.label!r}: operator {key} is not supported"
    return UnsupportedModel(why, hint=hint, node=node.label)


def _convert(model: onnx.ModelProto, b: Builder) -> None:
    opsets = {_domain(entry.domain): entry.version for entry in model.opset_import}
    for tensor in model.graph.initializer:
        b.set(tensor.name, b.constant(_array(tensor, tensor.name), tensor.name))
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in constants:
            b.set(value.name, _input(value, b))
    for proto in model.graph.node:
        node = _node(proto, opsets)
        with _naming(node):
            if not _fold(node, proto, opsets, b):
                _lower(node, b)


def _lower(node: OnnxNode, b: Builder) -> None:
    """Adds a node that is not computed here."""
    if not _is_constant(node, b) or node.op_type in COMPUTED:
        _translate(node, b)
    elif b.floats and node.key in PLAIN:
        PLAIN[node.key](node, b)
    else:
        hint = "--simplify computes the result beforehand"
        raise node.unsupported("all operands are constant", hint)


def _translate(node: OnnxNode, b: Builder) -> None:
    """Emits a node: on reals, which are to be quantized, where that can be; else on plain numbers."""
    real, plain = CONVERTERS.get(node.key), PLAIN.get(node.key) if b.islands else None
    if real is None and plain is None:
        raise _unknown(node)
    stays = node.op_type not in WEIGHTED and b.reads_plain(node)
    if plain and (real is None or stays or (b.floats and node.op_type in IN_FLOAT)):
        plain(node, b)
        return
    assert real is not None
    mark = b.mark()
    try:
        real(node, b)
    except UnsupportedModel:
        quantizes = node.key in refused.ONNX or node.op_type in MARKERS
        if plain is None or (quantizes and not b.floats):
            raise
        b.roll_back(mark)
        plain(node, b)


@contextmanager
def _naming(node: OnnxNode) -> Iterator[None]:
    """Whatever a library raises about a node becomes an error that names it."""
    try:
        yield
    except ThumbnetError:
        raise
    except Exception as error:
        raise node.unsupported(f"its operands or attributes do not fit: {reason(error)}") from error


def _input(value: onnx.ValueInfoProto, b: Builder) -> str:
    tensor_type = value.type.tensor_type
    shape = tuple(dim.dim_value for dim in tensor_type.shape.dim)
    kind = PLAIN_INPUTS.get(tensor_type.elem_type)
    if tensor_type.elem_type in INPUT_TYPES and not (b.floats and kind):
        return b.input(value.name, shape, INPUT_TYPES[tensor_type.elem_type])
    if not b.islands:
        raise UnsupportedModel(f"input {value.name!r} is neither floating point nor 8-bit integer")
    if kind is None:
        raise UnsupportedModel(f"input {value.name!r} holds no numbers of a known type")
    if kind == "float32" and shape[:1] == (1,):  # real to operators, though not to be quantized
        return b.input(value.name, shape)
    return b.plain_input(value.name, shape, kind)


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _node(proto: onnx.NodeProto, opsets: Mapping[str, int]) -> OnnxNode:
    domain = _domain(proto.domain)
    inputs, outputs = tuple(proto.input), tuple(proto.output)
    opset = opsets.get(domain, 1)
    bare = OnnxNode(proto.op_type, domain, proto.name, inputs, outputs, {}, opset)
    with _naming(bare):
        return replace(bare, attributes={e.name: _attribute(bare, e) for e in proto.attribute})


def _attribute(node: OnnxNode, entry: onnx.AttributeProto) -> object:
    if entry.type == onnx.AttributeProto.UNDEFINED:
        raise node.unsupported(f"attribute {entry.name!r} has no type")
    value = onnx.helper.get_attribute_value(entry)
    if isinstance(value, onnx.TensorProto):
        return _array(value, entry.name)
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
        return (
            text if text.isprintable() else ascii(text)
        )  # messages quote it; no known word is such
    return value if isinstance(value, int | float) else tuple(value)


def _array(tensor: onnx.TensorProto, name: str) -> Array:
    """A tensor's numbers; floating point becomes float32 and must be finite."""
    array: Array = guarded(f"tensor {name!r}", lambda: numpy_helper.to_array(tensor))
    if tensor.data_type == onnx.TensorProto.BFLOAT16 or np.issubdtype(array.dtype, np.floating):
        return finite(array, name)
    return array


def _fold(node: OnnxNode, proto: onnx.NodeProto, opsets: Mapping[str, int], b: Builder) -> bool:
    """Evaluates a node at compile time if that is possible; says whether it was."""
    if node.op_type == "Constant":
        b.write(node, b.constant(_constant(node), node.label))
        return True
    tensors = [b.tensors[b.get(name)] for name in node.inputs if name]
    if node.op_type in ("Shape", "Size"):
        shape = b.onnx_shape(b.get(node.inputs[0]))
        sizes = shape[node.integer("start", 0) : node.integer("end", len(shape))]
        value = sizes if node.op_type == "Shape" else prod(sizes)
        b.write(node, b.constant(np.asarray(value, np.int64), node.label))
        return True
    if node.key not in FOLDABLE or not all(tensor.data is not None for tensor in tensors):
        return False
    if node.op_type in MOVES and tensors[0].quant is not None:
        return False
    values = {name: b.value(b.get(name)) for name in node.inputs if name}
    arrays = {name: value for name, value in values.items() if value is not None}
    if _folded_size(node, arrays) > MAX_FOLDED:
        raise node.unsupported("the constant result is too large")
    for output, result in zip(node.outputs, _evaluate(proto, opsets, arrays), strict=True):
        if output:
            b.set(output, b.constant(np.asarray(result), output))
    return True


def _is_constant(node: OnnxNode, b: Builder) -> bool:
    return bool(node.inputs) and all(b.is_constant(b.get(name)) for name in node.inputs if name)


def _constant(node: OnnxNode) -> Array:
    if len(node.attributes) != 1:
        raise node.unsupported("exactly one value is expected")
    ((key, value),) = node.attributes.items()
    if isinstance(value, str) or "string" in key or "sparse" in key:
        raise node.unsupported("only numbers are supported")
    if isinstance(value, np.ndarray):
        return value
    return np.asarray(value, np.float32 if "float" in key else np.int64)


def _product(node: OnnxNode, operands: list[Array]) -> int:
    """The elements of a result that grows with two operands."""
    if node.op_type == "Gather":
        return operands[0].size * max(operands[1].size, 1)
    bins, length, *_ = (abs(int(operand.reshape(-1)[0])) for operand in operands)
    return bins * (length + 1)


def _folded_size(node: OnnxNode, arrays: Mapping[str, Array]) -> int:
    """An upper bound of the elements in the result, before anything is allocated."""
    operands = [arrays[name] for name in node.inputs if name]
    total = sum(operand.size for operand in operands)
    sizes = [abs(int(v)) for v in operands[-1].reshape(-1)[:64]] if total else []
    if node.op_type == "ConstantOfShape" or node.op_type in WINDOWS:
        return prod(sizes)
    if node.op_type in ("Expand", "Tile"):
        return prod(max(size, 1) for size in sizes) * operands[0].size
    if node.op_type in ("Gather", "MelWeightMatrix"):
        return _product(node, operands)
    if node.op_type == "Range":
        start, limit, delta = (float(operand) for operand in operands)
        return int(abs((limit - start) / delta)) + 1 if delta else MAX_FOLDED + 1
    try:
        return max(total, prod(np.broadcast_shapes(*(operand.shape for operand in operands))))
    except ValueError:
        return total


def _evaluate(
    proto: onnx.NodeProto, opsets: Mapping[str, int], arrays: Mapping[str, Array]
) -> list[Array]:
    """The results of one node on constants, by the reference evaluator."""
    info = onnx.helper.make_tensor_value_info
    kinds = {k: onnx.helper.np_dtype_to_tensor_dtype(a.dtype) for k, a in arrays.items()}
    inputs = [info(name, kinds[name], array.shape) for name, array in arrays.items()]
    outputs = [info(name, onnx.TensorProto.UNDEFINED, None) for name in proto.output if name]
    graph = onnx.helper.make_graph([proto], "constant", inputs, outputs)
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    model = onnx.helper.make_model(graph, opset_imports=imports)
    with np.errstate(all="ignore"):
        return list(ReferenceEvaluator(model).run(None, dict(arrays)))
