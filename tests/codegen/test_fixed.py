"""Requantization against exact integers."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.ir import per_tensor
from codegen.quant import fixed
from targets.errors import UnsupportedModel

reals = st.floats(2.0**-40, 2.0**29)


def exact(acc: int, requant: fixed.Requant, zero_point: int) -> int:
    product = Fraction(acc * requant.multipliers[0], 1 << requant.shift)
    return min(127, max(-128, floor(product + Fraction(1, 2)) + zero_point))


@given(real=reals, acc=st.integers(-(2**31) + 1, 2**31 - 1), zero_point=st.integers(-128, 127))
def test_apply_rounds_once_half_up(real: float, acc: int, zero_point: int) -> None:
    requant = fixed.requantization([real], "node")
    result = requant.apply(np.array([acc], np.int64), zero_point, -128, 127)
    assert int(result[0]) == exact(acc, requant, zero_point)


@given(real=reals)
def test_multiplier_is_within_half_a_unit(real: float) -> None:
    requant = fixed.requantization([real], "node")
    assert abs(Fraction(requant.multipliers[0]) - Fraction(real) * 2**requant.shift) <= Fraction(
        1, 2
    )
    assert requant.multipliers[0] < 2**31
    assert requant.shift == 62 or requant.multipliers[0] >= 2**30 or requant.shift == 1


@given(real=reals, acc=st.integers(-(2**31) + 1, 2**31 - 1), slack=st.integers(0, 3))
def test_high_word_form_is_equal(real: float, acc: int, slack: int) -> None:
    requant = fixed.requantization([real], "node")
    high = fixed.high_word(requant, abs(acc) + slack)
    if high is None:
        return
    shifted = acc << high.pre
    assert abs(shifted) <= 2**31 - 1
    word = (shifted * requant.multipliers[0]) >> 32
    value = (word + high.rounding) >> high.post
    assert min(127, max(-128, value)) == exact(acc, requant, 0)


@pytest.mark.parametrize("real", [0.0, -1.0, float("inf"), float("nan"), 2.0**30])
def test_useless_multipliers_are_refused(real: float) -> None:
    with pytest.raises(UnsupportedModel, match="conv1"):
        fixed.requantization([real], "conv1")


def test_accumulator_beyond_32_bits_is_refused() -> None:
    weights = np.full((1, 70_000), 127, np.int8)
    bound = fixed.accumulator_bound(weights, np.zeros(1, np.int32), -128)
    with pytest.raises(UnsupportedModel, match="32 bits"):
        fixed.check_accumulator(bound, "fc")


@given(
    weights=st.lists(st.integers(-128, 127), min_size=1, max_size=20),
    bias=st.integers(-(2**20), 2**20),
    zero_point=st.integers(-128, 127),
    seed=st.integers(0, 2**32),
)
def test_accumulator_bound_holds(weights: list[int], bias: int, zero_point: int, seed: int) -> None:
    w = np.array([weights], np.int64)
    bound = fixed.accumulator_bound(w, np.array([bias]), zero_point)
    x = np.random.default_rng(seed).choice([-128, 127, 0], len(weights))
    partial = bias - zero_point * w.sum() + np.cumsum(x * w[0])
    assert np.abs(partial).max() <= bound


def test_clamp_range() -> None:
    grid = per_tensor(0.05, -128)
    assert fixed.clamp_range(None, grid) == (-128, 127)
    assert fixed.clamp_range((0.0, float("inf")), grid) == (-128, 127)
    assert fixed.clamp_range((0.0, 6.0), grid) == (-128, -8)
    assert fixed.clamp_range((0.0, float("inf")), per_tensor(0.05, 3)) == (3, 127)


def test_exact_matmul_at_the_edge_of_float32() -> None:
    w = np.full((2, 600), 127, np.int8)
    x = np.full((3, 600), -255, np.int32)
    assert (fixed.exact_matmul(x, w) == -255 * 127 * 600).all()
