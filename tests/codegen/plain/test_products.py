"""Products of matrices and convolutions: the same bytes everywhere, and near NumPy's in float64."""

from __future__ import annotations

from itertools import product
from math import inf
from pathlib import Path

import numpy as np
import pytest

from codegen.ir import Array
from codegen.ops.convolution import Convolution
from codegen.ops.matmul import MatMul
from codegen.ops.transposed_convolution import TransposedConvolution
from tests.codegen.plain.network import Case, agreed
from tests.codegen.plain.numbers import Numbers, reals, whole


def test_products_of_matrices(tmp_path: Path) -> None:
    a, b = reals(1, 3, 1, 4, 5), reals(1, 1, 2, 5, 7)
    small, bytes_ = whole("int8", 1, 2, 9), whole("uint8", 1, 9, 6)
    long = whole("int64", 1, 2, 3)
    w, bias, offsets = reals(6, 5), reals(6), whole("int32", 1, 1, 6)
    x, y, start = reals(1, 5, 4), reals(1, 3, 5), reals(1, 4, 1)
    p, q = whole("int32", 1, 2, 3), whole("int32", 1, 3, 4)
    cases = {
        "batches": Case(MatMul(), (a, b)),
        "weights": Case(MatMul((False, True), (0, inf)), (a[:, :, 0], w, bias), (1, 2)),
        "swapped": Case(MatMul((True, True)), (x, y, start), (2,)),
        "bounded": Case(MatMul((False, False), (-1, 0.5)), (reals(1, 1, 3), reals(1, 3, 1))),
        "bytes": Case(MatMul(), (small, bytes_, offsets), (1, 2)),
        "int32": Case(MatMul(), (p, q)),
        "int64": Case(MatMul((False, True)), (long, long)),
    }
    found = agreed(cases, tmp_path)
    near(found["batches"], a[0].astype(float) @ b[0])
    wanted = np.maximum(a[0, :, 0] @ w.T + bias, 0)
    near(found["weights"], wanted)
    near(found["swapped"], x[0].T @ y[0].T + start[0])
    exact = small[0].astype(object) @ bytes_[0].astype(object) + offsets[0]
    np.testing.assert_array_equal(found["bytes"], wrapped(exact, 32))
    left, right = p[0].astype(object), q[0].astype(object)
    np.testing.assert_array_equal(found["int32"], wrapped(left @ right, 32))
    np.testing.assert_array_equal(found["int64"], wrapped(long[0].astype(object) @ long[0].T, 64))


def near(found: Array, wanted: Numbers) -> None:
    np.testing.assert_allclose(np.asarray(found, float), wanted, rtol=1e-4, atol=1e-5)


def wrapped(exact: Numbers, bits: int) -> Numbers:
    """The low bits of exact integers, with a sign."""
    half = 1 << (bits - 1)
    return np.asarray((exact + half) % (2 * half) - half, f"int{bits}")


def test_operands_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        MatMul().infer(((1, 2, 3), (1, 2, 3)))
    with pytest.raises(ValueError, match="broadcast"):
        MatMul().infer(((1, 2, 3), (1, 3, 4), (1, 5, 4)))
    with pytest.raises(ValueError, match="types"):
        MatMul().result_type(("float32", "int8"))
    with pytest.raises(ValueError, match="groups"):
        Convolution((1,), (0,), (0,), (1,), 2).infer(((1, 5, 4), (3, 1, 2)))


def convolved(op: Convolution, x: Numbers, w: Numbers) -> Numbers:
    """By the definition, in float64 or exact integers: x (*sizes, C), w (O, *kernel, C / groups)."""
    rank, inner, outer = len(op.stride), w.shape[-1], len(w) // op.groups
    pads = [*zip(op.before, op.after, strict=True), (0, 0)]
    x = np.pad(x, pads)
    places = op.slides(w.shape).places(
        tuple(np.array(x.shape[:rank]) - np.add(op.before, op.after))
    )
    y = np.zeros((*places, len(w)), x.dtype)
    for place, channel in product(product(*map(range, places)), range(len(w))):
        first = channel // outer * inner
        for tap in product(*map(range, w.shape[1:-1])):
            at = tuple(
                p * s + t * d for p, s, t, d in zip(place, op.stride, tap, op.dilation, strict=True)
            )
            y[(*place, channel)] += x[at][first : first + inner] @ w[(channel, *tap)]
    return y


