"""Convolution of plain numbers along any number of axes, channels last, with groups."""

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
from codegen.plain import operands, plain_kernel, reference
from codegen.slides import Sizes, Slides, place, walk

__all__ = ["KERNELS", "ONNX", "OP", "Convolution", "reference"]


@dataclass(frozen=True, slots=True)
class Convolution:
    """Operands: x (1, ..., *sizes, C), w (O, *kernel, C / groups), and maybe the biases (O,).

    An axis 0 for samples may lead w and the biases. Attributes have one number per sliding axis.

    Attributes:
        before: padding in front.
        after: padding behind.
        clamp: smallest and largest result.
    """

    kind: ClassVar[str] = "convolution"
    stride: Sizes
    before: Sizes
    after: Sizes
    dilation: Sizes
    groups: int = 1
    clamp: sums.Clamp = None

    def slides(self, weights: Sizes) -> Slides:
        """The sliding window, for weights of this shape."""
        return Slides(
            weights[-self.rank - 1 : -1], self.stride, self.before, self.after, self.dilation
        )

    @property
    def rank(self) -> int:
        """The number of axes that the window slides along."""
        return len(self.stride)

    def infer(self, shapes: tuple[Sizes, ...]) -> Sizes:
        """(1, ..., *places, O)."""
        x, w, *bias = shapes
        if len(x) < self.rank + 2 or w[: len(w) - self.rank - 2] not in ((), (1,)):
            raise ValueError(
                f"operand {list(x)} and weights {list(w)} need {self.rank} axes to slide"
            )
        channels = w[len(w) - self.rank - 2]
        if x[-1] != w[-1] * self.groups or channels % self.groups:
            raise ValueError(f"operand {list(x)}, weights {list(w)}, {self.groups} groups")
        if any(prod(shape) != channels for shape in bias):
            raise ValueError(f"{list(bias[0])} are no biases of {channels} channels")
        sizes = x[-self.rank - 1 : -1]
        return (*x[: -self.rank - 1], *self.slides(w).places(sizes), channels)

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """Sums from the bias on: element by element of the window, channel by channel."""
        x, w, *bias = sums.promoted(inputs)
        slides, lead = self.slides(w.shape), x.ndim - self.rank - 1
        sizes, depth = x.shape[lead:-1], w.shape[-1]
        weights = w.reshape(-1, prod(slides.kernel), depth)
        channels = len(weights)
        places = slides.places(sizes)
        total = np.zeros((*x.shape[:lead], *places, channels), x.dtype)
        if bias:
            total += bias[0].reshape(-1)
        owner = np.arange(channels) // (channels // self.groups) * depth
        for tap, at, seen in slides.seen(sizes, places):
            part = x[place(x, lead, seen)]
            element = np.ravel_multi_index(tap, slides.kernel)
            for channel in range(depth):
                taken = part[..., owner + channel] if self.groups > 1 else part[..., channel, None]
                total[place(total, lead, at)] += taken * weights[:, element, channel]
        return sums.clamped(total, self.clamp)

    def result_type(self, types: tuple[str, ...]) -> str:
        """That of sums."""
        return sums.result_type(types)

    def macs(self, shapes: tuple[Sizes, ...]) -> int:
        """Products of one sample, those with padding counted."""
        w = shapes[1]
        return prod(self.infer(shapes)) * prod(w[-self.rank - 1 :])


OP = Convolution
ONNX: Mapping[str, Converter] = {}


def _instance(layer: Layer) -> Instance:
    op, (x, w), out = layer.node.op, layer.inputs[:2], layer.output
    assert isinstance(op, Convolution)
    rows, constants = operands(layer)
    rank, depth, channels = op.rank, w.shape[-1], out.shape[-1]
    sizes, places = _spatial(op, x.shape), _spatial(op, out.shape)
    kernel = w.shape[-rank - 1 : -1]
    if _pointwise(op, w.shape):  # all pixels in a row
        op = Convolution((1,), (0,), (0,), (1,), op.groups, op.clamp)
        sizes, places, kernel = (prod(sizes),), (prod(places),), (1,)
    slides = Slides(kernel, op.stride, op.before, op.after, op.dilation)
    image = strides((*sizes, x.shape[-1]))[:-1]
    way = walk(slides, sizes, places, image, strides((*kernel, depth))[:-1])
    lanes = depth == 1 and channels == op.groups > 1
    joined = op.groups == 1 and slides.dilation[-1] == 1
    names = ["x", "w", "bias"][: len(rows)]
    return Instance(
        label=f"{'x'.join(map(str, x.shape[1:]))}_{channels}_k{'x'.join(map(str, w.shape[-rank - 1 : -1]))}",
        params={
            "operands": [{"name": n, **row} for n, row in zip(names, rows, strict=True)],
            "axes": way.axes,
            "images": prod(x.shape[1 : -rank - 1]),
            "image": prod(sizes) * x.shape[-1],
            "groups": 1 if lanes else op.groups,
            "depth": depth,
            "channels": channels if lanes else channels // op.groups,
            "length": prod(kernel) * depth,
            "lanes": lanes,
            "joined": joined,
            "block": sums.BLOCK,
            **sums.types(out),
            **sums.bounds(op.clamp),
        },
        constants=(*constants, *way.constants),
    )


def _spatial(op: Convolution, shape: Sizes) -> Sizes:
    return shape[-len(op.stride) - 1 : -1]


def _pointwise(op: Convolution, weights: Sizes) -> bool:
    """Whether every window is one pixel, and every pixel is one window."""
    kernel = weights[-op.rank - 1 : -1]
    return {*kernel, *op.stride} == {1} and not any((*op.before, *op.after))


def _cycles(layer: Layer) -> float:
    op = layer.node.op
    assert isinstance(op, Convolution)
    return sums.cycles(layer, op.macs(tuple(tensor.shape for tensor in layer.inputs)))


KERNELS = (plain_kernel("convolution", "ops/convolution.c.j2", _instance, _cycles),)
