"""Functions of single numbers that `map` applies element by element: NumPy and C side by side.

To add one is an entry in a table of this folder. The C expression names its operands `a`, `b`, `c`; both
sides do the same operations on the same types in the same order (docs/floats.md).
"""

from __future__ import annotations

from collections.abc import Mapping

from codegen.scalar.activations import ACTIVATIONS
from codegen.scalar.arithmetic import ARITHMETIC
from codegen.scalar.casts import CASTS
from codegen.scalar.form import Form, Scalar
from codegen.scalar.logic import LOGIC

__all__ = ["FUNCTIONS", "Form", "Scalar"]

FUNCTIONS: Mapping[str, Scalar] = {**ACTIVATIONS, **ARITHMETIC, **CASTS, **LOGIC}
