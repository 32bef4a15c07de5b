"""Gathering and scattering by indices of every type, also of those that no tensor has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codegen.indices import Index
from codegen.ir import Array, IntArray
from codegen.loops import strides
from codegen.ops.gather import Gather, along
from codegen.ops.scatter import Scatter
from tests.codegen.plain.network import Case, agreed

LOW, HIGH = np.iinfo(np.int64).min, np.iinfo(np.int64).max
RNG = np.random.default_rng(3)
DATA = RNG.normal(size=(1, 4, 5, 3)).astype(np.float32)
WORDS = RNG.integers(LOW, HIGH, (1, 4, 6), np.int64)
WILD = np.array([[[-1, 2, HIGH], [LOW, -4, 3]]], np.int64)  # of an axis of 4; some far beyond it


def nearest(indices: Array, size: int) -> IntArray:
    """What stands for indices: those below 0 count from the end, those beyond are moved to it."""
    found = [i + size if i < 0 else i for i in indices.ravel().tolist()]
    return np.array([min(max(i, 0), size - 1) for i in found]).reshape(indices.shape)


def test_gathered_bytes_are_the_same_everywhere(tmp_path: Path) -> None:
    columns = np.array([[4, 0, 200]], np.uint8)
    pairs = np.array([[[0, 1], [-1, -5], [9, -9]]], np.int32)
    tuples = Index((0, 2, 0), (4, 5), (15, 3))
    each = np.array(RNG.integers(-6, 9, (1, 4, 3, 3)), np.int16)
    one = Index(strides((1, 4, 3, 3)), (5,), (3,))
    cases = {
        "rows": Case(along((4, 5, 3), 0, (2, 3)), (DATA, WILD)),
        "columns": Case(along((4, 5, 3), 1, (3,)), (DATA, columns)),
        "table": Case(along((4, 6), 0, (2, 3)), (WORDS, WILD), (0,)),
        "known": Case(along((4, 6), 1, (3,)), (WORDS, columns), (1,)),
        "truth": Case(along((4, 6), 0, (1,)), (WORDS, np.array([[True]]))),
        "scalar": Case(along((4, 5, 3), 2, ()), (DATA, np.array([-2], np.int8))),
        "unsigned": Case(along((4, 6), 0, (1,)), (WORDS, np.array([[2**32 - 1]], np.uint32))),
        "tuples": Case(Gather((1, 3, 3), (0, 0, 1), tuples), (DATA, pairs)),
        "each": Case(Gather((1, 4, 3, 3), (60, 15, 0, 1), one), (DATA, each)),
    }
    found = agreed(cases, tmp_path)
    np.testing.assert_array_equal(found["rows"], DATA[0][nearest(WILD[0], 4)])
    np.testing.assert_array_equal(found["columns"], DATA[0][:, [4, 0, 4]])
    np.testing.assert_array_equal(found["table"], WORDS[0][nearest(WILD[0], 4)])
    np.testing.assert_array_equal(found["known"], WORDS[0][:, [4, 0, 5]])
    np.testing.assert_array_equal(found["truth"], WORDS[0][1:2])
    np.testing.assert_array_equal(found["scalar"], DATA[0][:, :, 1])
    np.testing.assert_array_equal(found["unsigned"], WORDS[0][3:])
    np.testing.assert_array_equal(found["tuples"], DATA[0][[0, 3, 3], [1, 0, 0]])
    wanted = np.take_along_axis(DATA[0], nearest(each[0], 5), axis=1)
    np.testing.assert_array_equal(found["each"], wanted)


def test_scattered_bytes_are_the_same_everywhere(tmp_path: Path) -> None:
    places = np.array([[[0], [3], [0], [9], [-9]]], np.int64)
    rows = Index((0, 1, 0), (4,), (6,))
    wide = RNG.integers(LOW, HIGH, (1, 5, 6), np.int64)
    real = RNG.normal(size=(1, 4, 6)).astype(np.float32)
    updates = RNG.normal(size=(1, 5, 6)).astype(np.float32)
    updates[0, 2, 0], real[0, 3, 1] = np.nan, np.nan
    short = np.full((1, 4, 6), 60_000, np.uint16)
    cases = {
        "put": Case(Scatter((0, 0, 1), rows), (WORDS, places, wide)),
        **{
            name: Case(Scatter((0, 0, 1), rows, name), (real, places, updates))
            for name in ("add", "mul", "max", "min")
        },
        **{
            f"{name} int64": Case(Scatter((0, 0, 1), rows, name), (WORDS, places, wide), (0, 2))
            for name in ("add", "mul", "max", "min")
        },
        "mul uint16": Case(
            Scatter((0, 0, 1), rows, "mul"), (short, places, np.full((1, 5, 6), 65_535, np.uint16))
        ),
        "itself": Case(
            Scatter((0, 1, 0), Index((0, 0, 0), (6,), (1,))), (WORDS, places, wide[:, :4, :1])
        ),
    }
    found = agreed(cases, tmp_path)
    targets = nearest(places[0, :, 0], 4)
    put, added = WORDS[0].copy(), real[0].copy()
    for place, words, row in zip(targets, wide[0], updates[0], strict=True):
        put[place] = words
        added[place] = added[place] + row
    np.testing.assert_array_equal(found["put"], put)
    np.testing.assert_array_equal(found["add"], added)
    most = np.max([real[0, 0], *updates[0, targets == 0]], axis=0)
    np.testing.assert_array_equal(found["max"][0], most)
    assert np.isnan(found["min"][0, 0])
    assert np.isnan(found["min"][3, 1])
    assert found["mul uint16"][1, 0] == 60_000
    assert found["mul uint16"][3, 0] == 60_000 * 65_535**2 % 65_536


def test_duplicates_are_merged_in_their_order() -> None:
    """Float32 sums depend on the order: 1e8 - 1e8 + 1 is 1, 1 + 1e8 - 1e8 is 0."""
    op = Scatter((0, 0), Index((0, 1), (1,), (0,)), "add")
    zero, first = np.zeros((1, 1), np.float32), np.zeros((1, 3), np.int64)
    for updates, total in (((1e8, -1e8, 1), 1), ((1, 1e8, -1e8), 0)):
        found = op.evaluate((zero, first, np.array([updates], np.float32)))
        assert found[0, 0] == total


def test_samples_share_constant_indices() -> None:
    many = np.concatenate([DATA, DATA[:, ::-1]])
    found = along((4, 5, 3), 0, (1,)).evaluate((many, np.array([[1]])))
    np.testing.assert_array_equal(found, many[:, 1:2])


def test_what_does_not_suit_is_refused() -> None:
    gather = along((4, 6), 0, (3,))
    with pytest.raises(ValueError, match="do not suit"):
        gather.infer(((1, 4, 6), (1, 2)))
    with pytest.raises(ValueError, match="not to be picked"):
        gather.infer(((1, 3, 6), (1, 3)))
    with pytest.raises(ValueError, match="indices of type float32"):
        gather.result_type(("float32", "float32"))
    scatter = Scatter((0, 1), Index((0, 1), (4,), (6,)), "add")
    with pytest.raises(ValueError, match="do not suit"):
        scatter.infer(((1, 4), (1, 3), (1, 3)))
    with pytest.raises(ValueError, match="add of bool"):
        scatter.result_type(("bool", "int64", "bool"))
