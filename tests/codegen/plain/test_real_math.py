"""Our mathematics: the same bytes in NumPy and in C, and close to the true values over the whole range."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from codegen import emit, real_math
from codegen.ir import Array
from targets import toolchain

TWO = ("fmod", "modulo", "pow")
ALL = tuple(name for name in real_math.__all__ if name != "int_pow")
SPECIAL = np.array(
    [
        0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-40,
        1.17549435e-38, 3.4028235e38, -3.4028235e38, 8388607.5, 8388608, -8388607.5, 88.72283, 88.7229,
        -87.4, -103.9, -104, math.pi / 4, math.pi / 2, math.pi, 16367173.0 * 2.0**72, 0.34657359, 2.0**31,
        2.0**33, 3, -3, 16777216,
    ],
    np.float32,
)  # fmt: skip


def numbers(count: int = 20000) -> Array:
    """Special ones, any bits, the usual ones, and those around 1."""
    rng = np.random.default_rng(1)
    return np.concatenate(
        [
            SPECIAL,
            rng.integers(0, 2**32, count, np.uint64).astype(np.uint32).view(np.float32),
            rng.normal(0, 1, count).astype(np.float32),
            rng.uniform(-110, 110, count).astype(np.float32),
            (1 + rng.normal(0, 1e-4, count)).astype(np.float32),
        ]
    )


def pairs() -> tuple[Array, Array]:
    """All pairs of special numbers, and random ones whose power is often in range."""
    rng = np.random.default_rng(2)
    first, second = (grid.ravel() for grid in np.meshgrid(SPECIAL, SPECIAL))
    wild = rng.integers(0, 2**32, (2, 20000), np.uint64).astype(np.uint32).view(np.float32)
    x = [
        first,
        wild[0],
        rng.uniform(0, 40, 20000),
        1 + rng.normal(0, 1e-3, 20000),
        rng.integers(-9, 9, 999),
    ]
    y = [
        second,
        wild[1],
        rng.uniform(-25, 25, 20000),
        rng.normal(0, 1e4, 20000),
        rng.integers(-9, 9, 999),
    ]
    with np.errstate(all="ignore"):
        return np.concatenate(x).astype(np.float32), np.concatenate(y).astype(np.float32)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("math")
    loop = "for (int32_t i = 0; i < n; ++i) {"
    calls = "".join(
        f"void all_{name}(const float *a, const float *b, float *y, int32_t n)\n{{\n    (void)b;\n"
        f"    {loop}\n        y[i] = real_{name}(a[i]{', b[i]' if name in TWO else ''});\n    }}\n}}\n"
        for name in ALL
    )
    calls += (
        "void all_int_pow(const int64_t *a, const int64_t *b, int64_t *y, int32_t n)\n{\n"
        f"    {loop}\n        y[i] = real_int_pow(a[i], b[i]);\n    }}\n}}\n"
    )
    text = "\n\n".join(("#include <stdint.h>", *emit.math_functions(calls), calls))
    (folder / "math.c").write_text(text)
    toolchain.build_host(folder, ("math.c",), folder / "libmath.so")
    return ctypes.CDLL(str(folder / "libmath.so"))


def in_c(library: ctypes.CDLL, name: str, a: Array, b: Array) -> Array:
    y = np.empty_like(a)
    pointers = (ctypes.c_void_p(array.ctypes.data) for array in (a, b, y))
    library[f"all_{name}"](*pointers, ctypes.c_int32(len(a)))
    return y


def canonical(x: Array) -> bytes:
    """The bytes, every NaN the same one."""
    return np.where(np.isnan(x), np.float32(np.nan), x).tobytes()


def applied(name: str) -> tuple[tuple[Array, ...], Array]:
    operands = pairs() if name in TWO else (numbers(),)
    with np.errstate(all="ignore"):
        return operands, getattr(real_math, name)(*operands)


@pytest.mark.parametrize("name", ALL)
def test_numpy_and_c_compute_the_same_bytes(library: ctypes.CDLL, name: str) -> None:
    operands, found = applied(name)
    assert found.dtype == np.float32
    assert canonical(in_c(library, name, operands[0], operands[-1])) == canonical(found)


def test_whole_powers_of_whole_numbers(library: ctypes.CDLL) -> None:
    rng = np.random.default_rng(3)
    x, n = rng.integers(-12, 12, 4000), rng.integers(-4, 70, 4000)
    found = real_math.int_pow(x, n)
    np.testing.assert_array_equal(in_c(library, "int_pow", x, n), found)
    exact = [int(a) ** int(b) if b >= 0 else 0 for a, b in zip(x, n, strict=True)]
    wrapped = np.array([(value + 2**63) % 2**64 - 2**63 for value in exact])
    np.testing.assert_array_equal(found[n >= 0], wrapped[n >= 0])
    np.testing.assert_array_equal(
        real_math.int_pow(np.array([1, -1, -1, 2, 0]), -np.array([3, 2, 3, 1, 1])), [1, 1, -1, 0, 0]
    )


def _erf(x: npt.NDArray[np.float64]) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


def _sigmoid(x: npt.NDArray[np.float64]) -> Array:
    return np.where(x < 0, np.exp(x) / (1 + np.exp(x)), 1 / (1 + np.exp(-x)))


# The true function in float64, and by how many units in the last place ours may be off.
TRUE: dict[str, tuple[Callable[..., Any], float]] = {
    "ceil": (np.ceil, 0),
    "cos": (np.cos, 3),
    "erf": (_erf, 3),
    "exp": (np.exp, 1.5),
    "expm1": (np.expm1, 4),
    "floor": (np.floor, 0),
    "fmod": (np.fmod, 0),
    "log": (np.log, 1),
    "log1p": (np.log1p, 2.5),
    "modulo": (np.mod, 0.5),
    "pow": (np.power, 1.5),
    "rint": (np.rint, 0),
    "sigmoid": (_sigmoid, 2.5),
    "sin": (np.sin, 3),
    "softplus": (partial(np.logaddexp, 0), 3),
    "sqrt": (np.sqrt, 0.5),
    "tanh": (np.tanh, 3),
    "trunc": (np.trunc, 0),
}


@pytest.mark.parametrize("name", ALL)
def test_functions_are_close_to_the_true_ones(name: str) -> None:
    function, limit = TRUE[name]
    operands, found = applied(name)
    with np.errstate(all="ignore"):
        exact = function(*(array.astype(np.float64) for array in operands))
        rounded = exact.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(rounded))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(rounded))
    signed = ~np.isnan(rounded)
    np.testing.assert_array_equal(np.signbit(found)[signed], np.signbit(rounded)[signed])
    usual = np.isfinite(rounded)
    magnitude = np.clip(np.abs(rounded[usual]), np.float32(1.17549435e-38), np.float32(2.0**127))
    unit = np.spacing(magnitude)
    off = np.abs(found[usual].astype(np.float64) - exact[usual]) / unit
    assert off.max() <= limit + 1e-6


def test_waves_of_huge_numbers_are_as_exact_as_those_of_small_ones() -> None:
    """The number of float32 that is next to a multiple of pi/2, and the largest one."""
    x = np.array([16367173.0 * 2.0**72, 3.4028235e38], np.float32)
    with np.errstate(all="ignore"):
        sines, cosines = real_math.sin(x), real_math.cos(x)
    np.testing.assert_allclose(cosines, [-1.6147697982476212e-09, 0.85302103983030416], rtol=3e-7)
    np.testing.assert_allclose(sines, [1, -0.52187652333365854], rtol=3e-7)
