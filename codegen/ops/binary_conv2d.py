"""Convolution of signs with signs: exclusive or, and counting bits. A dense layer has a single pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from codegen import bits, window
from codegen.build import Converter, as_floats
from codegen.ir import Array, Tensor
from codegen.kernel import Constant, Footprint, Instance, Kernel, Layer
from codegen.ops.binarize import signs
from codegen.quant.fixed import clamp_range, exact_matmul, saturated
from codegen.spatial import Window, padded
from codegen.tuned import xnor, xnor_small


@dataclass(frozen=True, slots=True)
class BinaryConv2D:
    """scale * sum(x * w) + offset. Operands: x (1, H, W, C) of signs, w (O, kh, kw, C) of signs, then

    scale and offset (O,) in a float graph. In a quantized graph there are thresholds (O,) instead where
    the result is a sign, else multipliers and addends (O,):
    int8 = (sum * multiplier + addend) >> shift.

    Attributes:
        pads: top, left, bottom, right.
        pad_value: what lies there: 0, which counts nothing, or a sign.
        binary: whether the result is the sign of the sum, as bits.
        zero: the sign of 0, where the result is a sign.
        clamp: smallest and largest result, when an activation function was fused.
        shift: of the requantization, in a quantized graph.
    """

    kind: ClassVar[str] = "binary_conv2d"
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    pad_value: int = 0
    binary: bool = False
    zero: int = 1
    clamp: tuple[float, float] | None = None
    shift: int = 0

    def window(self, weights: tuple[int, ...]) -> Window:
        """The sliding window, for weights of this shape."""
        return Window((weights[1], weights[2]), self.stride, self.pads, self.dilation)

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """(1, rows, columns, O)."""
        x, w, *rest = shapes
        if len(x) != 4 or len(w) != 4:
            raise ValueError(f"an image {list(x)} and weights {list(w)} need 4 axes each")
        if x[3] != w[3] or any(shape != (w[0],) for shape in rest):
            raise ValueError(f"image {x}, weights {w} and {rest} do not match")
        return (x[0], *self.window(w).positions(x[1], x[2]), w[0])

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The scaled sums, or their signs. Sums of signs are exact, and so are signs in float64."""
        x, w, scale, offset = as_floats(inputs)
        total = accumulate(self, x, w).astype(np.float64)
        y = total * scale.astype(np.float64) + offset
        if self.binary:
            return signs(y, self.zero)
        real = y.astype(np.float32)
        return real if self.clamp is None else np.clip(real, *self.clamp)


OP = BinaryConv2D
ONNX: Mapping[str, Converter] = {}


# Integers: the reference, and the kernels that reproduce it.


def accumulate(op: BinaryConv2D, x: Array, w: Array) -> npt.NDArray[np.int32]:
    """Sums of products of signs, (samples, rows, columns, O)."""
    around = padded(x, op.pads, op.pad_value)  # type: ignore[arg-type]  # integers work as well
    inside = Window((w.shape[1], w.shape[2]), op.stride, (0, 0, 0, 0), op.dilation)
    taps = window.taps(inside, around.astype(np.int32), 0)
    return exact_matmul(np.concatenate(taps, axis=-1), w.reshape(len(w), -1).astype(np.int32))


def reference(
    op: BinaryConv2D, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """Packed bits of sums from a threshold on; or sums in fixed point, rounded half up."""
    total = accumulate(op, bits.unpack(values[0], inputs[0].shape[-1]), values[1])
    if op.binary:
        return bits.pack(np.where(total >= values[2].astype(np.int32), 1, -1))
    steps = (
        total.astype(np.int64) * values[2].astype(np.int64) + values[3].astype(np.int64)
    ) >> op.shift
    return saturated(steps, *clamp_range(op.clamp, out.grid))


def _op(layer: Layer) -> BinaryConv2D:
    assert isinstance(layer.node.op, BinaryConv2D)
    return layer.node.op


def _sliding(layer: Layer) -> xnor.Sliding:
    """The window, and both shapes in bytes."""
    slides = _op(layer).window(layer.inputs[1].shape)
    return slides, layer.inputs[0].stored_shape, layer.output.stored_shape


def _products(layer: Layer) -> xnor.Products:
    op = _op(layer)
    limits = (0, 0) if op.binary else clamp_range(op.clamp, layer.output.grid)
    return xnor.Products(*_sliding(layer), layer, op.pad_value, op.binary, op.shift, limits)


def _instance(layer: Layer) -> Instance:
    found = _products(layer)
    slides, x, y = _sliding(layer)
    results = ("thresholds",) if found.binary else ("multipliers", "addends")
    packed = bits.pack_words(layer.inputs[1].values)
    return Instance(
        f"{window.label(slides, layer.inputs[0].shape, layer.output.shape)}",
        {
            **window.params(slides, x, y),
            "channels": layer.output.shape[-1],
            "in_channels": layer.inputs[0].shape[-1],
            "words": x[3] // bits.WORD_BYTES,
            "length": packed[0].size,
            "pad_value": found.pad_value,
            "binary": found.binary,
            "shift": found.shift,
            "low": found.limits[0],
            "high": found.limits[1],
        },
        (
            Constant("weights", "uint32_t", packed, packed.nbytes),
            *(
                Constant(name, "int32_t", tensor.values)
                for name, tensor in zip(results, layer.inputs[2:], strict=True)
            ),
        ),
    )


def _footprints(layer: Layer) -> tuple[Footprint | None, ...]:
    return (window.footprint(*_sliding(layer), reads_first=False),)


def _cycles(layer: Layer) -> float:
    """Some 36 cycles per word and channel, more without Thumb-2."""
    words = layer.inputs[0].stored_shape[-1] // bits.WORD_BYTES
    taps = int(np.prod(layer.inputs[1].shape[1:3]))
    each = 36.0 if layer.core.thumb2 else 60.0
    return float(layer.output.size * (taps * (words * each + 12) + 30))


KERNELS = (
    xnor.kernel(_products),
    xnor_small.kernel(_products),
    Kernel(
        name="binary_conv2d.portable",
        template="ops/binary_conv2d.c.j2",
        serves=lambda layer: True,
        instance=_instance,
        cycles=_cycles,
        passes=lambda layer: float(np.prod(layer.output.shape[1:3])),
        footprints=_footprints,
    ),
)
