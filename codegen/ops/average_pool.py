"""Mean over sliding windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import ClassVar

import numpy as np

from codegen import window
from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.images import from_image, to_image
from codegen.ir import Array, IntArray, Tensor
from codegen.kernel import (
    BOTH_ORDERS,
    NO_LANE,
    NO_SMLAD,
    Footprint,
    Instance,
    Kernel,
    Layer,
    unmet,
)
from codegen.ops.pad import Pad
from codegen.pooling import grown, read_pool
from codegen.requantize import Rounding, Scaling, rule, scaling, sum_reach
from codegen.spatial import Pair, Window
from codegen.tuned import pools
from codegen.tuned.lanes import lane


@dataclass(frozen=True, slots=True)
class AveragePool:
    """Operand: an image. The divisor counts the padding (zeros) only if `count_include_pad`."""

    kind: ClassVar[str] = "average_pool"
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    count_include_pad: bool = False
    rounding: Rounding = "half_up"

    def window(self) -> Window:
        """The sliding window."""
        return Window(self.kernel, self.stride, self.pads)

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """(1, rows, columns, C)."""
        n, height, width, channels = shapes[0]
        return (n, *self.window().positions(height, width), channels)

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The mean of every window."""
        (x,) = as_floats(inputs)
        y = np.zeros((x.shape[0], *self.infer(((1, *x.shape[1:]),))[1:]), np.float32)
        for _, _, seen in self.window().shifts(x, 0.0):
            y += seen
        return np.asarray(y / self.counts(x.shape[1], x.shape[2])[:, :, None], np.float32)

    def counts(self, height: int, width: int) -> Array:
        """The divisor at every position."""
        rows, columns = self.window().positions(height, width)
        if self.count_include_pad:
            return np.full((rows, columns), self.kernel[0] * self.kernel[1], np.float32)
        down = _inside(rows, self.kernel[0], self.stride[0], self.pads[0], height)
        across = _inside(columns, self.kernel[1], self.stride[1], self.pads[1], width)
        return np.outer(down, across).astype(np.float32)


def _inside(positions: int, kernel: int, stride: int, before: int, size: int) -> IntArray:
    starts = np.arange(positions) * stride - before
    inside: IntArray = np.minimum(starts + kernel, size) - np.maximum(starts, 0)
    return inside


def _average_pool(node: OnnxNode, b: Builder) -> None:
    if any(step != 1 for step in node.integers("dilations") or ()):
        raise node.unsupported("dilated average pools are not supported")
    x = b.read(node, 0)
    image = to_image(node, b, x)
    window, extra = read_pool(node, b, image)
    include = bool(node.integer("count_include_pad", 0))
    if include and max(extra) > 0:
        image, window = _pad_first(node, b, image, window)
        include = False
    op = _pool(grown(window, extra), include=include)
    b.write(node, from_image(node, b, b.emit(op, (image,), node.sources), b.rank(x)))


def _pad_first(node: OnnxNode, b: Builder, image: str, window: Window) -> tuple[str, Window]:
    """The padded image: what ceil mode adds beyond the padding is never counted."""
    top, left, bottom, right = window.pads
    if any(window.pads):
        pads: tuple[Pair, ...] = ((0, 0), (top, bottom), (left, right), (0, 0))
        image = b.emit(Pad(pads, 0.0), (image,), node.sources)
    return image, replace(window, pads=(0, 0, 0, 0))


def _pool(window: Window, *, include: bool) -> AveragePool:
    return AveragePool(window.kernel, window.stride, window.pads, include and any(window.pads))


