"""Two-dimensional convolution, grouped or depthwise; a 1-D signal is an image of one row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from codegen import conv_portable, expand, window
from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.images import from_image, to_image
from codegen.ir import Array, FloatArray, Tensor
from codegen.kernel import Footprint, Kernel, Layer
from codegen.ops.reshape import reshape
from codegen.ops.transpose import channels_last
from codegen.quant.fixed import INT8_MAX, INT8_MIN, clamp_range, exact_matmul, stable_matmul
from codegen.requantize import ONE, Rounding, Scaling, rule, weighted
from codegen.spatial import Window, padded, read_window
from codegen.tuned import (
    conv_pairs,
    depthwise,
    depthwise_pairs,
    depthwise_rows,
    depthwise_strips,
    gemm,
    gemm_staged,
    limbs,
    low_bit,
    mending,
    raw8,
    signed_sums,
    winograd_kernels,
)

CHUNK = 1 << 23


@dataclass(frozen=True, slots=True)
class Conv2D:
    """Operands: x (1, H, W, C), w (O, kh, kw, C / groups), b (O,). The result is clamped if asked.

    Attributes:
        pads: top, left, bottom, right.
        clamp: smallest and largest result, when an activation function was fused.
        rounding: how sums become int8 (codegen.requantize).
        shift: of the requantization, kept when channels were removed; None = the best one.
    """

    kind: ClassVar[str] = "conv2d"
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    clamp: tuple[float, float] | None = None
    rounding: Rounding = "half_up"
    shift: int | None = None

    def window(self, weights: tuple[int, ...]) -> Window:
        """The sliding window, for weights of this shape."""
        return Window((weights[1], weights[2]), self.stride, self.pads, self.dilation)

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """(1, rows, columns, O)."""
        x, w, b = shapes
        if len(x) != 4 or len(w) != 4:
            raise ValueError(f"an image {list(x)} and weights {list(w)} need 4 axes each")
        if x[3] != w[3] * self.groups or w[0] % self.groups or b != (w[0],):
            raise ValueError(f"image {x}, weights {w}, bias {b}, {self.groups} groups do not match")
        return (x[0], *self.window(w).positions(x[1], x[2]), w[0])

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The convolution: shifted products when depthwise, else matrix products."""
        x, w, b = as_floats(inputs)
        depthwise = w.shape[3] == 1 and self.groups == x.shape[3]
        y = self._depthwise(x, w) if depthwise else self._grouped(x, w)
        y += b
        return y if self.clamp is None else np.clip(y, *self.clamp, out=y)

    def _depthwise(self, x: FloatArray, w: FloatArray) -> FloatArray:
        if w.shape[0] != x.shape[3]:
            x = np.repeat(x, w.shape[0] // x.shape[3], axis=3)
        rows, columns = self.window(w.shape).positions(x.shape[1], x.shape[2])
        y = np.zeros((x.shape[0], rows, columns, w.shape[0]), np.float32)
        for i, j, seen in self.window(w.shape).shifts(x, 0.0):
            y += seen * w[:, i, j, 0]
        return y

    def _grouped(self, x: FloatArray, w: FloatArray) -> FloatArray:
        rows, columns = self.window(w.shape).positions(x.shape[1], x.shape[2])
        y = np.empty((x.shape[0], rows, columns, w.shape[0]), np.float32)
        per_sample = rows * columns * w.shape[1] * w.shape[2] * x.shape[3]
        step = max(1, CHUNK // per_sample)
        inner, outer = w.shape[3], w.shape[0] // self.groups
        for start in range(0, x.shape[0], step):
            for group in range(self.groups):
                part = x[start : start + step, :, :, group * inner : (group + 1) * inner]
                kernels = w[group * outer : (group + 1) * outer]
                result = self._product(part, kernels)
                y[start : start + step, :, :, group * outer : (group + 1) * outer] = result
        return y

    def _product(self, x: FloatArray, w: FloatArray) -> FloatArray:
        window = self.window(w.shape)
        rows, columns = window.positions(x.shape[1], x.shape[2])
        x = padded(x, self.pads, 0.0)
        spans = tuple((k - 1) * d + 1 for k, d in zip(window.kernel, self.dilation, strict=True))
        seen = np.lib.stride_tricks.sliding_window_view(x, spans, axis=(1, 2))
        (down, across), (deep, wide) = self.stride, self.dilation
        patches = seen[:, ::down, ::across, :, ::deep, ::wide].transpose(0, 1, 2, 4, 5, 3)
        matrix = patches.reshape(-1, w[0].size)
        product = stable_matmul(matrix, w.reshape(w.shape[0], -1))
        return product.reshape(x.shape[0], rows, columns, w.shape[0])


def _conv(node: OnnxNode, b: Builder) -> None:
    x, w = b.read(node, 0), b.read(node, 1)
    if not b.is_constant(w):
        raise node.unsupported("the weights must be constant")
    if b.rank(w) != b.rank(x):
        raise node.unsupported(f"weights {list(b.shape(w))} do not fit {list(b.shape(x))}")
    image, weights = to_image(node, b, x), channels_last(b, w, node.sources)
    kernel = b.shape(weights)[1:-1]
    if (node.integers("kernel_shape") or kernel) != kernel:
        raise node.unsupported("kernel_shape differs from the weights' shape")
    if len(kernel) == 1:
        outputs, width, channels = b.shape(weights)
        weights = reshape(b, weights, (outputs, 1, width, channels), node.sources)
    if node.has(2):
        bias = b.read(node, 2)
        if not b.is_constant(bias):
            raise node.unsupported("the bias must be constant")
    else:
        bias = b.constant(np.zeros(b.shape(weights)[0], np.float32), f"{node.label}.bias")
    _, height, width, _ = b.shape(image)
    window = read_window(node, kernel, (height, width))
    op = Conv2D(window.stride, window.pads, window.dilation, node.integer("group", 1))
    y = b.emit(op, (image, weights, bias), node.sources)
    b.write(node, from_image(node, b, y, b.rank(x)))


OP = Conv2D
ONNX: Mapping[str, Converter] = {"Conv": _conv}


# Integers: the reference, and the kernels that reproduce it.


def reference(
    op: Conv2D, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """int8 convolution: bias + sum((x - zp) * w), exact, then one rounding."""
    x, w, bias = values
    centred = x.astype(np.int32) - inputs[0].grid.zero_point
    return requantize(op, accumulate(op, centred, w) + bias.astype(np.int32), inputs, out)


def accumulate(op: Conv2D, centred: Array, w: Array) -> npt.NDArray[np.int32]:
    """sum(x * w) of int32 values x with the zero point taken off; padding counts as 0."""
    channels, _, _, depth = w.shape
    taps = window.taps(op.window(w.shape), centred, 0)
    if op.groups == 1:
        return exact_matmul(np.concatenate(taps, axis=-1), w.reshape(channels, -1))
    total = np.zeros((*taps[0].shape[:-1], channels), np.int32)
    weights = w.reshape(op.groups, channels // op.groups, -1, depth).astype(np.int32)
    for index, seen in enumerate(taps):
        grouped = seen.reshape(*seen.shape[:-1], op.groups, 1, depth)
        products: npt.NDArray[np.int32] = grouped.astype(np.int32) * weights[:, :, index]
        total += products.sum(axis=-1, dtype=np.int32).reshape(total.shape)
    return total


def requantize(op: Conv2D, total: Array, inputs: tuple[Tensor, ...], out: Tensor) -> Array:
    """int8 of sums with their bias."""
    low, high = clamp_range(op.clamp, out.grid)
    requant = rule((inputs[0].grid, inputs[1].grid), out.grid, ONE, op.rounding, out.name, op.shift)
    return requant.apply(total, out.grid.zero_point, low, high)


def _limits(layer: Layer) -> tuple[int, int]:
    op = layer.node.op
    assert isinstance(op, Conv2D)
    return clamp_range(op.clamp, layer.output.grid)


@lru_cache(maxsize=16)
def _scaling(layer: Layer) -> Scaling:
    op = layer.node.op
    assert isinstance(op, Conv2D)
    grid = layer.output.grid
    return weighted(layer.inputs, grid, _limits(layer), op.rounding, layer.label, op.shift)


@lru_cache(maxsize=64)
def _form(layer: Layer) -> limbs.Form | None:
    op = layer.node.op
    assert isinstance(op, Conv2D)
    grid = layer.output.grid
    return limbs.weighted(layer.inputs, grid, _limits(layer), op.rounding, layer.label, op.shift)


def _sliding(layer: Layer) -> tuple[Window, tuple[int, ...], tuple[int, ...]]:
    op = layer.node.op
    assert isinstance(op, Conv2D)
    return op.window(layer.inputs[1].shape), layer.inputs[0].shape, layer.output.shape


def _depthwise_dsp_refusal(layer: Layer) -> str:
    return depthwise.refusal(layer, _scaling(layer), *_sliding(layer)[:2], _is_depthwise(layer))


def _depthwise_dsp_cycles(layer: Layer) -> float:
    low, high = _limits(layer)
    clamps = (low != INT8_MIN) + (high != INT8_MAX)
    return depthwise.cycles(*_sliding(layer), clamps) + depthwise.mending_cycles(
        _scaling(layer), layer.output.shape
    )


def _groups(layer: Layer) -> int:
    assert isinstance(layer.node.op, Conv2D)
    return layer.node.op.groups


def _is_depthwise(layer: Layer) -> bool:
    return conv_portable.is_depthwise(layer, _groups(layer))


def _geometry(layer: Layer) -> gemm.Geometry:
    return gemm.geometry(*_sliding(layer))


def _gemm_refusal(layer: Layer) -> str:
    return gemm.refusal(layer, _scaling(layer), _geometry(layer), _groups(layer))


def _gemm_cycles(layer: Layer) -> float:
    scaling, shape = _scaling(layer), _geometry(layer)
    patches, pairs = scaling.fixed.patches, conv_portable.pixels(layer) / gemm.PIXELS
    starts = range(0, len(patches), raw8.BLOCK)
    mends = np.ceil(pairs) * mending.cycles(patches, starts, raw8.BLOCK, gemm.PIXELS)
    return gemm.cycles(shape, _limits(layer), alone=not patches) + float(mends)


def _gemm_footprints(layer: Layer) -> tuple[Footprint | None, ...]:
    shape = _geometry(layer)
    return (gemm.footprint(shape.slides, shape.x, shape.y),)


_DEPTHWISE_DSP = Kernel(
    name="conv2d.depthwise_dsp",
    template="ops/conv2d.depthwise_dsp.c.j2",
    assembly="ops/conv2d.depthwise_dsp.S.j2",
    serves=lambda layer: not _depthwise_dsp_refusal(layer),
    refusal=_depthwise_dsp_refusal,
    instance=lambda layer: depthwise.instance(layer, _scaling(layer), *_sliding(layer)),
    cycles=_depthwise_dsp_cycles,
    passes=conv_portable.pixels,
    footprints=lambda layer: (window.footprint(*_sliding(layer), False),),
    scratch=lambda layer: depthwise.scratch(*_sliding(layer)[:2]),
)
_INT8 = (
    depthwise_rows.kernel(_sliding, _is_depthwise, _scaling, _limits),
    depthwise_rows.kernel(_sliding, _is_depthwise, _scaling, _limits, depthwise_rows.BYTES),
    depthwise_strips.kernel(_sliding, _is_depthwise, _scaling, _limits),
    gemm_staged.kernel(_geometry, _gemm_refusal, _scaling, _limits),
    Kernel(
        name="conv2d.gemm",
        template="ops/conv2d.gemm.c.j2",
        assembly="ops/conv2d.gemm.S.j2",
        serves=lambda layer: not _gemm_refusal(layer),
        refusal=_gemm_refusal,
        instance=lambda layer: gemm.instance(layer, _scaling(layer), _geometry(layer)),
        cycles=_gemm_cycles,
        passes=lambda layer: gemm.passes(_geometry(layer)),
        footprints=_gemm_footprints,
        scratch=lambda layer: _geometry(layer).scratch,
    ),
    *conv_portable.kernels(_sliding, _groups, _scaling),
)
_STORED = low_bit.conv_kernels(_sliding, _groups, _is_depthwise, _scaling, _limits)
_WINOGRAD = winograd_kernels.variants(_groups, _scaling, _sliding, _limits)
_PAIRS = (
    conv_pairs.kernel(_sliding, _groups, _form),
    depthwise_pairs.kernel(_sliding, _is_depthwise, _form),
)
KERNELS = (
    *map(expand.unpacked, _PAIRS),
    *map(expand.plain, (*_WINOGRAD, *_INT8)),
    winograd_kernels.int4_kernel(_groups, _scaling, _sliding, _limits),
    _DEPTHWISE_DSP,  # for few bits too: the fast one where windows are not 3x3
    signed_sums.kernel(_sliding, _groups, _form),
    *_STORED,
)
