"""Softmax over the last axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.ir import Array, Quant, Tensor
from codegen.kernel import Constant, Instance, Kernel, Layer, elementwise
from codegen.ops.reshape import reshape
from codegen.ops.transpose import transpose
from codegen.quant.fixed import requantization, saturated


@dataclass(frozen=True, slots=True)
class Softmax:
    """exp(x) over its sum along the last axis."""

    kind: ClassVar[str] = "softmax"

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The operand's shape."""
        if len(shapes[0]) < 2:
            raise ValueError("the only axis is the batch")
        return shapes[0]

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The probabilities."""
        (x,) = as_floats(inputs)
        powers = np.exp((x - x.max(axis=-1, keepdims=True)).astype(np.float64))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def _softmax(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    shape, rank = b.shape(x), b.rank(x)
    axis = node.integer("axis", -1 if node.opset >= 13 else 1)
    axis += rank if axis < 0 else 0
    if not 0 <= axis < rank:
        raise node.unsupported(f"axis {axis} of {rank} axes")
    if node.opset < 13:  # all axes from `axis` on are one
        flat = shape
        if axis < rank - 1:
            flat = (1, prod(shape[:axis]), prod(shape[axis:]))
        y = b.emit(Softmax(), (reshape(b, x, flat, node.sources),), node.sources)
        b.write(node, reshape(b, y, shape, node.sources))
        return
    order = [i for i in range(rank) if i != axis] + [axis]
    back = tuple(order.index(i) for i in range(rank))
    y = b.emit(Softmax(), (transpose(b, x, tuple(order), node.sources),), node.sources)
    b.write(node, transpose(b, y, back, node.sources))


OP = Softmax
ONNX: Mapping[str, Converter] = {"Softmax": _softmax}


# Integers: the reference, and the kernels that reproduce it.

FRACTION_BITS = 16  # of the quotient exp / sum


@dataclass(frozen=True, slots=True, eq=False)
class Exponentials:
    """The integers of one softmax layer.

    Attributes:
        table: round(2**bits * exp(-scale * d)) for distances d = 0, 1, ... to the row's largest value;
            zero beyond its end. 2**bits is the largest power for which a row's sum stays below 2**31.
        multiplier: output steps per 1.0, times 2**(shift - 16).
    """

    table: npt.NDArray[np.int64]
    multiplier: int
    shift: int


def exponentials(x: Quant, y: Quant, length: int) -> Exponentials:
    """Table and output scaling of a row of `length` values."""
    bits = 30 - max(length - 1, 1).bit_length()
    values = np.rint(np.exp(-x.scale * np.arange(256, dtype=np.float64)) * 2.0**bits)
    table = values[: max(1, int(np.count_nonzero(values)))].astype(np.int64)
    requant = requantization([1.0 / y.scale], "softmax", max_bits=14, max_shift=14)
    return Exponentials(table, requant.multipliers[0], FRACTION_BITS + requant.shift)


def reference(
    op: Softmax, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """int8 softmax: floor(2**16 * e / sum(e)) with e from the table, scaled with one rounding."""
    x, y = inputs[0].grid, out.grid
    e = exponentials(x, y, inputs[0].shape[-1])
    stored = values[0].astype(np.int64)
    distance = stored.max(axis=-1, keepdims=True) - stored
    padded = np.concatenate([e.table, np.zeros(256 - len(e.table), np.int64)])
    numerator = padded[distance]
    quotient = (numerator << FRACTION_BITS) // numerator.sum(axis=-1, keepdims=True)
    scaled = (quotient * e.multiplier + (1 << (e.shift - 1))) >> e.shift
    return saturated(scaled + y.zero_point)


def _instance(layer: Layer) -> Instance:
    x, y = layer.inputs[0], layer.output
    length = x.shape[-1]
    e = exponentials(x.grid, y.grid, length)
    return Instance(
        label=str(length),
        params={
            "rows": x.size // length,
            "length": length,
            "entries": len(e.table),
            "multiplier": e.multiplier,
            "rounding": 1 << (e.shift - 1),
            "shift": e.shift,
            "zero_point": y.grid.zero_point,
        },
        constants=(Constant("table", "uint32_t", e.table),),
    )


LONGEST_QUICK_ROW = 4_096  # its sum is at least 2**18, so that 2**48 over it is an int32


def _reciprocal_serves(layer: Layer) -> bool:
    short = layer.inputs[0].shape[-1] <= LONGEST_QUICK_ROW
    return short and layer.core.long_multiply


def _reciprocal_cycles(layer: Layer) -> float:
    """Predicted cycles: three walks over a row, and one division."""
    rows = layer.output.size // layer.output.shape[-1]
    return 360 * rows + 45.0 * layer.output.size


KERNELS = (
    Kernel(
        name="softmax.reciprocal",
        template="ops/softmax.reciprocal.c.j2",
        serves=_reciprocal_serves,
        instance=_instance,
        cycles=_reciprocal_cycles,
        footprints=lambda layer: (elementwise(layer.output.size),),
    ),
    Kernel(
        name="softmax.portable",
        template="ops/softmax.c.j2",
        serves=lambda layer: True,
        instance=_instance,
        cycles=lambda layer: 140.0 * layer.output.size,
        # Only the last of the three walks writes, each element right after reading it.
        footprints=lambda layer: (elementwise(layer.output.size),),
    ),
)
