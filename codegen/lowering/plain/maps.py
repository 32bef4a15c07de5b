"""What converters need to apply functions of single numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codegen.build import Builder, Converter
from codegen.lowering.plain.shapes import same_rank
from codegen.ops.map import Map


def apply(
    b: Builder, function: str, operands: Sequence[str], sources: tuple[str, ...], hint: str = ""
) -> str:
    """A function (codegen.scalar) of plain tensors, which broadcast as ONNX broadcasts."""
    return b.emit(Map(function), same_rank(b, operands), sources, hint)


def parameters(
    b: Builder, function: str, operand: str, sources: tuple[str, ...], *numbers: float
) -> str:
    """A function of a plain tensor and of numbers known at compile time."""
    return b.emit(Map(function, tuple(numbers)), (operand,), sources)


ONNX: Mapping[str, Converter] = {}
