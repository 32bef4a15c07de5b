"""Operators of onnxruntime's QOperator form, rewritten: dequantize, compute in float, quantize."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from codegen import ops
from codegen.build import Builder, Converter, OnnxNode
from codegen.ir import Quant
from codegen.lowering.quantize_linear import read_grid, stored_constant
from codegen.qdq import Dequantize, Quantize


def _operand(node: OnnxNode, b: Builder, index: int, axis: int = 0) -> str:
    """The real tensor of operands (integers, scale, zero point) from `index` on."""
    x = b.read(node, index)
    tensor, zero = b.tensors[x], b.static(node, index + 2)
    stored = tensor.data.dtype.name if tensor.data is not None else None
    dtype = stored or b.stored_types.get(x) or (zero.dtype.name if zero is not None else "uint8")
    quant = read_grid(node, b, index + 1, dtype, b.rank(x), axis)
    if tensor.data is not None:
        return stored_constant(b, x, quant, tensor.data)
    return b.emit(Dequantize(quant), (x,), node.sources)


def _compute(node: OnnxNode, b: Builder, op_type: str, operands: Sequence[str], grid: int) -> None:
    """Applies the float operator to tensors, and quantizes to the grid in operand `grid`."""
    names = tuple(
        f"{node.outputs[0]}/{index}" if name else "" for index, name in enumerate(operands)
    )
    for name, tensor in zip(names, operands, strict=True):
        if name:
            b.set(name, tensor)
    result = f"{node.outputs[0]}/result"
    plain = replace(node, op_type=op_type, domain="", inputs=names, outputs=(result,))
    ops.CONVERTERS[op_type](plain, b)
    y = b.get(result)
    zero = b.static(node, grid + 1)
    dtype = zero.dtype.name if zero is not None else "uint8"
    quant = read_grid(node, b, grid, dtype, b.rank(y), 0)
    output = b.emit(Quantize(quant), (y,), node.sources)
    b.annotate(output, quant, dtype)
    b.write(node, output)


def _bias(node: OnnxNode, b: Builder, index: int, x: str, w: str) -> str:
    """The int32 bias, on the grid that the products of x and w have."""
    if not node.has(index):
        return ""
    tensor, weights = b.tensors[b.read(node, index)], b.tensors[w].quant
    if tensor.data is None or weights is None:
        raise node.unsupported("weights and bias must be constant")
    scale = _scale_of(b, x)
    scales = tuple(scale * value for value in weights.scales)
    axis = 0 if len(scales) > 1 else None
    quant = Quant(scales, (0,) * len(scales), axis, 32)
    return b.constant(tensor.data.reshape(-1).astype(np.int32), tensor.name, quant)


def _scale_of(b: Builder, x: str) -> float:
    op = next(node.op for node in reversed(b.nodes) if node.output == x)
    assert isinstance(op, Dequantize)
    return op.quant.scale


def _conv(node: OnnxNode, b: Builder) -> None:
    x, w = _operand(node, b, 0), _operand(node, b, 3)
    _compute(node, b, "Conv", (x, w, _bias(node, b, 8, x, w)), 6)


def _matmul(node: OnnxNode, b: Builder) -> None:
    w = _operand(node, b, 3, axis=1)
    _compute(node, b, "MatMul", (_operand(node, b, 0), w), 6)


def _gemm(node: OnnxNode, b: Builder) -> None:
    if node.real("alpha", 1.0) != 1.0:
        raise node.unsupported("alpha must be 1")
    x = _operand(node, b, 0)
    w = _operand(node, b, 3, axis=0 if node.integer("transB", 0) else 1)
    _compute(node, b, "Gemm", (x, w, _bias(node, b, 6, x, w)), 7)


def _binary(op_type: str) -> Converter:
    def convert(node: OnnxNode, b: Builder) -> None:
        _compute(node, b, op_type, (_operand(node, b, 0), _operand(node, b, 3)), 6)

    return convert


def _unary(op_type: str) -> Converter:
    def convert(node: OnnxNode, b: Builder) -> None:
        if node.integer("channels_last", 0):
            raise node.unsupported("channels_last is not supported")
        plain = replace(node, opset=node.integer("opset", 13))
        _compute(plain, b, op_type, (_operand(node, b, 0),), 3)

    return convert


def _concat(node: OnnxNode, b: Builder) -> None:
    operands = [_operand(node, b, index) for index in range(2, len(node.inputs), 3)]
    _compute(node, b, "Concat", operands, 0)


ONNX: Mapping[str, Converter] = {
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "com.microsoft::QGemm": _gemm,
    "com.microsoft::QLinearAdd": _binary("Add"),
    "com.microsoft::QLinearAveragePool": _unary("AveragePool"),
    "com.microsoft::QLinearConcat": _concat,
    "com.microsoft::QLinearConv": _conv,
    "com.microsoft::QLinearGlobalAveragePool": _unary("GlobalAveragePool"),
    "com.microsoft::QLinearLeakyRelu": _unary("LeakyRelu"),
    "com.microsoft::QLinearMul": _binary("Mul"),
    "com.microsoft::QLinearSigmoid": _unary("Sigmoid"),
    "com.microsoft::QLinearSoftmax": _unary("Softmax"),
}
