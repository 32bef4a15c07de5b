"""Transposed convolution of float32 numbers: every element of the operand adds a window to the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from codegen import sums
from codegen.build import Converter
from codegen.ir import Array
from codegen.kernel import Instance, Layer
from codegen.loops import strides
from codegen.plain import only_float, operands, plain_kernel, reference
from codegen.slides import Sizes, Slides, place, walk

__all__ = ["KERNELS", "ONNX", "OP", "TransposedConvolution", "reference"]


@dataclass(frozen=True, slots=True)
class TransposedConvolution:
    """Operands: x (1, ..., *sizes, C), w (1, groups, *kernel, O / groups, C / groups), maybe biases (O,).

    Attributes:
        before: what is cut off in front of the result; one number per axis, as for the others.
        sizes: of the result.
    """

    kind: ClassVar[str] = "transposed_convolution"
    stride: Sizes
    before: Sizes
    dilation: Sizes
    sizes: Sizes

    @property
    def rank(self) -> int:
        """The number of axes that the window slides along."""
        return len(self.stride)

    def slides(self, weights: Sizes) -> Slides:
        """The window on the result."""
        kernel = weights[2 : 2 + self.rank]
        return Slides(kernel, self.stride, self.before, (0,) * self.rank, self.dilation)

    def infer(self, shapes: tuple[Sizes, ...]) -> Sizes:
        """(1, ..., *sizes, O)."""
        x, w, *bias = shapes
        if len(x) < self.rank + 2 or len(w) != self.rank + 4 or w[0] != 1:
            raise ValueError(
                f"operand {list(x)} and weights {list(w)} need {self.rank} axes to slide"
            )
        channels = w[1] * w[-2]
        if x[-1] != w[1] * w[-1] or any(prod(shape) != channels for shape in bias):
            raise ValueError(f"operand {list(x)}, weights {list(w)}, biases {bias} do not match")
        return (*x[: -self.rank - 1], *self.sizes, channels)

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """Biases, then the products of one element of the operand after the other, channel by channel."""
        x, w, *bias = sums.promoted(inputs)
        groups, outer, inner = w.shape[1], w.shape[-2], w.shape[-1]
        lead = x.ndim - self.rank - 1
        places = x.shape[lead:-1]
        total = np.zeros((*x.shape[:lead], *self.sizes, groups * outer), np.float32)
        if bias:
            total += bias[0].reshape(-1)
        owner = np.arange(groups * outer) // outer * inner
        slides = self.slides(w.shape)
        flat = w.reshape(groups, prod(slides.kernel), outer, inner)
        seen = list(slides.seen(self.sizes, places))
        for tap, at, result in reversed(seen):  # a later element meets an earlier tap
            part, target = x[place(x, lead, at)], place(total, lead, result)
            weights = flat[:, np.ravel_multi_index(tap, slides.kernel)].reshape(-1, inner)
            for channel in range(inner):
                total[target] += part[..., owner + channel] * weights[:, channel]
        return total

    def result_type(self, types: tuple[str, ...]) -> str:
        """float32."""
        return only_float(types)

    def macs(self, shapes: tuple[Sizes, ...]) -> int:
        """Products of one sample, those that are cut off counted."""
        x, w = shapes[:2]
        return prod(x) * prod(w[2:-1])


OP = TransposedConvolution
ONNX: Mapping[str, Converter] = {}


def _instance(layer: Layer) -> Instance:
    op, (x, w), out = layer.node.op, layer.inputs[:2], layer.output
    assert isinstance(op, TransposedConvolution)
    rows, constants = operands(layer)
    groups, outer, inner = w.shape[1], w.shape[-2], w.shape[-1]
    slides = op.slides(w.shape)
    places = x.shape[-op.rank - 1 : -1]
    image = strides((*op.sizes, out.shape[-1]))[:-1]
    way = walk(slides, op.sizes, places, image, strides((*slides.kernel, outer * inner))[:-1])
    names = ["x", "w", "bias"][: len(rows)]
    return Instance(
        label=f"{'x'.join(map(str, x.shape[1:]))}_{out.shape[-1]}_k{'x'.join(map(str, slides.kernel))}",
        params={
            "operands": [{"name": n, **row} for n, row in zip(names, rows, strict=True)],
            "axes": way.axes,
            "images": prod(x.shape[1 : -op.rank - 1]),
            "result": prod(op.sizes) * groups * outer,
            "pixels": prod(op.sizes),
            "groups": groups,
            "depth": inner,
            "channels": outer,
            "group_weights": prod(slides.kernel) * outer * inner,
            "block": sums.BLOCK,
        },
        constants=(*constants, *way.constants),
    )


def _cycles(layer: Layer) -> float:
    op = layer.node.op
    assert isinstance(op, TransposedConvolution)
    return sums.cycles(layer, op.macs(tuple(tensor.shape for tensor in layer.inputs)))


KERNELS = (
    plain_kernel("transposed_convolution", "ops/transposed_convolution.c.j2", _instance, _cycles),
)
