"""Softmax over the last axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.ir import Array
from codegen.ops.reshape import reshape
from codegen.ops.transpose import transpose


@dataclass(frozen=True, slots=True)
class Softmax:
    """exp(x) over its sum along the last axis."""

    kind: ClassVar[str] = "softmax"

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The operand's shape."""
        if len(shapes[0]) < 2:
            raise ValueError("the only axis is the batch")
        return shapes[0]

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The probabilities."""
        (x,) = as_floats(inputs)
        powers = np.exp(x - x.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def _softmax(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    shape, rank = b.shape(x), b.rank(x)
    axis = node.integer("axis", -1 if node.opset >= 13 else 1)
    axis += rank if axis < 0 else 0
    if not 0 <= axis < rank:
        raise node.unsupported(f"axis {axis} of {rank} axes")
    if node.opset < 13:  # all axes from `axis` on are one
        flat = shape
        if axis < rank - 1:
            flat = (1, prod(shape[:axis]), prod(shape[axis:]))
        y = b.emit(Softmax(), (reshape(b, x, flat, node.sources),), node.sources)
        b.write(node, reshape(b, y, shape, node.sources))
        return
    order = [i for i in range(rank) if i != axis] + [axis]
    back = tuple(order.index(i) for i in range(rank))
    y = b.emit(Softmax(), (transpose(b, x, tuple(order), node.sources),), node.sources)
    b.write(node, transpose(b, y, back, node.sources))


OP = Softmax
ONNX: Mapping[str, Converter] = {"Softmax": _softmax}
