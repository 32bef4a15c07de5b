"""Sums of products of plain numbers: their types, what bounds them, what they cost.

Float32 products and sums are rounded one by one, in order. Integers of up to 32 bits add up to int32, and
int64 to int64; sums wrap around where they do not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from codegen.ir import Array, Tensor
from codegen.kernel import Layer
from codegen.plain import alias, c_number

Clamp = tuple[float, float] | None
Numbers: TypeAlias = npt.NDArray[Any]

SMALL = frozenset({"int8", "uint8", "int16", "uint16", "int32"})
BLOCK = 4  # results at once: as many as share the load of an operand


def sum_type(types: Sequence[str]) -> str:
    """The type of sums of products; ValueError where operands do not go together."""
    kinds = set(types)
    if kinds <= SMALL:
        return "int32"
    if len(kinds) == 1 and kinds <= {"float32", "int64", "uint32"}:
        return types[0]
    raise ValueError(f"operands of types {', '.join(types)}")


def result_type(types: Sequence[str]) -> str:
    """The type of sums of two operands' products; ValueError where a third, their start, is of another."""
    found = sum_type(types[:2])
    if any(other != found for other in types[2:]):
        raise ValueError(f"sums of type {found} start from {types[2]}")
    return found


def promoted(inputs: Sequence[Array]) -> list[Numbers]:
    """Operands as numbers of the type of their sums."""
    kind = np.dtype(sum_type([array.dtype.name for array in inputs]))
    return [array.astype(kind, copy=False) for array in inputs]


def clamped(y: Numbers, clamp: Clamp) -> Numbers:
    """Results within bounds; NaN stays."""
    if clamp is None:
        return y
    low, high = (y.dtype.type(bound) for bound in clamp)
    return np.where(y < low, low, np.where(y > high, high, y))


def bounds(clamp: Clamp) -> dict[str, str | None]:
    """The bounds as C; None where nothing bounds."""
    low, high = clamp or (-np.inf, np.inf)
    return {
        "low": None if low == -np.inf else c_number(float(np.float32(low)), "float"),
        "high": None if high == np.inf else c_number(float(np.float32(high)), "float"),
    }


def types(out: Tensor) -> dict[str, str]:
    """How C calls the type of results, and that of sums: unsigned where integers may wrap around."""
    assert out.dtype is not None
    name = alias(out.dtype)
    return {"type": name, "sum": {"f32": "float", "i64": "uint64_t"}.get(name, "uint32_t")}


def cycles(layer: Layer, macs: int) -> float:
    """Predicted for sums of products."""
    if layer.output.dtype == "float32" and not layer.core.fpu:
        return 110.0 * macs + 60.0 * layer.output.size
    return 6.0 * macs + 40.0 * layer.output.size
