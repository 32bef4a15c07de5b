"""Converters of products, convolutions, pools and transforms, against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from codegen.ir import Array
from targets.errors import UnsupportedModel
from tests.codegen.plain.against import compared, imported
from tests.codegen.plain.numbers import reals, whole
from tests.codegen.tiny_models import Net, node

BATCH = (2, 4, 7, 6)
W = {"w": reals(1, 1, 2)}


def nets() -> dict[str, Net]:
    pool: dict[str, Any] = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}
    space = {"w": reals(3, 2, 2, 1, 2)}
    return {
        "matmul": Net([node("MatMul", "x x1")], [(2, 1, 3, 4), (5, 4, 2)]),
        "constant on the left": Net([node("MatMul", "w x")], [(4,)], {"w": reals(3, 4)}),
        "gemm": Net(
            [node("Gemm", "x x1 c", alpha=0.5, beta=2.0, transA=1)],
            [(4, 3), (4, 2)],
            {"c": reals(3, 1)},
        ),
        "conv of a batch": Net(
            [node("Conv", "x w b", group=2, strides=[2, 1], pads=[1, 0, 2, 1], dilations=[1, 2])],
            [BATCH],
            {"w": reals(6, 2, 3, 2), "b": reals(6)},
        ),
        "conv 3-D": Net([node("Conv", "x w", auto_pad="SAME_LOWER")], [(1, 2, 4, 3, 5)], space),
        "conv of weights": Net([node("Conv", "x x1")], [(1, 2, 5), (3, 2, 2)]),
        "transposed": Net(
            [
                node(
                    "ConvTranspose", "x w b", strides=[2, 3], pads=[1, 0, 0, 2], group=2,
                    dilations=[2, 1], output_padding=[1, 2],
                )
            ],
            [BATCH],
            {"w": reals(4, 3, 3, 2), "b": reals(6)},
        ),
        "transposed to a shape": Net(
            [node("ConvTranspose", "x w", strides=[2], output_shape=[8], auto_pad="SAME_UPPER")],
            [(1, 2, 4)],
            {"w": reals(2, 3, 3)},
        ),
        "max": Net([node("MaxPool", "x", ceil_mode=1, **pool)], [BATCH], opset=12),
        "average": Net(
            [node("AveragePool", "x", ceil_mode=1, count_include_pad=1, **pool)], [BATCH], opset=19
        ),
        "norm": Net([node("LpPool", "x", p=3, **pool)], [BATCH], opset=18),
        "norm of one": Net([node("GlobalLpPool", "x", p=1)], [BATCH]),
        "lrn": Net([node("LRN", "x", size=3, alpha=0.5, beta=0.6, bias=1.5)], [BATCH]),
        "stft": Net(
            [node("STFT", "x step window")],
            [(2, 32, 1)],
            {"step": np.int64(5), "window": np.hanning(8).astype(np.float32)},
            17,
        ),
        "dft": Net(
            [node("DFT", "x length", axis=2)], [(1, 3, 7, 2)], {"length": np.int64(5)}, 17
        ),
        "half a dft": Net([node("DFT", "x", axis=1, onesided=1)], [(2, 9, 1)], opset=17),
    }  # fmt: skip


NETS = nets()


@pytest.mark.parametrize("name", NETS)
def test_against_onnxruntime(tmp_path: Path, name: str) -> None:
    compared(NETS[name], tmp_path, tolerance=1e-4)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("bhqd,bhkd->bhqk", [(1, 2, 3, 4), (1, 2, 5, 4)]),
        ("...ii->...i", [(2, 3, 3)]),
        ("ijk,jl,kl->il", [(2, 3, 4), (3, 5), (4, 5)]),
        ("...ij,...jk", [(2, 1, 3, 4), (2, 5, 4, 3)]),
        ("ij->", [(2, 3)]),
        ("i,j->ji", [(2,), (3,)]),
    ],
)
def test_einsum(tmp_path: Path, equation: str, shapes: list[tuple[int, ...]]) -> None:
    names = " ".join(["x", "x1", "x2"][: len(shapes)])
    compared(Net([node("Einsum", names, equation=equation)], shapes), tmp_path)


def on_grids(
    weights: str, scales: int, point: int
) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """A grouped convolution of uint8 numbers, between real numbers."""
    kind = np.dtype(weights)
    constants: dict[str, Any] = {
        "s": np.float32(0.02), "z": np.uint8(131), "w": whole(weights, 4, 2, 3, 3),
        "ws": np.linspace(0.01, 0.03, scales).astype(np.float32), "wz": np.full(scales, point, kind),
        "ys": np.float32(0.6), "yz": np.uint8(120), "b": whole("int32", 4) // 2**18,
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("QLinearConv", "q s z w ws wz ys yz b", "r", group=2, pads=[1, 1, 0, 0]),
        node("DequantizeLinear", "r ys yz", "y"),
    ]
    return nodes, constants


@pytest.mark.parametrize(("weights", "scales", "point"), [("int8", 4, 0), ("uint8", 1, 119)])
def test_integers_on_grids(tmp_path: Path, weights: str, scales: int, point: int) -> None:
    nodes, constants = on_grids(weights, scales, point)
    compared(Net(nodes, [(1, 4, 6, 5)], constants), tmp_path)


@pytest.mark.parametrize(
    ("net", "why"),
    [
        (Net([node("Einsum", "x", equation="ij->ik")], [(2, 3)]), "label"),
        (Net([node("Einsum", "x", equation="ijk->i")], [(2, 3)]), "axes"),
        (Net([node("DFT", "x", axis=1)], [(1, 4096, 2)], opset=17), "too large"),
        (Net([node("MaxPool", "x", kernel_shape=[2], pads=[2, 0])], [(2, 2, 8)]), "whole window"),
        (Net([node("LRN", "x", size=0)], [(2, 3, 4)]), "channels"),
        (Net([node("ConvTranspose", "x w", output_padding=[-1])], [(1, 1, 4)], W), "output_padding"),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, net: Net, why: str) -> None:
    with pytest.raises(UnsupportedModel, match=why):
        imported(net, tmp_path)
