"""Functions of single numbers: all of them on all kinds of operands, the same bytes everywhere."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

from codegen import emit
from codegen.ir import NUMPY_TYPES, Array
from codegen.ops.map import Map
from codegen.plain import PLAIN_TYPES, alias, with_one_nan
from codegen.scalar import FUNCTIONS
from codegen.scalar.form import kind
from targets import toolchain
from tests.codegen.plain.network import Case, agreed

FLOATS = np.array(
    [
        0, -0.0, 1, -1.5, 2.5, -2.5, 0.3, 100, -100, 1e-45, -1e-40, 3e38, -3e38, 2.0**31, -(2.0**31), 2.0**40,
        254.7, 256, -128.9, 8388609, 1e20, 7, np.inf, -np.inf, np.nan,
    ],
    np.float32,
)  # fmt: skip
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")
PARAMETERS = (0.7, 1.1)


def operand(dtype: str) -> Array:
    """Extreme numbers and small ones, [count]."""
    if dtype == "float32":
        return FLOATS
    if dtype == "bool":
        return np.array([False, True])
    bits = {"2": 2, "4": 4}.get(dtype[-1]) if "int" in dtype else None
    if dtype in NUMPY_TYPES and bits is not None:
        low = 0 if dtype[0] == "u" else -(2 ** (bits - 1))
        return np.arange(low, low + 2**bits).astype(NUMPY_TYPES[dtype])
    info = np.iinfo(dtype)
    near = [info.min, info.min + 1, info.max // 3, info.max - 1, info.max]
    return np.array([*near, *(n for n in (0, 1, 2, 7, -1, -2, -8, 9) if n >= info.min)], dtype)


def operands(function: str, dtype: str) -> tuple[list[Array], list[str]]:
    """All pairs of extreme numbers, or triples whose last ones are those backwards; and their types."""
    scalar, numbers = FUNCTIONS[function], operand(dtype)
    first, second = (grid.ravel() for grid in np.meshgrid(numbers, numbers))
    arrays, types = (
        [first, second, second[::-1].copy()][: scalar.operands],
        [dtype] * scalar.operands,
    )
    if scalar.condition:
        arrays[0], types[0] = np.arange(len(first)) % 3 == 0, "bool"
    return arrays, types


def pairs() -> list[tuple[str, str]]:
    return [
        (name, dtype)
        for dtype in ("float32", "bool", *INTEGERS, *NUMPY_TYPES)
        for name, scalar in FUNCTIONS.items()
        if scalar.form(dtype) and (scalar.few_bits or dtype not in NUMPY_TYPES)
    ]


def parameters(function: str, dtype: str) -> tuple[float, ...]:
    form = FUNCTIONS[function].form(dtype)
    assert form is not None
    return PARAMETERS[: ("{p}" in form.c) + ("{q}" in form.c)]


def loop(function: str, dtype: str) -> str:
    """A C function that applies one of ours to arrays, with the expression of the kernels."""
    scalar = FUNCTIONS[function]
    _, types = operands(function, dtype)
    kinds = [PLAIN_TYPES[alias(told)] for told in types]
    result = PLAIN_TYPES[alias(scalar.result_type(tuple(types)))]
    given = ", ".join(f"const {k} *{n}s" for k, n in zip(kinds, "abc", strict=False))
    reads = "".join(
        f"        const {k} {n} = {n}s[i];\n" for k, n in zip(kinds, "abc", strict=False)
    )
    expression = scalar.expression(dtype, parameters(function, dtype))
    return (
        f"void {function}_of_{dtype}({given}, {result} *y, int32_t n)\n{{\n"
        f"    for (int32_t i = 0; i < n; ++i) {{\n{reads}        y[i] = ({result})({expression});\n"
        "    }\n}\n"
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("scalar")
    loops = "".join(loop(name, dtype) for name, dtype in pairs())
    text = "\n".join(("#include <stdint.h>", *emit.math_functions(loops), loops))
    (folder / "scalar.c").write_text(text)
    strict = ("-O0", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
    toolchain.build_host(folder, ("scalar.c",), folder / "scalar.so", strict)
    return ctypes.CDLL(str(folder / "scalar.so"))


def test_every_function_is_the_same_bytes_in_c(library: ctypes.CDLL) -> None:
    for function, dtype in pairs():
        arrays, types = operands(function, dtype)
        result = FUNCTIONS[function].result_type(tuple(types))
        wanted = Map(function, parameters(function, dtype)).evaluate(tuple(arrays))
        found = np.empty(len(arrays[0]), NUMPY_TYPES.get(result, result))
        pointers = (ctypes.c_void_p(array.ctypes.data) for array in (*arrays, found))
        library[f"{function}_of_{dtype}"](*pointers, ctypes.c_int32(len(found)))
        assert wanted.dtype == found.dtype, (function, dtype)
        same = with_one_nan(found).tobytes() == with_one_nan(wanted).tobytes()
        assert same, (function, dtype)


def test_maps_are_the_same_bytes_on_the_cores(tmp_path: Path) -> None:
    real = FLOATS.reshape(1, 5, 5)
    wide = operand("int64").reshape(1, -1, 1)
    truth = real > 0
    cases = {
        "tanh": Case(Map("tanh"), (real,)),
        "power": Case(Map("power"), (real, real[:, :1])),
        "sine": Case(Map("sin"), (real,)),
        "root": Case(Map("sqrt"), (real,)),
        "choice": Case(Map("where"), (truth, real, real[:, :, :1].copy()), (2,)),
        "quotient": Case(Map("divide"), (wide, wide.reshape(1, 1, -1)), (1,)),
        "cast": Case(Map("to_int16"), (real,)),
    }
    found = agreed(cases, tmp_path)
    np.testing.assert_array_equal(found["choice"], np.where(truth, real, real[:, :, :1])[0])
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(found["root"], np.sqrt(real)[0])


def test_every_function_is_covered() -> None:
    kinds = {kind(dtype) for dtype in ("float32", "bool", *INTEGERS)}
    for name, scalar in FUNCTIONS.items():
        assert {word for words in scalar.forms for word in words.split()} <= kinds, name


def computed(function: str, *operands: Array, parameters: tuple[float, ...] = ()) -> list[float]:
    return list(np.asarray(Map(function, parameters).evaluate(operands)).tolist())


def test_integers_do_not_trap_and_wrap() -> None:
    least = np.array([-(2**31)] * 3, np.int32)
    divisors = np.array([-1, 0, 7], np.int32)
    assert computed("divide", least, divisors) == [-(2**31), 0, -306783378]
    assert computed("modulo", least, divisors) == [0, 0, 5]
    assert computed("fmod", least, divisors) == [0, 0, -2]
    assert computed("negative", least) == [-(2**31)] * 3
    shifts = np.array([-1, 32, 31], np.int32)
    assert computed("shift_right", least, shifts) == [-1, -1, -1]
    assert computed("shift_left", np.ones(3, np.int32), shifts) == [0, 0, -(2**31)]


def test_casts_saturate_floats_and_wrap_integers() -> None:
    assert computed("to_uint8", FLOATS[[3, 16, 22, 23, 24]]) == [0, 254, 255, 0, 0]
    assert computed("to_int32", FLOATS[[11, 13, 14, 12]]) == [
        2**31 - 1,
        2**31 - 1,
        -(2**31),
        -(2**31),
    ]
    assert computed("to_int4", np.array([7.9, 8, -9, 16], np.float32)) == [7, -8, 7, 0]
    assert computed("to_uint2", np.array([-1, 4, 7], np.int64)) == [3, 0, 3]
    assert computed("to_bool", np.array([0, -0.0, 0.1, np.nan], np.float32)) == [
        False,
        False,
        True,
        True,
    ]


def test_extremes_keep_nan_and_bounds_hold() -> None:
    nan = np.array([np.nan, 1], np.float32)
    one = np.array([1, np.nan], np.float32)
    for function in ("maximum", "minimum"):
        assert np.isnan(computed(function, nan, one)).all()
    low, high = np.array(2, np.float32), np.array(1, np.float32)
    assert computed("clip", np.array([0, 3], np.float32), low, high) == [1, 1]


def test_operands_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="types int8, int16"):
        Map("add").result_type(("int8", "int16"))
    with pytest.raises(ValueError, match="no operands of type bool"):
        Map("add").result_type(("bool", "bool"))
    with pytest.raises(ValueError, match="no operands of type int4"):
        Map("add").result_type(("int4", "int4"))
    with pytest.raises(ValueError, match="types int8, int8, int8"):
        Map("where").result_type(("int8",) * 3)
    assert Map("where").result_type(("bool", "int4", "int4")) == "int4"
