"""conv2d.gemm_staged: 1x1 convolution for boards whose flash makes reads wait.

The products are those of conv2d.gemm. There, all weights pass by for every two pixels; here, the weights of
four channels are copied to scratch and serve a group of pairs of pixels, which are widened before. Flash is
read once for a group.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codegen.ir import IntArray
from codegen.kernel import NO_LANE, Footprint, Instance, Kernel, Layer, unmet
from codegen.requantize import Scaling
from codegen.tuned import gemm, raw8
from codegen.tuned.gemm import PIXELS, Geometry

MOST_GROUP = 8  # pairs of pixels
MOST_WINDOWS = 4096  # bytes of widened pixels
LONGEST_BLOCK = 192  # words that are copied without a loop
MOST_STEP = 4095  # immediates


def group(shape: Geometry) -> int:
    """Pairs of pixels that share a copy."""
    return max(1, min(MOST_GROUP, MOST_WINDOWS // (8 * shape.pairs)))


def block_words(shape: Geometry) -> int:
    """Words of the stream for four channels."""
    return 8 + 2 * shape.pairs


def fits(shape: Geometry) -> bool:
    """Whether the kernel can run a layer of this size."""
    pixels, channels = shape.y[1] * shape.y[2], shape.y[3]
    whole_blocks = channels % raw8.BLOCK == 0 and PIXELS * channels <= MOST_STEP
    return shape.flat and pixels > PIXELS and whole_blocks and block_words(shape) <= LONGEST_BLOCK


def footprint(shape: Geometry) -> Footprint:
    """One event per group, and one for a last pixel that has no other."""
    single = gemm.footprint(shape.slides, shape.x, shape.y)
    whole = shape.y[1] * shape.y[2] // PIXELS
    first: IntArray = np.arange(0, whole, group(shape))
    last = np.minimum(first + group(shape), whole) - 1
    if len(single.read_low) > whole:
        first, last = (np.append(at, whole) for at in (first, last))
    return Footprint(
        single.read_low[first],
        single.read_high[last],
        single.write_low[first],
        single.write_high[last],
        True,
    )


def instance(layer: Layer, scaling: Scaling, shape: Geometry) -> Instance:
    """Template params, and the stream of conv2d.gemm."""
    usual = gemm.instance(layer, scaling, shape)
    pixels = shape.y[1] * shape.y[2]
    params = dict(usual.params) | {
        "group": group(shape),
        "whole_pixels": pixels // PIXELS * PIXELS,
        "alone": pixels % PIXELS == 1,
        "block_words": block_words(shape),
        "staged_at": group(shape) * 8 * shape.pairs,
        "y_step": PIXELS * shape.y[3],
        "together": PIXELS * group(shape),
    }
    return Instance(f"staged_{usual.label}", params, usual.constants)


def scratch(shape: Geometry) -> int:
    """Bytes: widened pixels, a block of the stream."""
    return group(shape) * 8 * shape.pairs + 4 * block_words(shape)


def cycles(shape: Geometry, limits: tuple[int, int]) -> float:
    """Predicted, without the waits for flash; counted from the template; m4-simple."""
    pixels, blocks = shape.y[1] * shape.y[2], shape.y[3] // raw8.BLOCK
    whole, alone = pixels // PIXELS, pixels % PIXELS
    words = block_words(shape)
    copying = 2 * words + 2 * -(-words // 8) + 17
    groups = -(-whole // group(shape)) + alone
    widening = PIXELS * gemm.widening_cycles(shape) + 8
    pair = blocks * (gemm.block_cycles(shape, limits) + 1)
    return groups * (blocks * copying + 38) + (whole + alone) * (pair + widening) + 50


def passes(shape: Geometry) -> float:
    """How often the stream is read from flash: once for a group."""
    pixels = shape.y[1] * shape.y[2]
    return -(-(pixels // PIXELS) // group(shape)) + pixels % PIXELS


def kernel(
    geometry: Callable[[Layer], Geometry],
    refused: Callable[[Layer], str],
    scaling: Callable[[Layer], Scaling],
    limits: Callable[[Layer], tuple[int, int]],
) -> Kernel:
    """The variant.

    Args:
        geometry: windows and shapes of a layer.
        refused: why conv2d.gemm does not serve a layer; empty if it does.
        scaling: how its sums become int8.
        limits: least and largest result.
    """

    def refusal(layer: Layer) -> str:
        return unmet(
            (lambda: not refused(layer), "conv2d.gemm does not serve"),
            (lambda: scaling(layer).shifts is None, NO_LANE),
            (lambda: fits(geometry(layer)), "not 1x1 on many pixels, or too deep"),
        )

    return Kernel(
        name="conv2d.gemm_staged",
        template="ops/conv2d.gemm.c.j2",
        assembly="ops/conv2d.gemm_staged.S.j2",
        serves=lambda layer: not refusal(layer),
        refusal=refusal,
        instance=lambda layer: instance(layer, scaling(layer), geometry(layer)),
        cycles=lambda layer: cycles(geometry(layer), limits(layer)),
        passes=lambda layer: passes(geometry(layer)),
        footprints=lambda layer: (footprint(geometry(layer)),),
        scratch=lambda layer: scratch(geometry(layer)),
    )
