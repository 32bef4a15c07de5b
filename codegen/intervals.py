"""Interval analysis of a quantized graph: which stored values can every element take?

Integers make it exact where it matters: an element whose interval is one value *is* that constant, for
every input. Padding, borders and fused activations are seen element by element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codegen.ir import Array, Graph, IntArray, Node, Tensor
from codegen.ops import QUANTIZED, conv2d, dense
from codegen.ops.add import Add
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.ops.lookup import Lookup, table


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """Least and largest stored value of every element of a tensor, int8, the tensor's shape."""

    low: Array
    high: Array

    def channel_constants(self) -> dict[int, int]:
        """Channels (indices of the last axis) that hold one value everywhere, and the value."""
        low = self.low.reshape(-1, self.low.shape[-1])
        high = self.high.reshape(-1, self.high.shape[-1])
        fixed = (low.min(axis=0) == high.max(axis=0)).nonzero()[0]
        return {int(channel): int(low[0, channel]) for channel in fixed}


def analyse(graph: Graph) -> dict[str, Interval]:
    """The interval of every activation of a quantized graph."""
    found: dict[str, Interval] = {}
    for port in graph.inputs:
        found[port.tensor] = _anything(graph.tensors[port.tensor])
    for node in graph.nodes:
        operands = tuple(graph.tensors[name] for name in node.inputs)
        given = tuple(
            Interval(t.data, t.data) if t.data is not None else found[t.name] for t in operands
        )
        rule = _RULES.get(node.op.kind, _monotone)
        found[node.output] = rule(node, operands, given, graph.tensors[node.output])
    return found


def _anything(tensor: Tensor) -> Interval:
    if tensor.grid.width == 1:
        return Interval(np.full(tensor.shape, -1, np.int8), np.full(tensor.shape, 1, np.int8))
    return Interval(np.full(tensor.shape, -128, np.int8), np.full(tensor.shape, 127, np.int8))


Rule = Callable[[Node, tuple[Tensor, ...], tuple[Interval, ...], Tensor], Interval]


def _monotone(
    node: Node, operands: tuple[Tensor, ...], given: tuple[Interval, ...], out: Tensor
) -> Interval:
    """Operators whose result never falls when an operand rises: the ends give the ends."""
    reference = QUANTIZED[node.op.kind]
    low = reference(node.op, tuple(i.low for i in given), operands, out)
    return Interval(low, reference(node.op, tuple(i.high for i in given), operands, out))


def _weighted(
    node: Node, operands: tuple[Tensor, ...], given: tuple[Interval, ...], out: Tensor
) -> Interval:
    """Convolution and dense: positive weights take one end of the input, negative ones the other."""
    op, x, w = node.op, operands[0], operands[1].values
    assert isinstance(op, Conv2D | Dense)
    low = given[0].low.astype(np.int32) - x.grid.zero_point
    high = given[0].high.astype(np.int32) - x.grid.zero_point
    up, down = np.maximum(w, 0), np.minimum(w, 0)

    def total(values: Array, weights: Array) -> npt.NDArray[np.int32]:
        if isinstance(op, Conv2D):
            return conv2d.accumulate(op, values, weights)
        return dense.accumulate(values, weights)

    bias: IntArray = operands[2].values.astype(np.int64)
    least = total(low, up).astype(np.int64) + total(high, down) + bias
    most = total(high, up).astype(np.int64) + total(low, down) + bias
    requantize = conv2d.requantize if isinstance(op, Conv2D) else dense.requantize
    return Interval(
        requantize(op, least, operands, out),  # type: ignore[arg-type]
        requantize(op, most, operands, out),  # type: ignore[arg-type]
    )


def _signed_sum(
    node: Node, operands: tuple[Tensor, ...], given: tuple[Interval, ...], out: Tensor
) -> Interval:
    """Addition and subtraction: an operand with a minus sign takes its other end."""
    op = node.op
    assert isinstance(op, Add)
    ends = [
        (i.low, i.high) if sign > 0 else (i.high, i.low)
        for i, sign in zip(given, op.signs, strict=True)
    ]
    reference = QUANTIZED["add"]
    low = reference(op, tuple(end[0] for end in ends), operands, out)
    return Interval(low, reference(op, tuple(end[1] for end in ends), operands, out))


def _product(
    node: Node, operands: tuple[Tensor, ...], given: tuple[Interval, ...], out: Tensor
) -> Interval:
    """Multiplication: the extremes lie at the corners."""
    reference = QUANTIZED["mul"]
    a, b = given
    corners = [
        reference(node.op, (x, y), operands, out) for x in (a.low, a.high) for y in (b.low, b.high)
    ]
    return Interval(np.minimum.reduce(corners), np.maximum.reduce(corners))


def _looked_up(
    node: Node, operands: tuple[Tensor, ...], given: tuple[Interval, ...], out: Tensor
) -> Interval:
    """Any table: least and largest entry between the ends."""
    op = node.op
    assert isinstance(op, Lookup)
    entries = table(op, operands[0].grid, out.grid)
    least, most = np.full((256, 256), 127, np.int8), np.full((256, 256), -128, np.int8)
    for first in range(256):
        least[first, first:] = np.minimum.accumulate(entries[first:])
        most[first, first:] = np.maximum.accumulate(entries[first:])
    low, high = (end.astype(np.int32) + 128 for end in (given[0].low, given[0].high))
    return Interval(least[low, high], most[low, high])


def _unknown(
    node: Node, operands: tuple[Tensor, ...], given: tuple[Interval, ...], out: Tensor
) -> Interval:
    return _anything(out)


def _reshaped(
    node: Node, operands: tuple[Tensor, ...], given: tuple[Interval, ...], out: Tensor
) -> Interval:
    """The same elements, of bits too."""
    return Interval(given[0].low.reshape(out.shape), given[0].high.reshape(out.shape))


_RULES: Mapping[str, Rule] = {
    "add": _signed_sum,
    "binarize": _unknown,
    "binary_conv2d": _unknown,
    "bit_max_pool": _unknown,
    "conv2d": _weighted,
    "dense": _weighted,
    "gated": _unknown,
    "lookup": _looked_up,
    "mul": _product,
    "reshape": _reshaped,
    "softmax": _unknown,
}
