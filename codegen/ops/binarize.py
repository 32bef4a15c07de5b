"""Signs of int8 values as bits: where activations become binary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from codegen import bits
from codegen.build import Converter
from codegen.ir import Array, Tensor
from codegen.kernel import Constant, Footprint, Instance, Kernel, Layer


@dataclass(frozen=True, slots=True)
class Binarize:
    """The sign of slope * x + offset. Operands: x (..., C), and one slope and offset per channel.

    In a quantized graph the constants are thresholds and flips: a bit is set where x is at least its
    channel's threshold, or where it is less if the channel is flipped (a negative slope).

    Attributes:
        zero: the sign of 0, +1 or -1.
    """

    kind: ClassVar[str] = "binarize"
    zero: int = 1

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The operand's shape."""
        x, slope, offset = shapes
        if slope != (x[-1],) or offset != (x[-1],):
            raise ValueError(f"slopes {slope} and offsets {offset} do not suit {x[-1]} channels")
        return x

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """-1 or +1. In float64 the sign of product and sum is exact."""
        x, slope, offset = (np.asarray(array, np.float64) for array in inputs)
        return signs(x * slope + offset, self.zero)


def signs(values: npt.NDArray[np.float64], zero: int) -> Array:
    """-1 or +1 as float32; 0 has the sign that is asked for."""
    above = values >= 0 if zero > 0 else values > 0
    return np.where(above, np.float32(1), np.float32(-1))


OP = Binarize
ONNX: Mapping[str, Converter] = {}


# Integers: the reference, and the kernels that reproduce it.


def reference(
    op: Binarize, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """Bits of every value, packed."""
    x, thresholds, flips = values
    above = x.astype(np.int32) >= thresholds.astype(np.int32)
    return bits.pack(np.where(above ^ (flips != 0), 1, -1))


def _instance(layer: Layer) -> Instance:
    _, thresholds, flips = layer.inputs
    channels = layer.output.shape[-1]
    pixels = layer.output.size // channels
    masks = bits.pack_words(np.where(flips.values != 0, 1, -1))
    return Instance(
        f"{pixels}x{channels}",
        {"pixels": pixels, "channels": channels, "words": bits.words(channels)},
        (
            Constant("thresholds", "int16_t", thresholds.values),
            Constant("flips", "uint32_t", masks),
        ),
    )


def _footprint(layer: Layer) -> Footprint:
    """A word of bits is written when the values of its channels have been read."""
    channels = layer.output.shape[-1]
    pixel, word = np.divmod(np.arange(layer.output.bytes // bits.WORD_BYTES), bits.words(channels))
    low = pixel * channels + word * bits.WORD
    high = np.minimum(low + bits.WORD, (pixel + 1) * channels)
    written = np.arange(len(low), dtype=np.int64) * bits.WORD_BYTES
    return Footprint(low, high, written, written + bits.WORD_BYTES, reads_first=True)


KERNELS = (
    Kernel(
        name="binarize.portable",
        template="ops/binarize.c.j2",
        serves=lambda layer: True,
        instance=_instance,
        cycles=lambda layer: 12.0 * layer.output.size,
        footprints=lambda layer: (_footprint(layer),),
    ),
)
