"""Numbers as numbers of another type, and as steps of a grid.

Integers keep their low bits. Fractions are cut off; a float beyond the range of an integer type becomes its
nearest number, NaN becomes 0. For types of 2 and 4 bits both hold one after the other, by way of int32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from codegen.plain import PLAIN_TYPES, alias, c_number
from codegen.real_math import rint
from codegen.scalar.form import Compute, Form, Scalar

Numbers = np.ndarray[Any, Any]
WIDTHS = {"int2": 2, "int4": 4, "uint2": 2, "uint4": 4}
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")
INTS = "int uint"


def _bounds(dtype: str) -> tuple[int, int]:
    if dtype in WIDTHS:
        width = WIDTHS[dtype]
        return (0, 2**width - 1) if dtype[0] == "u" else (-(2 ** (width - 1)), 2 ** (width - 1) - 1)
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _from_float(dtype: str) -> Compute:
    low, high = _bounds(dtype)

    def compute(a: Numbers) -> Numbers:
        inside = (a > np.float32(low - 1 if abs(low) < 2**24 else low)) & (a < np.float32(high + 1))
        kept = np.where(inside, a, np.float32(0)).astype(dtype)
        return np.where(inside | np.isnan(a), kept, np.where(a < 0, low, high).astype(dtype))

    return compute


def _from_float_in_c(dtype: str) -> str:
    low, high = _bounds(dtype)
    kind = PLAIN_TYPES[alias(dtype)]
    below = c_number(float(low - 1 if abs(low) < 2**24 else low), "float")
    above = c_number(float(np.float32(high + 1)), "float")
    least, most = c_number(low, kind), c_number(high, kind)
    return (
        f"a > {below} && a < {above} ? ({kind})a : a != a ? ({kind})0 : a < 0.0f ? {least} : {most}"
    )


def _few(dtype: str) -> tuple[Compute, str]:
    """The low bits of an int32 named a: as unsigned number, or with the sign that the top one gives."""
    mask = 2 ** WIDTHS[dtype] - 1
    sign = 0 if dtype[0] == "u" else (mask + 1) // 2
    stored = "uint8" if dtype[0] == "u" else "int8"

    def compute(a: Numbers) -> Numbers:
        return np.asarray(((a.astype(np.int32) & mask) ^ sign) - sign, stored)

    return compute, f"(int32_t)(((uint32_t)(A) & {mask}u) ^ {sign}u) - {sign}"


def _cast_to_few(dtype: str) -> Scalar:
    compute, c = _few(dtype)
    whole = _from_float("int32")
    return Scalar(
        {
            "float": Form(
                lambda a: compute(whole(a)), c.replace("A", f"({_from_float_in_c('int32')})")
            ),
            "int uint bool": Form(compute, c.replace("A", "a")),
        },
        result=dtype,
        few_bits=True,
    )


def _cast(dtype: str) -> Scalar:
    def plain(a: Numbers) -> Numbers:
        return a.astype(dtype)

    return Scalar(
        {
            "float": Form(_from_float(dtype), _from_float_in_c(dtype)),
            "int uint bool": Form(plain, "a"),
        },
        result=dtype,
        few_bits=True,
    )


def _quantize(dtype: str) -> Scalar:
    """rint(a / b) + c, saturated; b the scale, c the zero point."""
    low, high = _bounds(dtype)
    stored = (
        "int8" if dtype in WIDTHS and dtype[0] == "i" else "uint8" if dtype in WIDTHS else dtype
    )

    def compute(a: Numbers, b: Numbers, c: Numbers) -> Numbers:
        steps = rint(np.asarray(a / b, np.float32)) + c
        kept = np.where(
            steps > low, np.where(steps < high, steps, np.float32(high)), np.float32(low)
        )
        return kept.astype(stored)

    kind = PLAIN_TYPES[alias(dtype)]
    return Scalar(
        {
            "float": Form(
                compute, f"({kind})real_saturated(real_rint(a / b) + c, {low}.0f, {high}.0f)"
            )
        },
        3,
        dtype,
    )


def _float_to_float(a: Numbers) -> Numbers:
    return a


CASTS: Mapping[str, Scalar] = {
    "to_bool": Scalar(
        {
            "float": Form(lambda a: a != 0, "a != 0.0f"),
            "int uint bool": Form(lambda a: a != 0, "a != 0"),
        },
        result="bool",
        few_bits=True,
    ),
    "to_float32": Scalar(
        {
            "float": Form(_float_to_float, "a"),
            "int uint bool": Form(lambda a: a.astype(np.float32), "a"),
        },
        result="float32",
        few_bits=True,
    ),
    **{f"to_{dtype}": _cast(dtype) for dtype in INTEGERS},
    **{f"to_{dtype}": _cast_to_few(dtype) for dtype in WIDTHS},
    **{
        f"quantize_{dtype}": _quantize(dtype)
        for dtype in ("int8", "uint8", "int16", "uint16", *WIDTHS)
    },
    "dequantize": Scalar({"float": Form(lambda a, b, c: (a - c) * b, "(a - c) * b")}, 3),
}
