"""Pools of any rank: the same bytes everywhere, and what the definition gives."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from codegen.ops.pool import Function, Pool
from tests.codegen.plain.network import Case, agreed
from tests.codegen.plain.numbers import Numbers, reals, whole

WINDOW = (3, 2), (2, 3), (1, 0), (1, 1), (1, 2)
FUNCTIONS: tuple[Function, ...] = ("max", "average", "sum")


def seen(pool: Pool, x: Numbers) -> dict[tuple[int, ...], list[tuple[int, ...]]]:
    """For every place of a window, the indices of (*sizes) that it sees."""
    sizes = x.shape
    places = pool.slides().places(sizes)
    found = {}
    for place in product(*map(range, places)):
        taps = [
            tuple(
                p * s - b + t * d
                for p, s, b, t, d in zip(
                    place, pool.stride, pool.before, tap, pool.dilation, strict=True
                )
            )
            for tap in product(*map(range, pool.kernel))
        ]
        found[place] = [
            at for at in taps if all(0 <= i < n for i, n in zip(at, sizes, strict=True))
        ]
    return found


@pytest.mark.parametrize("ceil", [False, True])
def test_pools(tmp_path: Path, ceil: bool) -> None:
    x, last = reals(1, 2, 9, 8), reals(1, 9, 8, 6)
    places = seen(Pool("max", 2, *WINDOW, ceil), x[0, 0])
    rounded: Numbers = np.round(x)
    cases: dict[str, Case] = {f: Case(Pool(f, 2, *WINDOW, ceil), (x,)) for f in FUNCTIONS}
    cases |= {f"{f} last": Case(Pool(f, 1, *WINDOW, ceil), (last,)) for f in FUNCTIONS}
    cases |= {
        "bytes": Case(Pool("max", 1, *WINDOW, ceil), (whole("uint8", 1, 9, 8, 5),)),
        "int64": Case(Pool("max", 1, *WINDOW, ceil), (whole("int64", 1, 9, 8),)),
        "where": Case(Pool("argmax", 2, *WINDOW, ceil), (rounded,)),
        "columns": Case(Pool("argmax", 2, *WINDOW, ceil, column_major=True), (x,)),
        "padding": Case(Pool("average", 2, *WINDOW, ceil, count_include_pad=True), (x,)),
        "line": Case(Pool("max", 1, (4,), (3,), (2,), (1,), (1,), ceil), (reals(1, 11),)),
    }
    found = agreed(cases, tmp_path)
    meaning: dict[str, Callable[[list[float]], float]] = {
        "max": np.max,
        "average": np.mean,
        "sum": np.sum,
    }
    for name, of in meaning.items():
        for image, (place, taps) in product(range(2), places.items()):
            taken = [float(x[0, image][at]) for at in taps]
            assert found[name][(image, *place)] == pytest.approx(of(taken), rel=1e-5, abs=1e-6)
    flat = rounded.ravel()
    for image, (place, taps) in product(range(2), places.items()):
        indices = [image * 72 + i * 8 + j for i, j in taps]
        assert found["where"][(image, *place)] == max(indices, key=lambda i: (flat[i], -i))
        at = int(found["columns"][(image, *place)]) - image * 72
        assert x[0, image][at % 9, at // 9] == found["max"][(image, *place)]


def test_the_mean_counts_padding_but_not_what_lies_beyond() -> None:
    x = np.ones((1, 5), np.float32)
    pool = Pool("average", 1, (3,), (3,), (1,), (1,), (1,), ceil=True, count_include_pad=True)
    np.testing.assert_allclose(pool.evaluate((x,))[0], [2 / 3, 1])
    wide = Pool("average", 1, (4,), (3,), (1,), (1,), (1,), ceil=True, count_include_pad=True)
    np.testing.assert_allclose(wide.evaluate((x,))[0], [3 / 4, 3 / 4])


def test_nan_is_never_the_largest() -> None:
    x = np.array([[np.nan, 1, np.nan, -2]], np.float32)
    pool = Pool("max", 1, (2,), (2,), (0,), (0,), (1,))
    np.testing.assert_array_equal(pool.evaluate((x,))[0], [1, -2])


def test_what_a_pool_does_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match="average of int8"):
        Pool("average", 1, *WINDOW).result_type(("int8",))
    with pytest.raises(ValueError, match="channels"):
        Pool("argmax", 1, *WINDOW).infer(((1, 9, 8, 2),))
    with pytest.raises(ValueError, match="does not fit"):
        Pool("max", 1, (9,), (1,), (0,), (0,), (1,)).infer(((1, 8),))
