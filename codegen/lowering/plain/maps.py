"""What converters need to apply functions of single numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.lowering.plain.shapes import same_rank
from codegen.ops.map import Map


def apply(
    b: Builder, function: str, operands: Sequence[str], sources: tuple[str, ...], hint: str = ""
) -> str:
    """A function (codegen.scalar) of plain tensors, which broadcast as ONNX broadcasts."""
    return b.emit(Map(function), same_rank(b, operands), sources, hint)


def operand(node: OnnxNode, b: Builder, index: int) -> str:
    """A node's operand; of a comparison that is kept as a sign (codegen.lowering.signs), the truth."""
    name = b.get(node.inputs[index]) if node.has(index) else ""
    if name not in b.conditions:
        return b.plain(node, index)
    sign, polarity = b.conditions[name]
    number = b.as_plain(node, sign)
    zero = b.plain_constant(np.zeros((), np.float32), "zero", "float32")
    return apply(b, "greater" if polarity > 0 else "less", [number, zero], node.sources)


def parameters(
    b: Builder, function: str, operand: str, sources: tuple[str, ...], *numbers: float
) -> str:
    """A function of a plain tensor and of numbers known at compile time."""
    return b.emit(Map(function, tuple(numbers)), (operand,), sources)


ONNX: Mapping[str, Converter] = {}
