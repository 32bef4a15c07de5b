"""Largest, mean or sum of what windows see, along any number of axes of plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

import numpy as np

from codegen import sums
from codegen.build import Converter
from codegen.ir import Array, IntArray
from codegen.kernel import Constant, Instance, Layer
from codegen.loops import strides
from codegen.plain import c_number, operands, plain_kernel, reference
from codegen.scalar.form import lowest
from codegen.slides import Sizes, Slides, place, walk

__all__ = ["KERNELS", "ONNX", "OP", "Pool", "reference"]

Function = Literal["max", "argmax", "average", "sum"]


@dataclass(frozen=True, slots=True)
class Pool:
    """Operand: (1, ..., *sizes, ...), the window on the axes from `axis` on.

    `argmax` gives where the largest lies in the operand, axes in front counted; the first of equals. NaN is
    never the largest.

    Attributes:
        ceil: whether a last window may reach beyond the padding.
        count_include_pad: whether a mean counts padding, as zeros.
        column_major: whether argmax counts the sliding axes from the first on.
    """

    kind: ClassVar[str] = "pool"
    function: Function
    axis: int
    kernel: Sizes
    stride: Sizes
    before: Sizes
    after: Sizes
    dilation: Sizes
    ceil: bool = False
    count_include_pad: bool = False
    column_major: bool = False

    def slides(self) -> Slides:
        """The sliding window."""
        return Slides(self.kernel, self.stride, self.before, self.after, self.dilation, self.ceil)

    def sizes(self, shape: Sizes) -> Sizes:
        """What the window slides along, of a shape."""
        return shape[self.axis : self.axis + len(self.kernel)]

    def infer(self, shapes: tuple[Sizes, ...]) -> Sizes:
        """The operand's shape with the places of the window in place of its sizes."""
        (x,) = shapes
        behind = x[self.axis + len(self.kernel) :]
        if self.function == "argmax" and prod(behind) != 1:
            raise ValueError("argmax needs the channels in front")
        return (*x[: self.axis], *self.slides().places(self.sizes(x)), *behind)

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """What every window gives; its elements in order."""
        (x,) = inputs
        if self.function == "argmax":
            return self._argmax(x)
        slides, sizes = self.slides(), self.sizes(x.shape)
        places = slides.places(sizes)
        shape = (*x.shape[: self.axis], *places, *x.shape[self.axis + len(places) :])
        largest = self.function == "max"
        y = np.full(shape, lowest(x.dtype.name) if largest else 0, x.dtype)
        for _, at, seen in slides.seen(sizes, places):
            target, value = place(y, self.axis, at), x[place(x, self.axis, seen)]
            if largest:
                y[target] = np.where(value > y[target], value, y[target])
            else:
                y[target] += value
        if self.function == "average":
            counts = self.counts(sizes, places).astype(np.float32)
            y = y / counts.reshape(counts.shape + (1,) * (y.ndim - self.axis - counts.ndim))
        return y

    def _argmax(self, x: Array) -> Array:
        slides, sizes = self.slides(), self.sizes(x.shape)
        places = slides.places(sizes)
        outer = x.shape[1 : self.axis]
        index = np.arange(prod(sizes)).reshape(sizes, order="F" if self.column_major else "C")
        base = np.arange(prod(outer)).reshape(outer + (1,) * len(sizes)) * prod(sizes)
        index = np.broadcast_to(base + index, x.shape[: self.axis] + sizes)
        behind = x.shape[self.axis + len(sizes) :]
        best = np.zeros((*x.shape[: self.axis], *places), x.dtype)
        found = np.full(best.shape, -1, np.int64)
        x = x.reshape(index.shape)
        for _, at, seen in slides.seen(sizes, places):
            target, source = place(best, self.axis, at), place(x, self.axis, seen)
            wins = (found[target] < 0) | (x[source] > best[target])
            best[target] = np.where(wins, x[source], best[target])
            found[target] = np.where(wins, index[source], found[target])
        return found.reshape(found.shape + behind)

    def counts(self, sizes: Sizes, places: Sizes) -> IntArray:
        """By how much the sum of every window is divided for a mean."""
        slides, total = self.slides(), np.ones((), np.int64)
        for axis, (size, count) in enumerate(zip(sizes, places, strict=True)):
            inside = slides.inside(axis, size, count)[:, 2]
            along = slides.counted(axis, size, count) if self.count_include_pad else inside
            total = total[..., None] * along
        return total

    def result_type(self, types: tuple[str, ...]) -> str:
        """That of the operand; int64 for argmax."""
        if self.function == "argmax":
            return "int64"
        if self.function != "max" and types[0] != "float32":
            raise ValueError(f"{self.function} of {types[0]}")
        if types[0] == "bool":
            raise ValueError("truth values have no largest")
        return types[0]


OP = Pool
ONNX: Mapping[str, Converter] = {}


def _instance(layer: Layer) -> Instance:
    op, (x,), out = layer.node.op, layer.inputs, layer.output
    assert isinstance(op, Pool)
    ((operand,), constants) = operands(layer)
    sizes = op.sizes(x.shape)
    places = op.slides().places(sizes)
    inner = prod(x.shape[op.axis + len(sizes) :])
    steps = tuple(step * inner for step in strides(sizes))
    way = walk(op.slides(), sizes, places, steps, (0,) * len(sizes))
    counts = op.counts(sizes, places)
    varied = op.function == "average" and bool((counts != counts.flat[0]).any())
    if varied:
        divisors = Constant("divisors", "float", counts.astype(np.float32))
        constants = (*constants, divisors)
    kernel = "x".join(map(str, op.kernel))
    return Instance(
        label=f"{op.function}_{'x'.join(map(str, x.shape[1:])) or 1}_k{kernel}",
        params={
            "operand": operand,
            "function": op.function,
            "axes": way.axes,
            "images": prod(x.shape[: op.axis]),
            "image": prod(sizes) * inner,
            "inner": inner,
            "lowest": c_number(lowest(x.numpy.name), _c_type(operand["type"])),
            "divisor": None if varied else c_number(float(counts.flat[0]), "float"),
            "coordinates": _coordinates(sizes) if op.column_major else [],
            "block": sums.BLOCK,
            "type": sums.types(out)["type"],
        },
        constants=(*constants, *way.constants),
    )


def _c_type(name: str) -> str:
    return {"f32": "float", "i64": "int64_t", "u32": "uint32_t"}.get(name, "int32_t")


def _coordinates(sizes: Sizes) -> list[dict[str, int]]:
    """How an element's number, the last axis fastest, becomes one with the first axis fastest."""
    fast, slow = strides(sizes), strides(sizes[::-1])[::-1]
    return [
        {"step": a, "size": size, "becomes": b}
        for a, size, b in zip(fast, sizes, slow, strict=True)
    ]


def _cycles(layer: Layer) -> float:
    op = layer.node.op
    assert isinstance(op, Pool)
    return layer.output.size * (12.0 * prod(op.kernel) + 40.0)


KERNELS = (plain_kernel("pool", "ops/pool.c.j2", _instance, _cycles),)
