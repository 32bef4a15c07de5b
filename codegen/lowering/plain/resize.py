"""Resize and Upsample in all their modes, axis by axis."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.copies import padded
from codegen.indices import smallest_type
from codegen.limits import MAX_ACTIVATION
from codegen.lowering.plain.copies import move
from codegen.lowering.plain.indices import pick
from codegen.lowering.plain.shapes import axis_of
from codegen.ops.blend import Blend
from codegen.ops.resize import extents
from codegen.resampling import NEAREST, PLACES, Axis, Filter, Reals, nearest, places

SHRUNK_OR_GROWN = {"not_larger": min, "not_smaller": max}
MODES = {"nearest", "linear", "bilinear", "cubic"}


def _is_modern(node: OnnxNode) -> bool:
    return node.op_type == "Resize" and node.opset >= 11


def _axes(node: OnnxNode, b: Builder, shape: tuple[int, ...]) -> list[Axis]:
    """Every axis of the tensor."""
    named = node.integers("axes") or tuple(range(len(shape)))
    chosen = [axis_of(node, axis, len(shape)) for axis in named]
    counts, scales = extents(node, b, shape, modern=_is_modern(node))
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    if policy in SHRUNK_OR_GROWN and node.has(3):
        scale = SHRUNK_OR_GROWN[policy](scales[axis] for axis in chosen)
        for axis in chosen:
            counts[axis], scales[axis] = int(scale * shape[axis] + 0.5), scale
    crops = _crops(node, b, chosen, len(shape))
    if min(counts) < 1 or prod(counts) > MAX_ACTIVATION:
        raise node.unsupported(f"the result has the unreasonable shape {counts}")
    parts = zip(shape, counts, scales, crops, strict=True)
    return [Axis(size, count, scale, crop) for size, count, scale, crop in parts]


def _crops(node: OnnxNode, b: Builder, chosen: list[int], rank: int) -> list[tuple[float, float]]:
    crops = [(0.0, 1.0)] * rank
    if node.text("coordinate_transformation_mode", "") != "tf_crop_and_resize":
        return crops
    roi = b.static(node, 1)
    if roi is None or roi.size != 2 * len(chosen):
        raise node.unsupported("the region to keep does not suit the operand")
    numbers = [float(number) for number in roi.reshape(-1)]
    for axis, first, last in zip(chosen, numbers, numbers[len(chosen) :], strict=False):
        crops[axis] = (first, last)
    return crops


def _filter(node: OnnxNode, mode: str) -> Filter:
    return Filter(
        mode == "cubic",
        node.real("cubic_coeff_a", -0.75),
        node.integer("antialias", 0) != 0,
        node.integer("exclude_outside", 0) != 0,
    )


def _resize(node: OnnxNode, b: Builder) -> None:
    modern = _is_modern(node)
    place = node.text("coordinate_transformation_mode", "half_pixel" if modern else "asymmetric")
    mode = node.text("mode", "nearest")
    rounding = node.text("nearest_mode", "round_prefer_floor" if modern else "floor")
    if place not in PLACES or mode not in MODES or rounding not in NEAREST:
        raise node.unsupported(f"mode {mode}, {place}, {rounding} is not supported")
    x = b.plain(node, 0)
    axes = _axes(node, b, b.plain_shape(x))
    pads = [(0, 0)] * (len(axes) + 1)
    for number, axis in sorted(enumerate(axes), key=lambda pair: pair[1].scale):
        if axis.is_kept:
            continue
        at, pads[number + 1] = _inside(node, axis, places(axis, place))
        if mode == "nearest":
            x = pick(b, x, number, nearest(axis, at, rounding), node.sources)
        else:
            x = _blended(node, b, x, number, _filter(node, mode).weights(axis, at))
    border = node.real("extrapolation_value", 0.0)
    shape = b.shape(x)
    b.write(node, move(b, (x,), lambda: padded(shape, pads, border), node.sources))


def _inside(node: OnnxNode, axis: Axis, at: Reals) -> tuple[Reals, tuple[int, int]]:
    """The places on the axis, and how many before and behind them are beyond it. Only crops have any."""
    if axis.crop == (0.0, 1.0):
        return at, (0, 0)
    kept = np.flatnonzero((at >= 0) & (at <= axis.size - 1))
    if not kept.size:
        raise node.unsupported("the region to keep lies outside of the operand")
    return at[kept], (int(kept[0]), axis.count - 1 - int(kept[-1]))


def _blended(
    node: OnnxNode, b: Builder, x: str, axis: int, windows: tuple[np.ndarray, np.ndarray]
) -> str:
    first, weights = windows
    starts = b.plain_constant(first.astype(smallest_type(first)), f"{x}.first")
    factors = b.plain_constant(weights, f"{x}.weights")
    return b.emit(Blend(axis + 1), (x, starts, factors), node.sources)


ONNX: Mapping[str, Converter] = {"Resize": _resize, "Upsample": _resize}
