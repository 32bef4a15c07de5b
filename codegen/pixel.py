"""One pixel of a layer as a layer of its own, so that ordinary kernels serve the members of a chain.

A convolution's window, gathered into a contiguous patch, is a row of a dense layer: the patch has the
order of the weights. Depthwise convolutions and pools see the patch as an image of the window's size;
elementwise operators see one pixel. Weights, grids and rounding stay those of the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from codegen.chain import Reads
from codegen.ir import IntArray, Node, Op, Tensor
from codegen.kernel import Layer
from codegen.ops.add import Add
from codegen.ops.average_pool import AveragePool
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.ops.lookup import Lookup
from codegen.ops.max_pool import MaxPool
from codegen.ops.mean import Mean
from codegen.ops.mul import Mul
from codegen.ops.reshape import reshaped
from codegen.spatial import Window
from codegen.window import footprint

INT8_LOW = -128  # loses every comparison
WORD = 4
PAIR = 2


@dataclass(frozen=True, slots=True, eq=False)
class Pixel:
    """How a layer makes one output pixel.

    Attributes:
        layer: the whole layer.
        one: the layer that makes one pixel; of the sums of all pixels, when `collects`.
        window: what an output pixel sees of its input; None = the pixel at the same place.
        fill: the stored value that stands for padding.
        collects: whether the layer averages the whole image.
        step: pixels that are made at once, next to each other; `window` is what they see together.
    """

    layer: Layer
    one: Layer
    window: Window | None = None
    fill: int = 0
    collects: bool = False
    step: int = 1

    @property
    def firings(self) -> int:
        """How often the layer fires in a chain: once per `step` pixels, or per input pixel if it collects."""
        shape = (self.layer.activations[0] if self.collects else self.layer.output).shape
        return shape[1] * shape[2] // self.step

    @property
    def columns(self) -> int:
        """Firings in a row of the output."""
        return self.layer.output.shape[2] // self.step

    @property
    def patch(self) -> int:
        """Bytes that a window sees; 0 for elementwise operators."""
        if self.window is None:
            return 0
        return self.window.kernel[0] * self.window.kernel[1] * self.layer.activations[0].shape[3]

    @property
    def lies_ready(self) -> bool:
        """Whether a kernel can read its operands where they lie: whole pixels, on words."""
        one = self.window is None or self.window.kernel == (1, 1)
        return one and all(tensor.shape[-1] % WORD == 0 for tensor in self.one.activations)

    def reads(self, names: tuple[str, ...]) -> tuple[Reads, ...]:
        """Pixels that each firing reads of its operands, which are called `names` in the arena."""
        if self.window is None:
            index = np.arange(self.firings, dtype=np.int64)
            return tuple(Reads(name, index, index + 1) for name in names)
        x, y = self.layer.activations[0].shape, self.layer.output.shape
        fired = (1, y[1], self.columns, y[3])
        events = footprint(self.window, x, fired, reads_first=True)
        first: IntArray = events.read_low // x[3]
        end: IntArray = events.read_high // x[3]
        return (Reads(names[0], first, end),)


def of(layer: Layer) -> Pixel | None:
    """The pixel form of a layer; None where the operator has none."""
    make = _FORMS.get(layer.node.op.kind)
    if make is None or any(len(tensor.shape) != 4 for tensor in layer.activations):
        return None
    return None if layer.is_plain else make(layer)


def in_pairs(form: Pixel) -> Pixel | None:
    """The same layer making two pixels of a row at once; None where it cannot.

    Weights are then loaded once for both. Only convolutions with real windows gain by it.
    """
    op, window = form.layer.node.op, form.window
    if not isinstance(op, Conv2D) or window is None or op.groups > 1 or window.kernel == (1, 1):
        return None
    if form.layer.output.shape[2] % PAIR or window.dilation[1] > 1:
        return None
    (rows, columns), (down, across) = window.kernel, window.stride
    x, w, b = form.layer.inputs
    both = (rows, columns + across)
    here = replace(op, stride=(1, across), pads=(0, 0, 0, 0), dilation=(1, 1))
    patch = replace(x, shape=(1, *both, x.shape[3]))
    one = _one(form.layer, here, (patch, w, b), (1, 1, PAIR, w.shape[0]))
    seen = Window(both, (down, PAIR * across), window.pads, window.dilation)
    return replace(form, one=one, window=seen, step=PAIR)


def _one(layer: Layer, op: Op, inputs: tuple[Tensor, ...], shape: tuple[int, ...]) -> Layer:
    node = Node(op, layer.node.inputs, layer.node.output, layer.node.sources)
    return Layer(node, inputs, replace(layer.output, shape=shape), layer.core)


def _convolution(layer: Layer) -> Pixel | None:
    op = layer.node.op
    assert isinstance(op, Conv2D)
    x, w, b = layer.inputs
    window = op.window(w.shape)
    channels, rows, columns, _ = w.shape
    if not _sees_image(window, layer):
        return None
    if op.groups == 1:
        length = w.size // channels
        dense = Dense(clamp=op.clamp, rounding=op.rounding, shift=op.shift)
        operands = (replace(x, shape=(1, length)), reshaped(w, (channels, length)), b)
        one = _one(layer, dense, operands, (1, channels))
    else:
        here = replace(op, stride=(1, 1), pads=(0, 0, 0, 0), dilation=(1, 1))
        patch = replace(x, shape=(1, rows, columns, x.shape[3]))
        one = _one(layer, here, (patch, w, b), (1, 1, 1, channels))
    return Pixel(layer, one, window, x.grid.zero_point)


def _sees_image(window: Window, layer: Layer) -> bool:
    """Whether no window starts beyond the image or ends before it."""
    for axis in (0, 1):
        reach = (window.kernel[axis] - 1) * window.dilation[axis] + 1
        last = (layer.output.shape[axis + 1] - 1) * window.stride[axis] - window.pads[axis]
        if window.pads[axis] >= reach or last >= layer.activations[0].shape[axis + 1]:
            return False
    return True


def _max_pool(layer: Layer) -> Pixel | None:
    op = layer.node.op
    assert isinstance(op, MaxPool)
    here = replace(op, stride=(1, 1), pads=(0, 0, 0, 0), dilation=(1, 1))
    return _pool(layer, here, op.window(), INT8_LOW)


def _average_pool(layer: Layer) -> Pixel | None:
    op = layer.node.op
    assert isinstance(op, AveragePool)
    x = layer.activations[0]
    if op.kernel == x.shape[1:3] and layer.output.shape[1:3] == (1, 1) and not any(op.pads):
        return _collected(layer, Mean((1, 2), rounding=op.rounding))
    if any(op.pads) and not op.count_include_pad:
        return None  # the divisor changes from pixel to pixel
    here = replace(op, stride=(1, 1), pads=(0, 0, 0, 0))
    return _pool(layer, here, op.window(), x.grid.zero_point)


def _pool(layer: Layer, here: Op, window: Window, fill: int) -> Pixel | None:
    x = layer.activations[0]
    if not _sees_image(window, layer):
        return None
    patch = replace(x, shape=(1, *window.kernel, x.shape[3]))
    one = _one(layer, here, (patch,), (1, 1, 1, x.shape[3]))
    return Pixel(layer, one, window, fill)


def _mean(layer: Layer) -> Pixel | None:
    op = layer.node.op
    assert isinstance(op, Mean)
    return _collected(layer, op) if op.axes == (1, 2) else None


def _collected(layer: Layer, op: Mean) -> Pixel:
    return Pixel(layer, _one(layer, op, layer.inputs, layer.output.shape), collects=True)


def _elementwise(layer: Layer, op_type: type[Any]) -> Pixel | None:
    op = layer.node.op
    assert isinstance(op, op_type)
    shape = layer.output.shape
    narrow = (1, 1, 1, shape[-1])
    inputs = []
    for tensor in layer.inputs:
        if tensor.data is None and tensor.shape == shape:
            inputs.append(replace(tensor, shape=narrow))
        elif tensor.data is not None and tensor.size == max(tensor.shape[-1:], default=1):
            inputs.append(tensor)  # one value, or one per channel
        else:
            return None
    return Pixel(layer, _one(layer, op, tuple(inputs), narrow))


_FORMS: Mapping[str, Callable[[Layer], Pixel | None]] = {
    "add": partial(_elementwise, op_type=Add),
    "average_pool": _average_pool,
    "conv2d": _convolution,
    "lookup": partial(_elementwise, op_type=Lookup),
    "max_pool": _max_pool,
    "mean": _mean,
    "mul": partial(_elementwise, op_type=Mul),
}
