"""Maximum over sliding windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from math import inf
from typing import ClassVar

import numpy as np

from codegen import window
from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.images import from_image, to_image
from codegen.ir import Array, Tensor
from codegen.kernel import BOTH_ORDERS, NO_SMLAD, Footprint, Instance, Kernel, Layer, unmet
from codegen.pooling import grown, read_pool
from codegen.spatial import Window
from codegen.tuned import pools


@dataclass(frozen=True, slots=True)
class MaxPool:
    """Operand: an image. Pads are top, left, bottom, right; what lies there never wins."""

    kind: ClassVar[str] = "max_pool"
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    def window(self) -> Window:
        """The sliding window."""
        return Window(self.kernel, self.stride, self.pads, self.dilation)

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """(1, rows, columns, C)."""
        n, height, width, channels = shapes[0]
        return (n, *self.window().positions(height, width), channels)

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The largest element of every window."""
        (x,) = as_floats(inputs)
        y = np.full((x.shape[0], *self.infer(((1, *x.shape[1:]),))[1:]), -np.inf, np.float32)
        for _, _, seen in self.window().shifts(x, -inf):
            np.maximum(y, seen, out=y)
        return y


def _max_pool(node: OnnxNode, b: Builder) -> None:
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.unsupported("the indices of maxima are not supported")
    x = b.read(node, 0)
    image = to_image(node, b, x)
    window = grown(*read_pool(node, b, image))
    op = MaxPool(window.kernel, window.stride, window.pads, window.dilation)
    b.write(node, from_image(node, b, b.emit(op, (image,), node.sources), b.rank(x)))


def _global(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    image = to_image(node, b, x)
    _, height, width, _ = b.shape(image)
    y = b.emit(MaxPool((height, width)), (image,), node.sources)
    b.write(node, from_image(node, b, y, b.rank(x)))


OP = MaxPool
ONNX: Mapping[str, Converter] = {"GlobalMaxPool": _global, "MaxPool": _max_pool}


# Integers: the reference, and the kernels that reproduce it.


def reference(
    op: MaxPool, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """Largest stored value of each window; input and output share a grid, so order is kept."""
    taps = window.taps(op.window(), values[0], -128)
    return reduce(np.maximum, taps)


def _instance(layer: Layer) -> Instance:
    op = layer.node.op
    assert isinstance(op, MaxPool)
    x, y = layer.inputs[0].shape, layer.output.shape
    return Instance(window.label(op.window(), x, y), window.params(op.window(), x, y))


def _footprints(layer: Layer) -> tuple[Footprint | None, ...]:
    op = layer.node.op
    assert isinstance(op, MaxPool)
    x, y = layer.inputs[0].shape, layer.output.shape
    return (window.footprint(op.window(), x, y, reads_first=False),)


def _cycles(layer: Layer) -> float:
    op = layer.node.op
    assert isinstance(op, MaxPool)
    return 10.0 * layer.output.size * op.kernel[0] * op.kernel[1]


BATCH = 5  # registers that hold taps


def _dsp_refusal(layer: Layer) -> str:
    op, x = layer.node.op, layer.inputs[0].shape
    assert isinstance(op, MaxPool)
    slides = op.window()
    return unmet(
        (lambda: layer.core.dsp, NO_SMLAD),
        (lambda: pools.whole(slides), pools.PADDED),
        (lambda: x[3] % pools.WORD == 0, pools.NO_WORDS),
        (lambda: pools.small(slides, x), pools.TOO_LARGE),
    )


def _dsp_instance(layer: Layer) -> Instance:
    op, portable = layer.node.op, _instance(layer)
    assert isinstance(op, MaxPool)
    x, y = layer.inputs[0].shape, layer.output.shape
    return replace(portable, params={**portable.params, **pools.params(op.window(), x, y, BATCH)})


def _dsp_cycles(layer: Layer) -> float:
    op = layer.node.op
    assert isinstance(op, MaxPool)
    return pools.cycles(op.window(), layer.inputs[0].shape, layer.output.shape, BATCH, reducing=2)


KERNELS = (
    Kernel(
        name="max_pool.dsp",
        template="ops/max_pool.c.j2",
        assembly="ops/max_pool.dsp.S.j2",
        serves=lambda layer: not _dsp_refusal(layer),
        refusal=_dsp_refusal,
        instance=_dsp_instance,
        cycles=_dsp_cycles,
        footprints=_footprints,
    ),
    Kernel(
        name="max_pool.portable",
        template="ops/max_pool.c.j2",
        serves=lambda layer: True,
        instance=_instance,
        cycles=_cycles,
        footprints=_footprints,
        orders=BOTH_ORDERS,
    ),
)
