"""conv2d.int4: the convolution of codegen.tuned.gemm with 4-bit weights (codegen.tuned.int4)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codegen import window
from codegen.ir import IntArray
from codegen.kernel import Constant, Footprint, Instance, Kernel, Layer, unmet
from codegen.requantize import Scaling
from codegen.spatial import Window
from codegen.tuned import gemm, int4
from codegen.tuned.lanes import folded_bias

FRAME = 60  # two words more than for int8
EXTRA_BLOCK = 14  # cycles: two loads, eight subtractions, shifts of the rounding constant


def stream(weights: IntArray, bias: IntArray, multipliers: IntArray, order: list[int]) -> IntArray:
    """Per block of four channels: first sums, a word per pair of `order`, multipliers."""
    count = -(-len(weights) // int4.CHANNELS) * int4.CHANNELS
    w = np.zeros((count, weights.shape[1] + 1), np.int64)  # the last column stands for "none"
    w[: len(weights), :-1] = weights
    b, m = np.zeros((2, count), np.int64)
    b[: len(bias)], m[: len(multipliers)] = bias, multipliers
    first, words = int4.blocks(w[:, order], b)
    rows: IntArray = np.concatenate([first, words, m.reshape(-1, int4.CHANNELS)], axis=1)
    return rows.ravel()


def instance(layer: Layer, scales: Scaling, size: gemm.Geometry) -> Instance:
    """Template params, and everything in flash."""
    x, w, b = layer.inputs
    rule = int4.rule(scales)
    assert rule is not None
    order = size.order()
    rows = w.values.astype(np.int64).reshape(w.shape[0], -1)
    blocks = stream(rows, folded_bias(x, w, b), scales.multipliers, order)
    words = np.concatenate([np.array([rule.addend]), blocks])
    count = -(-w.shape[0] // int4.CHANNELS)
    params = gemm.numbers(size, scales, x.grid.zero_point) | {
        "alone": False,
        "elements": tuple(order),
        "packing": "int4",
        "twin": "int4",
        "shift": rule.shift,
        "lift": rule.lift,
        "frame": FRAME,
        "stream_bytes": count * 4 * (8 + size.pairs),
    }
    label = window.label(size.slides, x.shape, layer.output.shape)
    weights = Constant("weights", "int32_t", words, 4 * count * size.pairs)
    return Instance(f"int4_{label}", params, (weights,))


def kernel(
    sliding: Callable[[Layer], tuple[Window, window.Shape, window.Shape]],
    groups: Callable[[Layer], int],
    scaling: Callable[[Layer], Scaling],
    limits: Callable[[Layer], tuple[int, int]],
) -> Kernel:
    """The variant.

    Args:
        sliding: window, input and output shape of a layer.
        groups: of a layer.
        scaling: how its sums become int8.
        limits: least and largest result.
    """

    def shape(layer: Layer) -> gemm.Geometry:
        return gemm.geometry(*sliding(layer))

    def refusal(layer: Layer) -> str:
        starts = tuple(range(0, layer.output.shape[3], int4.CHANNELS))
        return gemm.unfit(layer, lambda: shape(layer), groups(layer)) or unmet(
            (lambda: int4.fits(layer), int4.NOT_FITTING),
            (lambda: int4.exact(layer, scaling(layer), starts), int4.NOT_EXACT),
        )

    def cycles(layer: Layer) -> float:
        pairs = shape(layer).pairs
        total = 12 + 21 * (pairs // 4) + 5 * (pairs % 4)
        return gemm.cycles(shape(layer), limits(layer), EXTRA_BLOCK, total, alone=False)

    def footprints(layer: Layer) -> tuple[Footprint | None, ...]:
        size = shape(layer)
        return (gemm.footprint(size.slides, size.x, size.y),)

    return Kernel(
        name="conv2d.int4",
        template="ops/conv2d.gemm.c.j2",
        assembly="ops/conv2d.gemm.S.j2",
        serves=lambda layer: not refusal(layer),
        refusal=refusal,
        instance=lambda layer: instance(layer, scaling(layer), shape(layer)),
        cycles=cycles,
        passes=lambda layer: gemm.passes(shape(layer)),
        footprints=footprints,
        scratch=lambda layer: shape(layer).scratch,
    )
