"""Elements picked by indices: Gather, GatherElements, GatherND in one form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

import numpy as np

from codegen.build import Converter
from codegen.indices import WIDE, Index, check_type, walked
from codegen.ir import Array
from codegen.kernel import Instance, Layer
from codegen.loops import loops, strides
from codegen.plain import operands, plain_kernel, reference

__all__ = ["KERNELS", "ONNX", "OP", "Gather", "reference"]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Gather:
    """A result of `shape`: an element lies in operand 0 where the loops' steps and an index lead to.

    Attributes:
        steps: elements of operand 0 from one index of an axis of the result to the next.
        index: how the indices, operand 1, lead on from there.
    """

    kind: ClassVar[str] = "gather"
    shape: Shape
    steps: Shape
    index: Index

    def __post_init__(self) -> None:
        """Names the fields of an index that comes from a file (codegen/graph_file.py) as a mere tuple."""
        object.__setattr__(self, "index", Index(*self.index))

    def infer(self, shapes: tuple[Shape, ...]) -> Shape:
        """The shape; ValueError where it leaves an operand."""
        data, indices = shapes
        self.index.check(indices, self.shape)
        ends = sum((n - 1) * step for n, step in zip(self.shape, self.steps, strict=True))
        if ends + self.index.furthest() >= prod(data):
            raise ValueError(f"{list(self.shape)} is not to be picked from {list(data)}")
        return self.shape

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The picked elements, sample by sample."""
        data, indices = inputs
        samples = max(len(data), len(indices))
        at = self.index.offsets(indices, self.shape) + walked(self.shape, self.steps)
        at = np.broadcast_to(at, (samples, *self.shape[1:])).reshape(samples, -1)
        flat = np.broadcast_to(data.reshape(len(data), -1), (samples, prod(data.shape[1:])))
        return np.take_along_axis(flat, at, axis=1).reshape(samples, *self.shape[1:])

    def result_type(self, types: tuple[str, ...]) -> str:
        """That of operand 0."""
        check_type(types[1])
        return types[0]


def along(shape: Shape, axis: int, indices: Shape) -> Gather:
    """Indices of a shape instead of an axis; shapes without the axis for samples."""
    steps, behind = strides(shape), len(shape) - axis - 1
    whole = (1, *shape[:axis], *indices, *shape[axis + 1 :])
    walks = (0, *steps[:axis], *(0,) * len(indices), *steps[axis + 1 :])
    places = (*(0,) * (axis + 1), *(strides(indices) if indices else ()), *(0,) * behind)
    return Gather(whole, walks, Index(places, (shape[axis],), (steps[axis],)))


OP = Gather
ONNX: Mapping[str, Converter] = {}


def _instance(layer: Layer) -> Instance:
    op = layer.node.op
    assert isinstance(op, Gather)
    (data, indices), constants = operands(layer)
    axes = loops(op.shape, {"x": op.steps, "i": op.index.places})
    depth = max((n for n, axis in enumerate(axes, 1) if axis["i"]), default=0)
    return Instance(
        label="x".join(map(str, op.shape[1:])) or "1",
        params={
            "data": data,
            "index": {
                **indices,
                "wide": WIDE.get(indices["type"], "int32_t"),
                "rows": op.index.rows(),
            },
            "outer": axes[:depth],
            "inner": axes[depth:],
        },
        constants=constants,
    )


_PLAIN = plain_kernel(
    "gather", "ops/gather.c.j2", _instance, lambda layer: 30.0 * layer.output.size
)
KERNELS = (_PLAIN, replace(_PLAIN, name="gather.portable", serves=lambda layer: not layer.is_plain))
