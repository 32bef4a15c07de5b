"""Plain numbers: tensors of float32, int64, bool, ... that are on no grid. What their operators share.

Such an operator is a module of codegen/ops like any other. Its tensors have an axis 0 for samples that the
ONNX tensor has not: `(1, *shape)`. Besides `infer` and `evaluate` it says of what type its result is. Its
NumPy meaning is also the specification of the C: same operations on float32 in the same order, so that
both give the same bytes (docs/floats.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from codegen.ir import Array, Op, Tensor
from codegen.kernel import Constant, Footprint, Instance, Kernel, Layer, elementwise

PLAIN_TYPES: Mapping[str, str] = {
    "b8": "uint8_t",
    "i8": "int8_t",
    "u8": "uint8_t",
    "i16": "int16_t",
    "u16": "uint16_t",
    "i32": "int32_t",
    "u32": "uint32_t",
    "i64": "int64_t",
    "f32": "float",
}
"""C names of numbers in the arena, and the types that they alias (templates/kernels.c.j2)."""
_ALIASES: Mapping[str, str] = {
    "bool": "b8",
    "int2": "i8",
    "int4": "i8",
    "int8": "i8",
    "uint2": "u8",
    "uint4": "u8",
    "uint8": "u8",
    "int16": "i16",
    "uint16": "u16",
    "int32": "i32",
    "uint32": "u32",
    "int64": "i64",
    "float32": "f32",
}


@runtime_checkable
class PlainOp(Op, Protocol):
    """An operator on plain numbers."""

    def result_type(self, types: tuple[str, ...]) -> str:
        """The type of the result for these types of operands; ValueError if they do not go together."""
        ...


def alias(dtype: str) -> str:
    """What kernels call numbers of a type: "f32" for float32."""
    return _ALIASES[dtype]


def ctype(tensor: Tensor) -> str:
    """The C type of a tensor's elements outside of kernels: "float", "int64_t"; int8_t on a grid."""
    return "int8_t" if tensor.dtype is None else PLAIN_TYPES[alias(tensor.dtype)]


def c_number(value: float, kind: str) -> str:
    """A number as a C constant of a type; float32 exactly."""
    if kind == "float":
        if math.isinf(value):
            return "(1.0f / 0.0f)" if value > 0 else "(-1.0f / 0.0f)"
        return (
            f"{value:.9g}f" if "." in f"{value:.9g}" or "e" in f"{value:.9g}" else f"{value:.1f}f"
        )
    number = int(value)
    # C has no negative literals: INT32_MIN would be an expression of type long.
    if kind == "int64_t":
        return "(-9223372036854775807LL - 1)" if number == -(2**63) else f"{number}LL"
    if number == -(2**31):
        return "(-2147483647 - 1)"
    return f"{number}u" if kind.startswith("uint") else str(number)


def only_float(types: tuple[str, ...]) -> str:
    """The type of results of operators on float32 alone; ValueError for other operands."""
    if set(types) != {"float32"}:
        raise ValueError(f"operands of types {', '.join(types)}")
    return "float32"


def reference(
    op: PlainOp, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """The `reference` of operators whose `evaluate` is exact."""
    with np.errstate(all="ignore"):
        return op.evaluate(values).astype(out.numpy, copy=False)


def with_one_nan(array: Array) -> Array:
    """Numbers with one NaN for all: processors differ in its bits, so none are promised."""
    if array.dtype != np.float32:
        return array
    return np.where(np.isnan(array), np.float32(np.nan), array)


def operands(layer: Layer) -> tuple[list[dict[str, str]], tuple[Constant, ...]]:
    """For every input its C parameter and the alias of its type; and the constants among them.

    A parameter from the arena is a pointer to bytes, a constant one to its own type.
    """
    arena = len(layer.activations)
    rows, constants, seen = [], [], 0
    for index, tensor in enumerate(layer.inputs):
        if tensor.data is not None:
            name = f"k{index}"
            constants.append(Constant(name, ctype(tensor), tensor.data.astype(tensor.numpy)))
        else:
            name = "x" if arena == 1 else f"x{seen}"
            seen += 1
        rows.append({"parameter": name, "type": alias(tensor.dtype or "int8")})
    return rows, tuple(constants)


def item_footprints(layer: Layer) -> tuple[Footprint | None, ...]:
    """Operands with the output's elements of the output's width may be overwritten in place."""
    out = layer.output
    return tuple(
        elementwise(out.bytes) if (t.size, t.bytes) == (out.size, out.bytes) else None
        for t in layer.activations
    )


def disjoint(layer: Layer) -> tuple[Footprint | None, ...]:
    """No operand may be overwritten."""
    return (None,) * len(layer.activations)


def plain_kernel(
    kind: str,
    template: str,
    instance: Callable[[Layer], Instance],
    cycles: Callable[[Layer], float],
    footprints: Callable[[Layer], tuple[Footprint | None, ...]] = disjoint,
    scratch: Callable[[Layer], int] = lambda layer: 0,
) -> Kernel:
    """The portable kernel of an operator on plain numbers."""
    return Kernel(
        name=f"{kind}.plain",
        template=template,
        serves=lambda layer: layer.is_plain,
        instance=instance,
        cycles=cycles,
        footprints=footprints,
        scratch=scratch,
    )
