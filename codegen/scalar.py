"""Functions of single numbers that `map` applies element by element: NumPy and C side by side.

To add one is a line here. The C expression names its operands `a`, `b`, `c`; both sides do the same
operations on the same types in the same order (docs/floats.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from codegen.ir import Array

Compute = Callable[..., Array]


@dataclass(frozen=True, slots=True)
class Scalar:
    """One function.

    Attributes:
        compute: of arrays that broadcast, all of one type.
        c: the expression; `{p}` and `{q}` stand for the parameters of the operator.
        result: the type of the result; None = that of the operands.
        operands: how many there are.
    """

    compute: Compute
    c: str
    result: str | None = None
    operands: int = 1


FUNCTIONS: Mapping[str, Scalar] = {
    "add": Scalar(np.add, "a + b", operands=2),
    "subtract": Scalar(np.subtract, "a - b", operands=2),
    "multiply": Scalar(np.multiply, "a * b", operands=2),
    "less": Scalar(np.less, "a < b", "bool", 2),
}
