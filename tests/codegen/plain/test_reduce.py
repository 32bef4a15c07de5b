"""Sums, extremes and their places, running sums: the same bytes everywhere, and as NumPy has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codegen.ops.arg_extreme import ArgExtreme
from codegen.ops.cumulative import Cumulative
from codegen.ops.reduce import Reduce
from tests.codegen.plain.network import Case, agreed

G = np.random.default_rng(4)
REAL = G.normal(0, 1, (1, 3, 4, 5)).astype(np.float32)
WIDE = G.integers(-(2**63), 2**63 - 1, (1, 4, 6), np.int64)
BYTES = G.integers(0, 5, (1, 2, 7), np.uint8)
NANS = np.array([[[1, np.nan, 3, np.nan], [np.inf, 2, -np.inf, 2], [-0.0, 0, 0, -0.0]]], np.float32)


def test_reductions_are_the_same_bytes_everywhere(tmp_path: Path) -> None:
    found = agreed(
        {
            "sum": Case(Reduce("add", (1, 3)), (REAL,)),
            "squares": Case(Reduce("add", (2,), "square"), (REAL,)),
            "wrapped": Case(Reduce("multiply", (1, 2)), (WIDE,)),
            "most": Case(Reduce("maximum", (2,)), (NANS,)),
            "truth": Case(Reduce("maximum", (1,)), (BYTES > 3,)),
            "first": Case(ArgExtreme(2), (NANS,)),
            "last": Case(ArgExtreme(2, least=True, last=True), (BYTES,)),
            "running": Case(Cumulative(2), (REAL,)),
            "before": Case(Cumulative(1, exclusive=True, reverse=True), (WIDE,)),
        },
        tmp_path,
    )
    np.testing.assert_allclose(
        np.float64(found["sum"]), REAL[0].sum((0, 2), keepdims=True), rtol=1e-5
    )
    np.testing.assert_allclose(
        np.float64(found["squares"]), (REAL[0] ** 2).sum(1, keepdims=True), rtol=1e-6
    )
    np.testing.assert_array_equal(found["wrapped"], WIDE[0].prod((0, 1), keepdims=True))
    np.testing.assert_array_equal(found["most"], NANS[0].max(-1, keepdims=True))
    np.testing.assert_array_equal(found["truth"], (BYTES[0] > 3).any(0, keepdims=True))
    np.testing.assert_array_equal(found["first"].ravel(), [1, 0, 0])
    flipped = BYTES[0, :, ::-1].argmin(-1)
    np.testing.assert_array_equal(found["last"].ravel(), 6 - flipped)
    np.testing.assert_allclose(
        np.float64(found["running"]), REAL[0].cumsum(1), rtol=1e-5, atol=1e-6
    )
    after = WIDE[0, ::-1].cumsum(0)[::-1] - WIDE[0]
    np.testing.assert_array_equal(found["before"], after)


@pytest.mark.parametrize(
    "op", [Reduce("add", (0,)), Reduce("add", (3,)), ArgExtreme(0), Cumulative(4)]
)
def test_axes_that_are_not_there_are_refused(op: Reduce | ArgExtreme | Cumulative) -> None:
    with pytest.raises(ValueError, match="of shape"):
        op.infer(((1, 2, 3),))


def test_sums_of_truth_values_are_refused() -> None:
    with pytest.raises(ValueError, match="no operands of type bool"):
        Reduce("add", (1,)).result_type(("bool",))
