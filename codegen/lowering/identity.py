"""Operators that change nothing at inference time."""

from __future__ import annotations

from collections.abc import Mapping

from codegen.build import Builder, Converter, OnnxNode
from codegen.ir import per_tensor
from codegen.lowering.signs import chosen
from codegen.qdq import Dequantize

FLOATS = (1, 10, 11, 16)  # TensorProto: FLOAT, FLOAT16, DOUBLE, BFLOAT16


def _identity(node: OnnxNode, b: Builder) -> None:
    b.write(node, b.read(node, 0))


def _dropout(node: OnnxNode, b: Builder) -> None:
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.unsupported("the mask is not supported")
    _identity(node, b)


def _cast(node: OnnxNode, b: Builder) -> None:
    if node.integer("to", 1) not in FLOATS:
        raise node.unsupported("only casts to floating point are supported")
    x = b.read(node, 0)
    if x in b.conditions:
        b.write(node, chosen(node, b, 1.0, 0.0))
        return
    kind = b.stored_types.get(x)
    if kind is not None and b.tensors[x].quant is not None:
        raise node.unsupported("it reads quantized integers as numbers")
    if kind is not None:  # an image of bytes: the numbers are the integers themselves
        quant = per_tensor(1.0, -128 if kind == "uint8" else 0)
        x = b.emit(Dequantize(quant), (x,), node.sources)
    b.write(node, x)


ONNX: Mapping[str, Converter] = {"Cast": _cast, "Dropout": _dropout, "Identity": _identity}
