"""Weights that a model brings along in few bits, stored in few bits again: nothing is rounded.

What flash has to hold follows from the integers alone: their range, and the common divisors of their blocks.
So it does not matter whether a file has int4 tensors, int8 tensors that a Clip bounds, or blocks with scales.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codegen.ir import Factors, Graph, IntArray, Node, Storage, Tensor, verify_quantized
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.quant.scheme import counted

BLOCKS = {"vsq16": 16, "group32": 32}
FACTOR_BITS = 4


def compact(graph: Graph) -> Graph:
    """The graph with a storage of few bits for weights whose integers allow one; depthwise ones stay int8."""
    stored = {
        node.inputs[1]: found
        for node in graph.nodes
        if _is_wide(graph, node)
        and (found := storage(_rows(graph.tensors[node.inputs[1]]))) is not None
    }
    changed = [replace(graph.tensors[name], storage=found) for name, found in stored.items()]
    return verify_quantized(graph.with_tensors(*changed))


def _is_wide(graph: Graph, node: Node) -> bool:
    """Whether a node has weights over several inputs, as they are in flash."""
    if not isinstance(node.op, Conv2D | Dense):
        return False
    weights = graph.tensors[node.inputs[1]]
    depthwise = isinstance(node.op, Conv2D) and node.op.groups > 1
    return weights.storage is None and weights.grid.width == 8 and not depthwise


def _rows(weights: Tensor) -> IntArray:
    rows: IntArray = weights.values.astype(np.int64).reshape(len(weights.values), -1)
    return rows


def storage(rows: IntArray) -> Storage | None:
    """The storage with the fewest bits that expands to rows of integers; None where int8 is it.

    Args:
        rows: (rows, length).
    """
    low, high = int(rows.min(initial=0)), int(rows.max(initial=0))
    if low >= -1 and high <= 1:
        return _uniform("ternary", "ternary", 2, rows)
    if low >= -2 and high <= 1:
        return _uniform("uniform", "int2", 2, rows)
    if low >= -8 and high <= 7:
        return _uniform("uniform", "int4", 4, rows)
    if np.all(rows.max(axis=1) - rows.min(axis=1) < 16):
        return _shifted(rows)
    found = (_grouped(name, size, rows) for name, size in reversed(BLOCKS.items()))
    return next((each for each in found if each is not None), None)


def _uniform(scheme: str, weights: str, bits: int, rows: IntArray) -> Storage:
    codes = (rows + (1 << (bits - 1))).astype(np.uint8)
    return Storage(scheme, weights, bits, codes, counted(bits))


def _shifted(rows: IntArray) -> Storage:
    """Codes of 4 bits whose zero is where each row has it: zero points other than the middle."""
    least = rows.min(axis=1, keepdims=True)
    levels = np.minimum(least + np.arange(16), 127).astype(np.int8)
    return Storage("zero-point", "int4", 4, (rows - least).astype(np.uint8), levels)


def _grouped(name: str, size: int, rows: IntArray) -> Storage | None:
    """Codes of 4 bits times the greatest common divisor of their block; None where one is too large."""
    length = rows.shape[1]
    cut = np.pad(rows, ((0, 0), (0, -length % size))).reshape(len(rows), -1, size)
    divisors = np.maximum(np.gcd.reduce(cut, axis=2), 1)
    codes = cut // divisors[:, :, None]
    # Codes that are all even, say, divide too far: any factor that both limits allow will do.
    if divisors.max() >= 1 << FACTOR_BITS or codes.min() < -8 or codes.max() > 7:
        return None
    flat = (codes.reshape(len(rows), -1)[:, :length] + 8).astype(np.uint8)
    factors = Factors(size, FACTOR_BITS, False, divisors.astype(np.uint8))
    return Storage(name, "int4", 4, flat, counted(4), (factors,))
