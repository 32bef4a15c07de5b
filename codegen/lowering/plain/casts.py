"""Numbers as numbers of another type."""

from __future__ import annotations

from collections.abc import Mapping

from codegen.build import Builder, Converter, OnnxNode
from codegen.lowering.plain.maps import apply, operand
from codegen.scalar import FUNCTIONS

TYPES: Mapping[int, str] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
    10: "float32", 11: "float32", 12: "uint32", 16: "float32", 21: "uint4", 22: "int4", 25: "uint2",
    26: "int2",
}  # fmt: skip
"""TensorProto data types; floating point of 16 and 64 bits is float32 here."""


def cast(b: Builder, name: str, dtype: str, sources: tuple[str, ...] = ()) -> str:
    """A plain tensor as another type: itself, a constant, or a cast."""
    if b.dtype(name) == dtype:
        return name
    value = b.tensors[name].data
    function = FUNCTIONS[f"to_{dtype}"]
    if value is not None:
        return b.plain_constant(function.compute((value[0],), ()), name, dtype)
    return apply(b, f"to_{dtype}", [name], sources)


def _cast(node: OnnxNode, b: Builder) -> None:
    dtype = TYPES.get(node.integer("to", 0))
    if dtype is None:
        raise node.unsupported("numbers of that type are not supported")
    x = operand(node, b, 0)
    b.write(node, cast(b, x, dtype, node.sources))


def _cast_like(node: OnnxNode, b: Builder) -> None:
    b.write(node, cast(b, b.plain(node, 0), b.dtype(b.plain(node, 1)), node.sources))


ONNX: Mapping[str, Converter] = {"Cast": _cast, "CastLike": _cast_like}
