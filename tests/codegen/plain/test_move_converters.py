"""Operators that move plain numbers, over the opsets where they changed, against onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen.importer import load
from codegen.ir import Array
from targets.errors import UnsupportedModel
from tests.codegen.plain.onnx_models import check, loaded, ours, saved
from tests.codegen.tiny_models import node

RNG = np.random.default_rng(2)
X = RNG.normal(size=(2, 3, 4)).astype(np.float32)
WORDS = RNG.integers(-(2**40), 2**40, (2, 3, 4))
IMAGE = RNG.normal(size=(2, 4, 3, 5)).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


Case = tuple[Any, int, Mapping[str, Array], Mapping[str, Array]]
CASES: dict[str, Case] = {
    "Slice 1": (node("Slice", "x", starts=[0, -3], ends=[1, 9], axes=[0, 2]), 9, {"x": X}, {}),
    "Slice 10": (
        node("Slice", "x s e a t"), 10, {"x": WORDS},
        {"s": ints(-1, 3), "e": ints(-9, -5), "a": ints(0, 2), "t": ints(-1, -2)},
    ),
    "Pad 2": (node("Pad", "x", pads=[0, 1, 0, 2, 0, 3], value=7.0), 10, {"x": X}, {}),
    "Pad reflect": (node("Pad", "x", pads=[0, 1, 2, 0, 1, 3], mode="reflect"), 10, {"x": X}, {}),
    "Pad edge, cut": (node("Pad", "x p", mode="edge"), 13, {"x": X}, {"p": ints(2, 0, -1, 0, -1, 3)}),
    "Pad wrap": (node("Pad", "x p - a", mode="wrap"), 19, {"x": X}, {"p": ints(1, 2), "a": ints(-1)}),
    "Pad runtime": (node("Pad", "x p v"), 18, {"x": WORDS, "v": np.array(-5)}, {"p": ints(0, 1, 0, 2, 0, 1)}),
    "Squeeze 1": (node("Squeeze", "x", axes=[1]), 11, {"x": X[:, :1]}, {}),
    "Squeeze all": (node("Squeeze", "x"), 13, {"x": X[:, :1]}, {}),
    "Unsqueeze 1": (node("Unsqueeze", "x", axes=[0, 3]), 11, {"x": X}, {}),
    "Tile": (node("Tile", "x r"), 13, {"x": WORDS}, {"r": ints(2, 1, 3)}),
    "Expand": (node("Expand", "x s"), 13, {"x": X[:, :1]}, {"s": ints(5, 2, 3, 1)}),
    "Concat 4": (node("Concat", "x c x", axis=-2), 11, {"x": X}, {"c": X[:, :2] * 2}),
    "Split 2": (node("Split", "x", "y -  z", axis=-1, split=[1, 1, 2]), 11, {"x": X}, {}),
    "Gather a scalar": (node("Gather", "x i", axis=1), 13, {"x": X}, {"i": np.array(-2)}),
    "Gather in steps": (node("Gather", "x i", axis=-1), 13, {"x": X}, {"i": ints(3, 1, -5 + 4)[:2]}),
    "Gather known": (node("Gather", "x i", axis=2), 13, {"x": X}, {"i": ints(0, 3, 3, 1).reshape(2, 2)}),
    "Gather computed": (node("Gather", "x i", axis=1), 13, {"x": WORDS, "i": ints(-1, 0, 2)}, {}),
    "Gather a table": (node("Gather", "c i"), 13, {"i": ints(1, 0).astype(np.int32)}, {"c": X}),
    "GatherND": (
        node("GatherND", "x i", batch_dims=1), 12,
        {"x": X, "i": ints(-1, 0, 1, 3).reshape(2, 1, 2)}, {},
    ),
    "GatherElements": (
        node("GatherElements", "x i", axis=1), 13, {"x": X, "i": ints(0, -1, 2, 1).reshape(1, 1, 4)}, {},
    ),
    "Scatter 9": (
        node("Scatter", "x i u", axis=2), 10,
        {"x": X, "i": ints(3, -4).reshape(1, 2, 1), "u": floats(1, 2).reshape(1, 2, 1)}, {},
    ),
    "ScatterND": (
        node("ScatterND", "x i u"), 13, {"x": X, "u": X[0, :2]}, {"i": ints(1, -1, 0, 0).reshape(2, 2)},
    ),
    "TopK 1": (node("TopK", "x", "y z", axis=1, k=2), 9, {"x": X}, {}),
    "TopK 11": (node("TopK", "x k", "y z", largest=0), 11, {"x": WORDS}, {"k": ints(3)}),
    "OneHot": (
        node("OneHot", "i d v", axis=0), 11, {"i": ints(0, -1, 7), "v": floats(-1, 1)}, {"d": ints(3)},
    ),
    "Trilu": (node("Trilu", "x k", upper=0), 14, {"x": WORDS}, {"k": np.array(1)}),
    "DepthToSpace 1": (node("DepthToSpace", "x", blocksize=2), 10, {"x": IMAGE}, {}),
    "SpaceToDepth": (node("SpaceToDepth", "x", blocksize=2), 13, {"x": IMAGE[..., :2, :4]}, {}),
    "Flatten": (node("Flatten", "x", axis=-1), 13, {"x": WORDS}, {}),
    "Identity": (node("Identity", "x"), 13, {"x": WORDS}, {}),
    "Dropout": (node("Dropout", "x", "y z"), 13, {"x": X}, {}),
    "Shape": (node("Shape", "x", start=1), 15, {"x": WORDS}, {}),
    "HannWindow": (node("HannWindow", "c"), 17, {"x": X}, {"c": np.array(7)}),
    "Upsample 7": (node("Upsample", "x", scales=[1.0, 1.0, 2.0, 1.5]), 7, {"x": IMAGE}, {}),
    "Upsample 9": (
        node("Upsample", "x s", mode="linear"), 9, {"x": IMAGE}, {"s": floats(1, 1, 2, 1.5)},
    ),
    "Resize 10": (
        node("Resize", "x s", mode="linear"), 10, {"x": IMAGE}, {"s": floats(1, 1, 2, 0.5)},
    ),
    "Resize cubic": (
        node("Resize", "x - - n", mode="cubic", coordinate_transformation_mode="align_corners"), 13,
        {"x": IMAGE}, {"n": ints(2, 4, 7, 4)},
    ),
    "Resize of the batch": (
        node("Resize", "x s", mode="nearest"), 10, {"x": IMAGE}, {"s": floats(2, 1, 1, 1)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_converted_operators_agree_with_onnxruntime(tmp_path: Path, name: str) -> None:
    one, opset, inputs, constants = CASES[name]
    outputs = [output for output in one.output if output]
    path = saved(tmp_path, [one], inputs, constants, opset, outputs)
    computes = name.startswith(("Resize", "Upsample", "HannWindow"))
    check(path, inputs, 1e-5 if computes else 0)


REFUSED: dict[str, tuple[Case, str]] = {
    "an axis": ((node("Concat", "x x", axis=3), 13, {"x": X}, {}), "axis 3 of 3 axes"),
    "an index": ((node("Gather", "x i"), 13, {"x": X}, {"i": ints(2)}), "beyond the 2 elements"),
    "a step": (
        (node("Slice", "x s e a t"), 13, {"x": X}, {k: ints(0) for k in "seat"}), "do not suit",
    ),
    "an empty part": (
        (node("Slice", "x s e"), 13, {"x": X}, {"s": ints(1), "e": ints(1)}), "the part is empty",
    ),
    "a mode": ((node("Pad", "x p", mode="odd"), 13, {"x": X}, {"p": ints(*[0] * 6)}), "mode odd"),
    "much": (
        (node("Tile", "x r"), 13, {"x": X}, {"r": ints(1 << 20, 1 << 20, 1)}), "shape|too large",
    ),
    "a wide border": (
        (node("Pad", "x p", mode="edge"), 13, {"x": X}, {"p": ints(0, 0, 1 << 24, 0, 0, 0)}), "too large",
    ),
    "a window": ((node("HannWindow", "c"), 17, {"x": X}, {"c": np.array(1 << 40)}), "too large"),
    "a reduction": (
        (node("ScatterND", "x i x", reduction="odd"), 18, {"x": X}, {"i": ints(0, 1).reshape(2, 1)}),
        "reduction odd",
    ),
    "real indices": (
        (node("Gather", "x i"), 13, {"x": X, "i": floats(0)}, {}), "indices of type float32",
    ),
    "a crop elsewhere": (
        (
            node("Resize", "x r - n", mode="linear", coordinate_transformation_mode="tf_crop_and_resize"),
            13, {"x": X}, {"r": floats(2, 2, 2, 3, 3, 3), "n": ints(2, 3, 4)},
        ),
        "lies outside",
    ),
    "bytes between": (
        (node("Resize", "x s", mode="linear"), 10, {"x": WORDS}, {"s": floats(1, 1, 2)}),
        "it interpolates numbers of type int64",
    ),
    "chance": (
        (node("Dropout", "x r t"), 13, {"x": X}, {"r": np.array(0.5, np.float32), "t": np.array(True)}),
        "random",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    (one, opset, inputs, constants), why = REFUSED[name]
    path = saved(tmp_path, [one], inputs, constants, opset)
    with pytest.raises(UnsupportedModel, match=why):
        load(path, floats=True)


def test_constants_become_outputs_of_a_network_without_inputs(tmp_path: Path) -> None:
    nodes = [node("OneHot", "i d v", "h"), node("Range", "a l s", "r"), node("Identity", "c", "k")]
    constants = {
        "i": ints(1, 0), "d": ints(2), "v": floats(0, 3),
        "a": np.array(4), "l": np.array(10), "s": np.array(2), "c": np.full((2, 3), 7, np.int8),
    }  # fmt: skip
    path = saved(tmp_path, nodes, {}, constants, outputs=("h", "r", "k"))
    graph = loaded(path)
    hot, counted, filled = ours(graph, {}, [(2, 2), (3,), (2, 3)])
    assert hot.tolist() == [[0, 3], [3, 0]]
    assert counted.tolist() == [4, 6, 8]
    assert filled.tolist() == [[7] * 3] * 2
    sizes = sorted(tensor.size for tensor in graph.tensors.values() if tensor.data is not None)
    assert sizes == [1, 2, 2, 3]  # flash holds one 7, not six


def test_only_floats_may_have_constant_outputs(tmp_path: Path) -> None:
    path = saved(tmp_path, [node("Identity", "c")], {"x": X[:1]}, {"c": X})
    with pytest.raises(UnsupportedModel, match="does not depend on the inputs"):
        load(path)
