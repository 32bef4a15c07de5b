"""The largest elements, one-hot rows, triangles, and weighted sums along an axis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from codegen.ir import Array
from codegen.ops.blend import Blend
from codegen.ops.one_hot import OneHot
from codegen.ops.top_k import TopK
from codegen.ops.triangle import Triangle
from codegen.resampling import Axis, Filter, places
from tests.codegen.plain.network import Case, agreed

RNG = np.random.default_rng(5)
REAL = np.array([[[3, np.nan, -0.0, np.inf, 3], [0, 0, -np.inf, np.nan, np.nan]]], np.float32)
WIDE = np.array([[[-(2**63), 5], [2**63 - 1, 5], [0, 5]]], np.int64)
INDICES = np.array([[[0, -1, 3], [-4, 4, -5]]], np.int64)


def test_choices_are_the_same_bytes_everywhere(tmp_path: Path) -> None:
    matrix = RNG.integers(0, 256, (1, 2, 3, 4), np.uint8)
    pair = np.array([[-7, 9]], np.int16)
    cases = {
        "largest": Case(TopK(2, 5, True), (REAL,)),
        "smallest": Case(TopK(2, 5, False), (REAL,)),
        "inner axis": Case(TopK(1, 2, False), (WIDE,)),
        "inner axis, largest": Case(TopK(1, 3, True), (WIDE,)),
        "bytes": Case(TopK(3, 1, True), (matrix,), (0,)),
        "one hot": Case(OneHot(2, 4), (INDICES, pair)),
        "one hot of reals": Case(OneHot(1, 4), (INDICES.astype(np.float32), pair), (1,)),
        "upper": Case(Triangle(1, True), (matrix,)),
        "lower": Case(Triangle(-1, False), (matrix,)),
        "upper of reals": Case(Triangle(-1, True), (REAL,)),
    }
    found = agreed(cases, tmp_path)
    np.testing.assert_array_equal(found["largest"], [[1, 3, 0, 4, 2], [3, 4, 0, 1, 2]])
    np.testing.assert_array_equal(found["smallest"], [[2, 0, 4, 3, 1], [2, 0, 1, 3, 4]])
    np.testing.assert_array_equal(found["inner axis"], [[0, 0], [2, 1]])
    np.testing.assert_array_equal(found["inner axis, largest"], [[1, 0], [2, 1], [0, 2]])
    np.testing.assert_array_equal(found["bytes"][..., 0], matrix[0].argmax(-1))
    for index, row in zip(
        INDICES[0].ravel(), found["one hot"].swapaxes(1, 2).reshape(6, 4), strict=True
    ):
        hot = [int(index) in (place, place - 4) for place in range(4)]
        assert row.tolist() == [9 if here else -7 for here in hot]
    np.testing.assert_array_equal(found["one hot of reals"], found["one hot"].swapaxes(0, 1))
    np.testing.assert_array_equal(found["upper"], np.triu(matrix[0], 1))
    np.testing.assert_array_equal(found["lower"], np.tril(matrix[0], -1))


def windows(axis: Axis, filter_: Filter) -> tuple[Array, Array]:
    first, weights = filter_.weights(axis, places(axis, "half_pixel"))
    return first[None].astype(np.uint16), weights[None]


def test_blended_bytes_are_the_same_everywhere(tmp_path: Path) -> None:
    images = {n: RNG.normal(size=(1, 2, n, 3)).astype(np.float32) for n in (1, 2, 7)}
    cases = {
        f"{size} to {count}, {filter_}": Case(
            Blend(2), (x, *windows(Axis(size, count, count / size), filter_)), (1, 2)
        )
        for size, x in images.items()
        for count in (1, 4, 13)
        for filter_ in (Filter(False), Filter(True, antialias=True), Filter(True, inside=True))
    }
    found = agreed(cases, tmp_path)
    for name, case in cases.items():
        x, first, weights = case.operands
        rows = matrix(x.shape[2], first[0].tolist(), weights[0].tolist())
        np.testing.assert_allclose(rows.sum(1), 1, atol=1e-6)
        wanted = np.einsum("oi,aic->aoc", rows, x[0].astype(np.float64))
        assert np.abs(found[name].astype(np.float64) - wanted).max() < 1e-5


def matrix(size: int, first: list[int], weights: list[list[float]]) -> npt.NDArray[np.float64]:
    """Windows as rows of a matrix."""
    rows = np.zeros((len(first), size))
    for row, start, part in zip(rows, first, weights, strict=True):
        row[start : start + len(part)] = part
    return rows


def test_what_does_not_suit_is_refused() -> None:
    with pytest.raises(ValueError, match="6 elements along axis 2"):
        TopK(2, 6, True).infer(((1, 2, 5),))
    with pytest.raises(ValueError, match="with values"):
        OneHot(1, 4).infer(((1, 3), (1, 3)))
    with pytest.raises(ValueError, match="no matrices"):
        Triangle(0, True).infer(((1, 4),))
    with pytest.raises(ValueError, match="windows of 6 elements"):
        Blend(1).infer(((1, 5), (1, 2), (1, 2, 6)))
    with pytest.raises(ValueError, match="numbers of type int8"):
        Blend(1).result_type(("int8", "int32", "float32"))
    with pytest.raises(ValueError, match="too many"):
        Filter(False, antialias=True).weights(Axis(2, 2, 1e-8), np.zeros(2))
