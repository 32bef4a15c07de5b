"""Copies of boxes: transposes, slices, joins, borders, repetition, of items of every width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codegen.copies import (
    Move,
    Part,
    bordered,
    cut,
    expanded,
    joined,
    padded,
    transposed,
    whole,
)
from codegen.ir import Array
from tests.codegen.plain.network import Case, agreed

SHAPE = (1, 3, 4, 5)
RNG = np.random.default_rng(7)


def numbers(shape: tuple[int, ...], dtype: str) -> Array:
    if dtype == "float32":
        return RNG.normal(size=shape).astype(np.float32)
    info = np.iinfo(dtype)
    found = RNG.integers(info.min, info.max, shape, dtype, endpoint=True)
    found.reshape(-1)[:2] = info.min, info.max
    return found


X = {kind: numbers(SHAPE, kind) for kind in ("int8", "uint16", "float32", "int64")}
ROWS = numbers((1, 2, 4, 5), "int64")
NONE = (0, 0)


def test_copies_are_the_same_bytes_everywhere(tmp_path: Path) -> None:
    backwards = cut(SHAPE, (range(1), range(2, -1, -2), range(4), range(4, 0, -1)))
    frame = (NONE, (2, 0), (0, 1), (3, 2))
    cropped = (NONE, (-1, 1), NONE, (0, -2))
    cases = {f"transpose {k}": Case(transposed(SHAPE, (0, 3, 1, 2)), (x,)) for k, x in X.items()}
    cases |= {
        "slice": Case(backwards, (X["int64"],)),
        "join": Case(joined([SHAPE, ROWS.shape], 1), (X["int64"], ROWS), (1,)),
        "pad": Case(padded(SHAPE, frame, float("-inf")), (X["float32"],)),
        "pad int64": Case(padded(SHAPE, frame, -(2**63)), (X["int64"],)),
        "crop and pad": Case(padded(SHAPE, cropped, -7), (X["int8"],)),
        "border": Case(bordered(SHAPE, frame), (X["uint16"], np.array([[9]], np.uint16))),
        "expand": Case(expanded((1, 3, 1, 5), SHAPE), (X["float32"][:, :, :1],)),
        "one": Case(whole((1,), (1,)), (np.array([2.5], np.float32),)),
        "constant": Case(transposed(SHAPE, (0, 2, 1, 3)), (X["int8"],), (0,)),
    }
    found = agreed(cases, tmp_path)
    for kind, x in X.items():
        np.testing.assert_array_equal(found[f"transpose {kind}"], x[0].transpose(2, 0, 1))
    big, real = X["int64"][0], X["float32"][0]
    np.testing.assert_array_equal(found["slice"], big[2::-2, :, 4:0:-1])
    np.testing.assert_array_equal(found["join"], np.concatenate([big, ROWS[0]], 0))
    np.testing.assert_array_equal(found["pad"], np.pad(real, frame[1:], constant_values=-np.inf))
    np.testing.assert_array_equal(
        found["pad int64"], np.pad(big, frame[1:], constant_values=-(2**63))
    )
    wanted = np.pad(X["int8"][0][1:, :, :-2], ((0, 1), NONE, NONE), constant_values=-7)
    np.testing.assert_array_equal(found["crop and pad"], wanted)
    np.testing.assert_array_equal(
        found["border"], np.pad(X["uint16"][0], frame[1:], constant_values=9)
    )
    np.testing.assert_array_equal(found["expand"], np.broadcast_to(real[:, :1], SHAPE[1:]))
    np.testing.assert_array_equal(found["constant"], X["int8"][0].transpose(1, 0, 2))


def test_samples_are_copied_each_by_itself() -> None:
    many = numbers((2, *SHAPE[1:]), "float32")
    found = transposed(SHAPE, (0, 2, 1, 3)).evaluate((many,))
    np.testing.assert_array_equal(found, many.transpose(0, 2, 1, 3))


@pytest.mark.parametrize(
    "part",
    [
        Part(0, (0, 0), (1, 4), 1, (4, 1)),  # reads behind the operand
        Part(0, (0, 0), (1, 4), 2, (4, -1)),  # before it
        Part(0, (0, 2), (1, 3), 0, (4, 1)),  # writes behind the result
        Part(0, (0, -1), (1, 3), 0, (4, 1)),  # before it
    ],
)
def test_boxes_that_leave_a_tensor_are_refused(part: Part) -> None:
    with pytest.raises(ValueError, match="leaves"):
        Move((1, 4), (part,)).infer(((1, 4),))


def test_shapes_that_do_not_suit_are_refused() -> None:
    with pytest.raises(ValueError, match="no order"):
        transposed(SHAPE, (1, 0, 2, 3))
    with pytest.raises(ValueError, match="do not join"):
        joined([SHAPE, (1, 3, 4, 6)], 1)
    with pytest.raises(ValueError, match="empty"):
        cut(SHAPE, (range(1), range(0), range(4), range(5)))
    with pytest.raises(ValueError, match="leave nothing"):
        padded(SHAPE, (NONE, (-2, -1), NONE, NONE), 0)
    with pytest.raises(ValueError, match="does not expand"):
        expanded(SHAPE, (1, 1, 4, 5))
