"""Arithmetic, comparisons, logic: one function of single numbers each."""

from __future__ import annotations

from collections.abc import Mapping

from codegen.build import Builder, Converter, OnnxNode
from codegen.lowering.plain.shapes import same_rank
from codegen.ops.map import Map


def _binary(function: str) -> Converter:
    def convert(node: OnnxNode, b: Builder) -> None:
        operands = same_rank(b, [b.plain(node, index) for index in range(2)])
        b.write(node, b.emit(Map(function), operands, node.sources))

    return convert


ONNX: Mapping[str, Converter] = {
    "Add": _binary("add"),
    "Less": _binary("less"),
    "Mul": _binary("multiply"),
    "Sub": _binary("subtract"),
}
