"""conv2d.factors: 4-bit codes with a 4-bit factor per block, expanded once into the stream of conv2d.gemm.

Flash has, per four channels, the first sums, the factors (four nibbles to a halfword, one per block), the
codes (four nibbles to a halfword, two inputs to a word), the multipliers. A call first makes the stream of
codegen.tuned.raw8 of them, in scratch; then the kernel for int8 weights runs on it:

    word of channels 0 and 1 = u0 * s0 + u1 * 256 * s1 - 8 * (s0 + 256 * s1), both halves at once; u = w + 8
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codegen import window
from codegen.ir import Factors, IntArray
from codegen.kernel import NO_LANE, Constant, Footprint, Instance, Kernel, Layer, unmet
from codegen.requantize import Scaling, reach
from codegen.spatial import Window
from codegen.tuned import gemm
from codegen.tuned.lanes import folded_bias, halves, lane
from codegen.tuned.raw8 import BLOCK

MOST_STREAM = 16_384  # bytes of scratch for expanded weights
_ZERO = 8  # the code of a weight that is zero


def _factors(layer: Layer) -> Factors | None:
    """The factors of weights that the kernel can expand; None for all others."""
    stored = layer.inputs[1].storage
    if stored is None or len(stored.factors) != 1 or stored.offset not in (4, _ZERO):
        return None
    (found,) = stored.factors
    fits = found.bits <= 4 and not found.shifts and found.size in (16, 32)
    return found if fits and layer.inputs[1].grid.width == 8 else None


def _aligned(order: list[int], size: int) -> bool:
    """Whether each block of the widened window holds elements of one block of weights."""
    return all(element < 0 or element // size == at // size for at, element in enumerate(order))


def stream_bytes(channels: int, pairs: int) -> int:
    """Bytes of the expanded stream."""
    return -(-channels // BLOCK) * 4 * (8 + 2 * pairs)


def packed(layer: Layer, multipliers: IntArray, order: list[int]) -> IntArray:
    """Everything in flash behind the rounding constant."""
    x, w, b = layer.inputs
    stored, factors = w.storage, _factors(layer)
    assert stored is not None and stored.offset is not None and factors is not None
    channels, length = stored.codes.shape
    count = -(-channels // BLOCK) * BLOCK
    codes = np.full((count, length + 1), _ZERO, np.int64)  # the last column stands for "none"
    codes[:channels, :length] = stored.codes.astype(np.int64) - stored.offset + _ZERO
    groups = -(-len(order) // factors.size)
    scales = np.zeros((count, -(-groups // 2) * 2), np.int64)
    scales[:channels, : factors.values.shape[1]] = factors.values
    bias, m = np.zeros((2, count), np.int64)
    bias[:channels], m[:channels] = folded_bias(x, w, b), multipliers
    even, odd = bias.reshape(-1, 2).T
    first = np.stack([even, 256 * odd + even], axis=1).reshape(-1, BLOCK)
    nibbles = _nibbles(codes[:, order])
    parts = (
        first,
        _words(_nibbles(scales)),
        _words(nibbles),
        m.reshape(-1, 2, 2).transpose(0, 2, 1).reshape(-1, BLOCK),
    )
    everything: IntArray = np.concatenate(parts, axis=1).ravel()
    return halves(everything, everything >> 16)


def _nibbles(rows: IntArray) -> IntArray:
    """Four rows to one: the first in the lowest bits."""
    joined: IntArray = (
        rows.reshape(-1, BLOCK, rows.shape[1]) << 4 * np.arange(BLOCK)[:, None]
    ).sum(axis=1)
    return joined


def _words(rows: IntArray) -> IntArray:
    return halves(rows[:, 0::2], rows[:, 1::2])


def instance(layer: Layer, scales: Scaling, size: gemm.Geometry) -> Instance:
    """Template params, and everything in flash."""
    x, w, _ = layer.inputs
    factors = _factors(layer)
    even = lane(scales)
    assert even is not None and factors is not None
    order = size.order()
    words = packed(layer, scales.multipliers, order)
    blocks = -(-w.shape[0] // BLOCK)
    rest = size.pairs % (factors.size // 2)
    counted = -(-len(order) // factors.size)
    params = gemm.numbers(size, scales, x.grid.zero_point) | {
        "elements": tuple(order),
        "expanded": True,
        "twin": "factors",
        "blocks": blocks,
        "stream_at": size.scratch,
        "group_pairs": factors.size // 2,
        "whole_groups": size.pairs // (factors.size // 2),
        "rest_pairs": rest,
        "factor_bytes": 4 * -(-counted // 2),
    }
    label = window.label(size.slides, x.shape, layer.output.shape)
    held = 4 * (len(words) - 8 * blocks)
    constant = np.concatenate([np.array([even.addend]), words])
    return Instance(f"factors_{label}", params, (Constant("weights", "int32_t", constant, held),))


def _refusal(layer: Layer, size: gemm.Geometry, groups: int, scales: Scaling) -> str:
    factors = _factors(layer)
    if factors is None:
        return "flash does not hold 4-bit codes with one level of 4-bit factors"
    x, w, b = layer.inputs

    def exact() -> bool:
        ends = np.abs(np.stack(reach(x.grid, w, b)))[:, 1::2]
        return bool(ends.max(initial=0) < 1 << 23)

    return gemm.unfit(layer, lambda: size, groups) or unmet(
        (
            lambda: stream_bytes(w.shape[0], size.pairs) <= MOST_STREAM,
            f"expanded weights take over {MOST_STREAM:,} bytes",
        ),
        (exact, "256 times a sum of an odd channel leaves 32 bits"),
        (lambda: lane(scales, 8) is not None, NO_LANE),
        (lambda: _aligned(size.order(), factors.size), "a run of a window tears a block"),
    )


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
        return _refusal(layer, shape(layer), groups(layer), scaling(layer))

    def cycles(layer: Layer) -> float:
        size, factors = shape(layer), _factors(layer)
        assert factors is not None
        counted = -(-2 * size.pairs // factors.size)
        block = 32 + 14 * size.pairs + 19 * counted
        blocks = -(-layer.output.shape[3] // BLOCK)
        return gemm.cycles(size, limits(layer)) + 20 + blocks * block

    def footprints(layer: Layer) -> tuple[Footprint | None, ...]:
        size = shape(layer)
        return (gemm.footprint(size.slides, size.x, size.y),)

    return Kernel(
        name="conv2d.factors",
        template="ops/conv2d.gemm.c.j2",
        assembly="ops/conv2d.gemm.S.j2",
        serves=lambda layer: not refusal(layer),
        refusal=refusal,
        instance=lambda layer: instance(layer, scaling(layer), shape(layer)),
        cycles=cycles,
        footprints=footprints,
        scratch=lambda layer: (
            shape(layer).scratch + stream_bytes(layer.output.shape[3], shape(layer).pairs)
        ),
    )
