"""What a function of single numbers is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen.ir import ITEM_BYTES
from codegen.plain import alias, c_number

Compute = Callable[..., Any]
FEW_BITS = frozenset({"int2", "int4", "uint2", "uint4"})


@dataclass(frozen=True, slots=True)
class Form:
    """A function on one kind of numbers.

    Attributes:
        compute: of arrays that broadcast, then the parameters.
        c: the expression. `{p}`, `{q}` stand for the parameters, `{u}` for the unsigned type to compute
            in where signed numbers could overflow, `{bits}` for the width of an operand.
    """

    compute: Compute
    c: str


@dataclass(frozen=True, slots=True)
class Scalar:
    """A function.

    Attributes:
        forms: by kinds of operands, words of "float", "int", "uint", "bool".
        operands: how many there are.
        result: the type of the result; None = that of the operands.
        condition: whether the first operand is a truth value beside those of one type.
        few_bits: whether it takes numbers of 2 and 4 bits, which lie in bytes.
    """

    forms: Mapping[str, Form]
    operands: int = 1
    result: str | None = None
    condition: bool = False
    few_bits: bool = False

    def form(self, dtype: str) -> Form | None:
        """What serves operands of a type."""
        found = (form for kinds, form in self.forms.items() if kind(dtype) in kinds.split())
        return next(found, None)

    def result_type(self, types: tuple[str, ...]) -> str:
        """The type of the result; ValueError for operands that it does not take."""
        told = types[1:] if self.condition else types
        if len(set(told)) > 1 or (self.condition and types[0] != "bool"):
            raise ValueError(f"operands of types {', '.join(types)}")
        if self.form(told[0]) is None or (told[0] in FEW_BITS and not self.few_bits):
            raise ValueError(f"no operands of type {told[0]}")
        return self.result or told[0]

    def compute(
        self, inputs: tuple[np.ndarray[Any, Any], ...], parameters: tuple[float, ...]
    ) -> Any:
        """The function of every element."""
        form = self.form(inputs[-1].dtype.name)
        assert form is not None
        return form.compute(*inputs, *(np.float32(number) for number in parameters))

    def expression(self, dtype: str, parameters: tuple[float, ...]) -> str:
        """The C expression for operands of a type."""
        form = self.form(dtype)
        assert form is not None
        words = {
            "{u}": "uint64_t" if ITEM_BYTES[dtype] == 8 else "uint32_t",
            "{bits}": str(8 * ITEM_BYTES[dtype]),
            **{
                name: c_number(float(np.float32(number)), "float")
                for name, number in zip(("{p}", "{q}"), parameters, strict=False)
            },
        }
        text = form.c
        for word, meaning in words.items():
            text = text.replace(word, meaning)
        return text


def kind(dtype: str) -> str:
    """The kind of a type: "float", "int", "uint" or "bool"."""
    return {"f": "float", "i": "int", "u": "uint", "b": "bool"}[alias(dtype)[0]]


def lowest(dtype: str) -> float:
    """The least number of a type."""
    if dtype == "float32":
        return -np.inf
    return 0 if dtype == "bool" else int(np.iinfo(dtype).min)


def highest(dtype: str) -> float:
    """The greatest number of a type."""
    if dtype == "float32":
        return np.inf
    return 1 if dtype == "bool" else int(np.iinfo(dtype).max)