def _global(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    image = to_image(node, b, x)
    _, height, width, _ = b.shape(image)
    y = b.emit(AveragePool((height, width)), (image,), node.sources)
    b.write(node, from_image(node, b, y, b.rank(x)))


OP = AveragePool
ONNX: Mapping[str, Converter] = {"AveragePool": _average_pool, "GlobalAveragePool": _global}


# Integers: the reference, and the kernels that reproduce it.


def _counts(op: AveragePool) -> IntArray:
    """Divisors that occur: entry n - 1 is n; only the full count where every window has it."""
    taps = op.kernel[0] * op.kernel[1]
    if not any(op.pads) or op.count_include_pad:
        return np.array([taps], np.int64)
    return np.arange(1, taps + 1, dtype=np.int64)


def reference(
    op: AveragePool, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """int8 average: sum(x - zp) over the taps inside the image, one rounding."""
    centred = values[0].astype(np.int32) - inputs[0].grid.zero_point
    total = reduce(np.add, window.taps(op.window(), centred, 0))
    divisors = _counts(op)
    requant = rule((inputs[0].grid,), out.grid, divisors, op.rounding, out.name)
    pick = op.counts(*inputs[0].shape[1:3])[:, :, None] - 1 if len(divisors) > 1 else None
    return requant.apply(total, out.grid.zero_point, pick=pick)


def _scaling(layer: Layer) -> Scaling:
    op = layer.node.op
    assert isinstance(op, AveragePool)
    x, divisors = layer.inputs[0], _counts(op)
    requant = rule((x.grid,), layer.output.grid, divisors, op.rounding, layer.label)
    return scaling(requant, sum_reach(x.grid, divisors), layer.output.grid)


def _instance(layer: Layer) -> Instance:
    op = layer.node.op
    assert isinstance(op, AveragePool)
    x, y = layer.inputs[0], layer.output
    divisors = _counts(op)
    scaled = _scaling(layer)
    params = window.params(op.window(), x.shape, y.shape) | {
        "zero_point": x.grid.zero_point,
        "counts": len(divisors) > 1,
        "q": scaled.q,
    }
    return Instance(window.label(op.window(), x.shape, y.shape), params, scaled.constants())


def _footprints(layer: Layer) -> tuple[Footprint | None, ...]:
    op = layer.node.op
    assert isinstance(op, AveragePool)
    x, y = layer.inputs[0].shape, layer.output.shape
    return (window.footprint(op.window(), x, y, reads_first=False),)


def _cycles(layer: Layer) -> float:
    op = layer.node.op
    assert isinstance(op, AveragePool)
    return layer.output.size * (9.0 * op.kernel[0] * op.kernel[1] + 38.0)


MOST_PIXELS = 256  # whose sums fit 16 bits
MOST_DEPTH = 1_020  # immediate offsets reach four pixels


def _dsp_serves(layer: Layer) -> bool:
    """Whether the window is the whole image, and sums of two channels fit a word."""
    op = layer.node.op
    assert isinstance(op, AveragePool)
    _, rows, columns, depth = layer.inputs[0].shape
    whole = op.kernel == (rows, columns) and not any(op.pads)
    fits = rows * columns <= MOST_PIXELS and depth % 4 == 0 and depth <= MOST_DEPTH
    return layer.core.dsp and whole and fits and lane(_scaling(layer)) is not None


def _dsp_instance(layer: Layer) -> Instance:
    portable = _instance(layer)
    found = lane(_scaling(layer))
    assert found is not None
    _, rows, columns, depth = layer.inputs[0].shape
    extra = {
        "groups": depth // 4,
        "passes": rows * columns // 4,
        "rest": rows * columns % 4,
        "first_sum": -rows * columns * layer.inputs[0].grid.zero_point,
        "addend": found.addend,
        "lane_shift": found.shift,
    }
    return replace(portable, params={**portable.params, **extra})


def _dsp_cycles(layer: Layer) -> float:
    _, rows, columns, depth = layer.inputs[0].shape
    pixels = rows * columns
    return 30 + depth // 4 * (30 + 18 * (pixels // 4) + 4 * (pixels % 4))


BATCH = 4  # registers that hold taps


def _windows_refusal(layer: Layer) -> str:
    op, x = layer.node.op, layer.inputs[0].shape
    assert isinstance(op, AveragePool)
    slides = op.window()
    return unmet(
        (lambda: layer.core.dsp, NO_SMLAD),
        (lambda: pools.whole(slides), pools.PADDED),
        (lambda: x[3] % pools.WORD == 0, pools.NO_WORDS),
        (lambda: pools.small(slides, x), pools.TOO_LARGE),
        (lambda: lane(_scaling(layer)) is not None, NO_LANE),
    )


def _windows_instance(layer: Layer) -> Instance:
    op, portable = layer.node.op, _instance(layer)
    assert isinstance(op, AveragePool)
    found, x = lane(_scaling(layer)), layer.inputs[0]
    assert found is not None
    # At most 64 taps: sums without the zero point fit 16 bits, and so do those on the way.
    start = -op.kernel[0] * op.kernel[1] * x.grid.zero_point & 0xFFFF
    extra = pools.params(op.window(), x.shape, layer.output.shape, BATCH) | {
        "sum_start": start << 16 | start,
        "addend": found.addend,
        "lane_shift": found.shift,
    }
    return replace(portable, params={**portable.params, **extra})


def _windows_cycles(layer: Layer) -> float:
    op, y = layer.node.op, layer.output
    assert isinstance(op, AveragePool)
    once = 10 + 19 * y.size / pools.WORD
    return once + pools.cycles(op.window(), layer.inputs[0].shape, y.shape, BATCH, reducing=2)


KERNELS = (
    Kernel(
        name="average_pool.dsp",
        template="ops/average_pool.c.j2",
        assembly="ops/average_pool.dsp.S.j2",
        serves=_dsp_serves,
        instance=_dsp_instance,
        cycles=_dsp_cycles,
        footprints=_footprints,
    ),
    Kernel(
        name="average_pool.windows",
        template="ops/average_pool.c.j2",
        assembly="ops/average_pool.windows.S.j2",
        serves=lambda layer: not _windows_refusal(layer),
        refusal=_windows_refusal,
        instance=_windows_instance,
        cycles=_windows_cycles,
        footprints=_footprints,
    ),
    Kernel(
        name="average_pool.portable",
        template="ops/average_pool.c.j2",
        serves=lambda layer: True,
        instance=_instance,
        cycles=_cycles,
        footprints=_footprints,
        orders=BOTH_ORDERS,
    ),
)
