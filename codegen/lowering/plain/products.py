"""Products of matrices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.lowering.plain.shapes import reshape, same_rank
from codegen.ops.map import Map
from codegen.ops.matmul import MatMul


def product(b: Builder, left: str, right: str, sources: tuple[str, ...]) -> str:
    """The product of plain tensors as MatMul of ONNX means it: vectors are rows, columns on the right."""
    rows, columns = b.plain_shape(left), b.plain_shape(right)
    a = reshape(b, left, (1, *rows), sources) if len(rows) == 1 else left
    c = reshape(b, right, (*columns, 1), sources) if len(columns) == 1 else right
    made = b.emit(MatMul(), same_rank(b, [a, c]), sources)
    shape = b.plain_shape(made)
    if len(rows) == 1:
        shape = (*shape[:-2], shape[-1])
    if len(columns) == 1:
        shape = shape[:-1]
    return reshape(b, made, shape, sources)


def scaled(node: OnnxNode, b: Builder, name: str, factor: float) -> str:
    """A plain tensor times a number."""
    if factor == 1.0:
        return name
    dtype = b.dtype(name)
    number = np.asarray(factor, b.tensors[name].numpy)
    if dtype != "float32" and float(number) != factor:
        raise node.unsupported(f"{dtype} numbers times {factor}")
    value = b.tensors[name].data
    if value is not None:
        return b.plain_constant((value * number)[0], name, dtype)
    rank = len(b.plain_shape(name))
    other = b.plain_constant(number.reshape((1,) * rank), f"{node.label}.factor", dtype)
    return b.emit(Map("multiply"), (name, other), node.sources)


def _matmul(node: OnnxNode, b: Builder) -> None:
    if not (b.plain_shape(b.plain(node, 0)) and b.plain_shape(b.plain(node, 1))):
        raise node.unsupported("a single number is no matrix")
    b.write(node, product(b, b.plain(node, 0), b.plain(node, 1), node.sources))


def _gemm(node: OnnxNode, b: Builder) -> None:
    left, right = b.plain(node, 0), b.plain(node, 1)
    if len(b.plain_shape(left)) != 2 or len(b.plain_shape(right)) != 2:
        raise node.unsupported("both operands must be matrices")
    alpha, beta = node.real("alpha", 1.0), node.real("beta", 1.0)
    if b.is_constant(right):
        right = scaled(node, b, right, alpha)
    else:
        left = scaled(node, b, left, alpha)
    operands = [left, right]
    if node.has(2) and beta != 0.0:
        operands.append(scaled(node, b, b.plain(node, 2), beta))
    swapped = bool(node.integer("transA", 0)), bool(node.integer("transB", 0))
    b.write(node, b.emit(MatMul(swapped), same_rank(b, operands), node.sources))


ONNX: Mapping[str, Converter] = {"Gemm": _gemm, "MatMul": _matmul}
