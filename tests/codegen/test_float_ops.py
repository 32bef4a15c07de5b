"""Every ONNX operator, over the opsets where it changed, against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen.ir import Array
from tests.codegen.tiny_models import Net, check, node

RNG = np.random.default_rng(1)
IMAGE = (1, 4, 9, 8)


def normal(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


UNARY: dict[str, dict[str, Any]] = {
    "Abs": {},
    "Elu": {"alpha": 0.7},
    "Erf": {},
    "Exp": {},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
    "LeakyRelu": {"alpha": 0.2},
    "Neg": {},
    "Relu": {},
    "Selu": {},
    "Sigmoid": {},
    "Softplus": {},
    "Softsign": {},
    "Tanh": {},
}
RECENT: dict[str, tuple[int, dict[str, Any]]] = {
    "HardSwish": (14, {}),
    "Mish": (18, {}),
    "Gelu": (20, {"approximate": "tanh"}),
}


@pytest.mark.parametrize("op", UNARY)
def test_unary(tmp_path: Path, op: str) -> None:
    opset = 9 if op == "Erf" else 7
    check(Net([node(op, "x", **UNARY[op])], [(1, 5, 7)], opset=opset).save(tmp_path))


@pytest.mark.parametrize("op", RECENT)
def test_recent_unary(tmp_path: Path, op: str) -> None:
    opset, attributes = RECENT[op]
    check(Net([node(op, "x", **attributes)], [(1, 5, 7)], opset=opset).save(tmp_path))


def net_cases() -> dict[str, Net]:
    w, b = normal(6, 4, 3, 3), normal(6)
    conv = {"w": w, "b": b}
    cases = {
        "conv": Net([node("Conv", "x w b")], [IMAGE], conv, 7),
        "conv without bias": Net([node("Conv", "x w", pads=[1, 0, 2, 1])], [IMAGE], {"w": w}, 11),
        "conv newest": Net([node("Conv", "x w b", strides=[2, 1])], [IMAGE], conv, 22),
        "conv 1-D": Net(
            [node("Conv", "x w b", pads=[2, 1], strides=[2])],
            [(1, 4, 11)],
            {"w": normal(6, 4, 3), "b": b},
        ),
        "gemm": Net([node("Gemm", "x w c")], [(1, 5)], {"w": normal(5, 3), "c": normal(3)}, 7),
        "gemm scaled": Net(
            [node("Gemm", "x w c", transB=1, alpha=0.5, beta=2.0)],
            [(1, 5)],
            {"w": normal(3, 5), "c": normal(1, 1)},
        ),
        "gemm without bias": Net([node("Gemm", "x w")], [(1, 5)], {"w": normal(5, 3)}),
        "matmul": Net([node("MatMul", "x w")], [(1, 4, 5)], {"w": normal(5, 3)}),
        "matmul vector": Net([node("MatMul", "x w")], [(1, 4, 5)], {"w": normal(5)}),
        "matmul batched": Net([node("MatMul", "x w")], [(1, 4, 5)], {"w": normal(1, 5, 3)}),
        "add": Net([node("Add", "x x1")], [IMAGE, (1, 4, 1, 1)]),
        "add ranks": Net([node("Add", "x c")], [(1, 4)], {"c": normal(1, 1, 3, 4)}),
        "sub constant first": Net([node("Sub", "c x")], [IMAGE], {"c": normal(4, 1, 1)}),
        "sum": Net([node("Sum", "x x1 x2")], [IMAGE] * 3),
        "mul": Net([node("Mul", "x x1")], [IMAGE, IMAGE]),
        "div": Net([node("Div", "x c")], [IMAGE], {"c": floats(3.0)}),
        "max min": Net(
            [node("Max", "x lo", "t"), node("Min", "hi t")],
            [IMAGE],
            {"lo": floats(-1.0), "hi": floats(1.5)},
        ),
        "clip attributes": Net([node("Clip", "x", min=-0.5, max=0.7)], [IMAGE], opset=7),
        "clip operands": Net([node("Clip", "x - hi")], [IMAGE], {"hi": np.float32(0.7)}, 11),
        "prelu": Net([node("PRelu", "x s")], [IMAGE], {"s": floats(0.3)}, 9),
        "dropout": Net([node("Dropout", "x", "t"), node("Identity", "t")], [IMAGE], opset=7),
        "cast": Net([node("Cast", "x", to=1)], [IMAGE]),
        "batch norm": Net(
            [node("BatchNormalization", "x s o m v", epsilon=0.01)],
            [IMAGE],
            {"s": normal(4), "o": normal(4), "m": normal(4), "v": np.abs(normal(4))},
        ),
        "concat": Net([node("Concat", "x c x1", axis=-3)], [IMAGE] * 2, {"c": normal(1, 2, 9, 8)}),
        "transpose": Net([node("Transpose", "x", perm=[0, 2, 1, 3])], [IMAGE]),
        "reshape": Net([node("Reshape", "x s")], [IMAGE], {"s": ints(0, -1, 4)}),
        "flatten": Net([node("Flatten", "x")], [IMAGE], opset=9),
        "softmax": Net([node("Softmax", "x", axis=1)], [IMAGE], opset=13),
        "softmax old": Net([node("Softmax", "x")], [IMAGE], opset=7),
        "softmax old axis": Net([node("Softmax", "x", axis=2)], [IMAGE], opset=11),
        "softmax old last": Net([node("Softmax", "x", axis=3)], [IMAGE], opset=11),
        "global average": Net([node("GlobalAveragePool", "x")], [IMAGE]),
        "global max": Net([node("GlobalMaxPool", "x")], [(1, 4, 9)]),
    }
    return cases | pool_cases() | shape_cases() | resize_cases()


def pool_cases() -> dict[str, Net]:
    cases = {}
    for op in ("MaxPool", "AveragePool"):
        for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
            pool = node(op, "x", kernel_shape=[3, 2], strides=[2, 2], auto_pad=auto)
            cases[f"{op} {auto}"] = Net([pool], [IMAGE], opset=10)
        for pads in ([0, 0, 0, 0], [1, 1, 0, 1], [1, 0, 1, 1]):
            for opset in (11, 19):
                pool = node(op, "x", kernel_shape=[3, 3], strides=[2, 3], pads=pads, ceil_mode=1)
                cases[f"{op} ceil {pads} {opset}"] = Net([pool], [IMAGE], opset=opset)
        line = node(op, "x", kernel_shape=[3], strides=[2], pads=[1, 1])
        cases[f"{op} 1-D"] = Net([line], [(1, 4, 9)], opset=11)
    for ceil, pads in ((0, [1, 1, 1, 0]), (1, [1, 1, 1, 1])):
        pool = node(
            "AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=pads,
            count_include_pad=1, ceil_mode=ceil,
        )  # fmt: skip
        cases[f"AveragePool included {ceil}"] = Net([pool], [IMAGE], opset=19)
    dilated = node("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 3])
    return cases | {"MaxPool dilated": Net([dilated], [IMAGE], opset=12)}


def shape_cases() -> dict[str, Net]:
    pads = ints(0, 0, 1, 2, 0, 0, 0, 1)
    return {
        "mean 7": Net([node("ReduceMean", "x", axes=[2, 3], keepdims=0)], [IMAGE], opset=7),
        "mean 18": Net([node("ReduceMean", "x a")], [IMAGE], {"a": ints(1, -1)}, 18),
        "mean gap": Net([node("ReduceMean", "x", axes=[1, 3], keepdims=0)], [IMAGE]),
        "pad 7": Net([node("Pad", "x", pads=list(map(int, pads)), value=0.5)], [IMAGE], opset=7),
        "pad 13": Net([node("Pad", "x p v")], [IMAGE], {"p": pads, "v": np.float32(1)}),
        "pad 18": Net(
            [node("Pad", "x p - a")], [IMAGE], {"p": ints(1, 2, 0, 1), "a": ints(2, -1)}, 18
        ),
        "slice 7": Net(
            [node("Slice", "x", starts=[1, -5], ends=[3, 100], axes=[1, 2])], [IMAGE], opset=7
        ),
        "slice 13": Net(
            [node("Slice", "x s e a t")],
            [IMAGE],
            {"s": ints(1, 0), "e": ints(-1, 1 << 40), "a": ints(-1, 2), "t": ints(2, 3)},
        ),
        "split 7": Net(
            [node("Split", "x", "t y", axis=1, split=[1, 3])], [IMAGE], opset=7, outputs=("y", "t")
        ),
        "split 13": Net([node("Split", "x s", "t y", axis=3)], [IMAGE], {"s": ints(3, 5)}),
        "split 18": Net([node("Split", "x", "t u y", axis=2, num_outputs=3)], [IMAGE], opset=18),
        "squeeze 7": Net([node("Squeeze", "x", axes=[2])], [(1, 4, 1, 3)], opset=7),
        "squeeze 13": Net([node("Squeeze", "x a")], [(1, 4, 1, 3)], {"a": ints(-2)}),
        "unsqueeze 7": Net([node("Unsqueeze", "x", axes=[1, 3])], [(1, 4, 3)], opset=7),
        "unsqueeze 13": Net([node("Unsqueeze", "x a")], [(1, 4, 3)], {"a": ints(-1)}),
        "shape chain": Net(
            [
                node("Shape", "x", "s"),
                node("Gather", "s zero", "n", axis=0),
                node("Unsqueeze", "n first", "n1"),
                node("Concat", "n1 rest", "t", axis=0),
                node("Reshape", "x t"),
            ],
            [("batch", 4, 9, 8)],
            {"zero": np.int64(0), "first": ints(0), "rest": ints(-1)},
        ),
    }  # fmt: skip


def resize_cases() -> dict[str, Net]:
    scales = floats(1, 1, 2, 3)
    cases = {
        "upsample 7": Net([node("Upsample", "x", scales=[1.0, 1.0, 2.0, 2.0])], [IMAGE], opset=7),
        "upsample 9": Net([node("Upsample", "x s")], [IMAGE], {"s": scales}, 9),
        "resize 10": Net([node("Resize", "x s")], [IMAGE], {"s": floats(1, 1, 0.6, 1.7)}, 10),
    }
    places = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
    for place in places:
        for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
            attributes = {"coordinate_transformation_mode": place, "nearest_mode": rounding}
            up = node("Resize", "x - - z", mode="nearest", **attributes)
            sizes = ints(1, 4, 13, 5)
            cases[f"{place} {rounding}"] = Net([up], [IMAGE], {"z": sizes}, 13)
    symmetric = node(
        "Resize", "x - s", mode="nearest", coordinate_transformation_mode="half_pixel_symmetric"
    )
    cases["symmetric"] = Net([symmetric], [IMAGE], {"s": floats(1, 1, 1.3, 0.7)}, 19)
    return cases


CASES = net_cases()


@pytest.mark.parametrize("name", CASES)
def test_operator(tmp_path: Path, name: str) -> None:
    check(CASES[name].save(tmp_path))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size=st.tuples(st.integers(6, 12), st.integers(6, 12)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([(1, 3, 2), (2, 2, 3), (4, 1, 1), (4, 1, 2), (3, 1, 4)]),
    padding=st.one_of(
        st.sampled_from(["VALID"]),
        st.tuples(*[st.integers(0, 3)] * 4),
    ),
)
def test_convolution(
    tmp_path: Path,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: tuple[int, int, int],
    padding: str | tuple[int, ...],
) -> None:
    count, inner, outer = groups
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if spans[0] > size[0] or spans[1] > size[1]:
        return
    pads = {"auto_pad": padding} if isinstance(padding, str) else {"pads": list(padding)}
    conv = node(
        "Conv", "x w b", group=count, strides=list(stride), dilations=list(dilation), **pads
    )
    constants = {"w": normal(count * outer, inner, *kernel), "b": normal(count * outer)}
    check(Net([conv], [(1, count * inner, *size)], constants).save(tmp_path))


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    mode=st.sampled_from(["SAME_UPPER", "SAME_LOWER"]),
)
def test_same_padding(
    tmp_path: Path,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    mode: str,
) -> None:
    conv = node("Conv", "x w", strides=list(stride), auto_pad=mode)
    check(Net([conv], [(1, 2, *size)], {"w": normal(3, 2, *kernel)}).save(tmp_path))
