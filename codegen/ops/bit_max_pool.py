"""Maximum over sliding windows of bits: their disjunction, 32 channels at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import numpy as np

from codegen import bits, window
from codegen.build import Converter
from codegen.ir import Array, Tensor
from codegen.kernel import Footprint, Instance, Kernel, Layer
from codegen.ops.max_pool import MaxPool
from codegen.spatial import Window


@dataclass(frozen=True, slots=True)
class BitMaxPool:
    """Operand: an image of bits. Attributes as of MaxPool; padding never wins."""

    kind: ClassVar[str] = "bit_max_pool"
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    def window(self) -> Window:
        """The sliding window."""
        return Window(self.kernel, self.stride, self.pads, self.dilation)

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """(1, rows, columns, C)."""
        return self._plain().infer(shapes)

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The largest element of every window."""
        return self._plain().evaluate(inputs)

    def _plain(self) -> MaxPool:
        return MaxPool(self.kernel, self.stride, self.pads, self.dilation)


OP = BitMaxPool
ONNX: Mapping[str, Converter] = {}


# Integers: the reference, and the kernels that reproduce it.


def reference(
    op: BitMaxPool, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """Packed bits: set where one of the window's is."""
    return reduce(np.bitwise_or, window.taps(op.window(), values[0], 0))


def _sliding(layer: Layer) -> tuple[Window, tuple[int, ...], tuple[int, ...]]:
    op = layer.node.op
    assert isinstance(op, BitMaxPool)
    return op.window(), layer.inputs[0].stored_shape, layer.output.stored_shape


def _instance(layer: Layer) -> Instance:
    slides, x, y = _sliding(layer)
    return Instance(window.label(slides, x, y), window.params(slides, x, y))


def _footprints(layer: Layer) -> tuple[Footprint | None, ...]:
    return (window.footprint(*_sliding(layer), reads_first=False),)


def _cycles(layer: Layer) -> float:
    slides, _, y = _sliding(layer)
    return 9.0 * np.prod(y) * slides.kernel[0] * slides.kernel[1] + 20.0 * bits.WORD_BYTES


KERNELS = (
    Kernel(
        name="bit_max_pool.portable",
        template="ops/bit_max_pool.c.j2",
        serves=lambda layer: True,
        instance=_instance,
        cycles=_cycles,
        footprints=_footprints,
    ),
)
