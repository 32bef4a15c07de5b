"""A border of one value around a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.ir import Array


@dataclass(frozen=True, slots=True)
class Pad:
    """`pads` holds (before, behind) for every axis; the batch has none."""

    kind: ClassVar[str] = "pad"
    pads: tuple[tuple[int, int], ...]
    value: float = 0.0

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The operand's shape, grown."""
        (shape,) = shapes
        if len(self.pads) != len(shape) or min(min(pair) for pair in self.pads) < 0:
            raise ValueError(f"pads {self.pads} do not suit {list(shape)}")
        return tuple(s + sum(pair) for s, pair in zip(shape, self.pads, strict=True))

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The operand within its border."""
        (x,) = as_floats(inputs)
        return np.pad(x, self.pads, constant_values=self.value)


def _pad(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    rank = b.rank(x)
    if node.text("mode", "constant") != "constant":
        raise node.unsupported("only constant padding is supported")
    flat = b.integers(node, "pads", 1) or ()
    axes = b.integers(node, "axes", 3) or tuple(range(rank))
    if len(flat) != 2 * len(axes) or min(flat, default=0) < 0:
        raise node.unsupported(f"pads {list(flat)} are negative or do not suit {rank} axes")
    pads = [(0, 0)] * rank
    for axis, before, behind in zip(axes, flat, flat[len(axes) :], strict=False):
        pads[axis % rank] = (before, behind)
    fill = b.static(node, 2)
    value = node.real("value", 0.0) if fill is None else float(fill.reshape(-1)[0])
    b.write(node, b.emit(Pad(tuple(pads), value), (x,), node.sources))


OP = Pad
ONNX: Mapping[str, Converter] = {"Pad": _pad}