def test_convolutions(tmp_path: Path) -> None:
    cases = {
        "padded": Case(
            Convolution((2, 1), (1, 0), (1, 2), (1, 1), 1),
            (reals(1, 7, 6, 3), reals(5, 3, 3, 3)),
            (1,),
        ),
        "dilated": Case(
            Convolution((2, 1), (1, 2), (1, 2), (2, 3), 1),
            (reals(1, 7, 6, 3), reals(1, 4, 3, 2, 3)),
        ),
        "grouped": Case(
            Convolution((1, 2), (0, 1), (0, 0), (1, 1), 3),
            (reals(1, 5, 6, 6), reals(9, 2, 2, 2)),
            (1,),
        ),
        "depthwise": Case(
            Convolution((1, 1), (1, 1), (1, 1), (1, 1), 6),
            (reals(1, 5, 4, 6), reals(6, 3, 3, 1)),
            (1,),
        ),
        "pointwise": Case(
            Convolution((1, 1), (0, 0), (0, 0), (1, 1), 1),
            (reals(1, 5, 4, 6), reals(7, 1, 1, 6)),
            (1,),
        ),
        "line": Case(Convolution((2,), (3,), (0,), (1,)), (reals(1, 9, 2), reals(1, 4, 2)), (1,)),
        "space": Case(
            Convolution((1, 2, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1)),
            (reals(1, 3, 4, 3, 2), reals(1, 3, 2, 2, 2, 2)),
        ),
        "bytes": Case(
            Convolution((1,), (1,), (1,), (1,)),
            (whole("uint8", 1, 9, 3), whole("int8", 4, 3, 3)),
            (1,),
        ),
    }
    found = agreed(cases, tmp_path)
    for name, case in cases.items():
        x, w = (np.asarray(array, float) for array in case.operands)
        assert isinstance(case.op, Convolution)
        near(found[name], convolved(case.op, x[0], w.reshape(w.shape[-case.op.rank - 2 :])))


def test_a_batch_biases_and_bounds(tmp_path: Path) -> None:
    op = Convolution((1, 1), (1, 0), (1, 0), (1, 1), 1, (-0.5, 1))
    x, w, b = reals(1, 2, 4, 5, 3), reals(1, 4, 3, 2, 3), reals(1, 4)
    found = agreed({"y": Case(op, (x, w, b), (1, 2))}, tmp_path)["y"]
    for image, result in zip(x[0], found, strict=True):
        wanted = np.clip(convolved(op, image.astype(float), w[0].astype(float)) + b[0], -0.5, 1)
        np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution_is_the_adjoint(tmp_path: Path, groups: int) -> None:
    stride, before, dilation, sizes = (2, 1), (1, 0), (1, 2), (8, 7)
    w = reals(1, groups, 3, 2, 6 // groups, 4 // groups)
    x = reals(1, 4, 5, 4)
    op = TransposedConvolution(stride, before, dilation, sizes)
    found = agreed({"y": Case(op, (x, w, reals(6)), (1, 2))}, tmp_path)["y"]
    # <transposed(x), z> = <x, convolution(z)>: products by weights both ways are the same sums.
    z = reals(1, *sizes, 6).astype(float)
    biases = op.evaluate((np.zeros_like(x), w, np.zeros(6, np.float32)))
    assert not biases.any()
    free = op.evaluate((x, w))[0]
    forward = Convolution(stride, before, (1, 0), dilation, groups)
    weights = w[0].transpose(0, 4, 1, 2, 3).reshape(4, 3, 2, 6 // groups).astype(float)
    there = convolved(forward, z[0], weights)[: x.shape[1], : x.shape[2]]
    np.testing.assert_allclose((free * z[0]).sum(), (there * x[0]).sum(), rtol=1e-4)
    assert found.shape == (*sizes, 6)
