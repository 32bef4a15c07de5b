"""Elements written at indices: ScatterElements and ScatterND in one form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from codegen.build import Converter
from codegen.indices import WIDE, Index, check_type, walked
from codegen.ir import Array, IntArray
from codegen.kernel import Footprint, Instance, Layer, elementwise
from codegen.loops import loops, strides
from codegen.plain import alias, operands, plain_kernel, reference

__all__ = ["KERNELS", "ONNX", "OP", "Scatter", "reference"]

Shape = tuple[int, ...]
NO_SUMS = frozenset({"bool", "int2", "int4", "uint2", "uint4"})


def _largest(old: Array, new: Array) -> Array:
    return np.where(np.greater(old, new) | np.isnan(old), old, new)


def _smallest(old: Array, new: Array) -> Array:
    return np.where(np.less(old, new) | np.isnan(old), old, new)


REDUCTIONS: Mapping[str, tuple[Callable[[Array, Array], Array], str, str]] = {
    "none": (lambda old, new: new, "value", "value"),
    "add": (np.add, "old + value", "({type})(({wide})old + ({wide})value)"),
    "mul": (np.multiply, "old * value", "({type})(({wide})old * ({wide})value)"),
    "max": (_largest, "old > value || old != old ? old : value", "old > value ? old : value"),
    "min": (_smallest, "old < value || old != old ? old : value", "old < value ? old : value"),
}
"""What an update makes of an element: NumPy, C for float32, C for integers. NaN wins."""


@dataclass(frozen=True, slots=True)
class Scatter:
    """Operand 0 with the elements of operand 2 merged in, one after the other.

    Attributes:
        steps: elements of operand 0 from one index of an axis of the updates to the next.
        index: how the indices, operand 1, lead on from there.
        reduction: a key of REDUCTIONS.
    """

    kind: ClassVar[str] = "scatter"
    steps: Shape
    index: Index
    reduction: str = "none"

    def __post_init__(self) -> None:
        """Names the fields of an index that comes from a file (codegen/graph_file.py) as a mere tuple."""
        object.__setattr__(self, "index", Index(*self.index))

    def infer(self, shapes: tuple[Shape, ...]) -> Shape:
        """The shape of operand 0; ValueError where an update would leave it."""
        data, indices, updates = shapes
        self.index.check(indices, updates)
        ends = sum((n - 1) * step for n, step in zip(updates, self.steps, strict=True))
        if ends + self.index.furthest() >= prod(data):
            raise ValueError(f"updates {list(updates)} do not suit {list(data)}")
        return data

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """Sample by sample; an element's updates in their order."""
        data, indices, updates = inputs
        samples = max(map(len, inputs))
        shape = (1, *updates.shape[1:])
        at = self.index.offsets(indices, shape) + walked(shape, self.steps)
        at = np.broadcast_to(at, (samples, *shape[1:])).reshape(samples, -1)
        values = np.broadcast_to(updates, (samples, *shape[1:])).reshape(samples, -1)
        result = np.array(np.broadcast_to(data, (samples, *data.shape[1:])))
        compute = REDUCTIONS[self.reduction][0]
        for old, places, new in zip(result.reshape(samples, -1), at, values, strict=True):
            for turn in _turns(places):
                old[places[turn]] = compute(old[places[turn]], new[turn])
        return result

    def result_type(self, types: tuple[str, ...]) -> str:
        """That of operand 0."""
        check_type(types[1])
        if types[0] != types[2] or (self.reduction != "none" and types[0] in NO_SUMS):
            raise ValueError(f"{self.reduction} of {types[2]} to {types[0]}")
        return types[0]


def _turns(places: IntArray) -> list[IntArray]:
    """Which updates may run at once: the first of every place, then the second, ..."""
    order = np.argsort(places, kind="stable")
    sorted_places = places[order]
    first = np.searchsorted(sorted_places, sorted_places)
    turn = np.arange(len(places)) - first
    return [order[turn == number] for number in range(int(turn.max()) + 1)]


OP = Scatter
ONNX: Mapping[str, Converter] = {}


def _instance(layer: Layer) -> Instance:
    op, out, updates = layer.node.op, layer.output, layer.inputs[2]
    assert isinstance(op, Scatter) and out.dtype is not None
    (data, indices, values), constants = operands(layer)
    kind = alias(out.dtype)
    _, real, whole = REDUCTIONS[op.reduction]
    wide = "uint64_t" if kind == "i64" else "uint32_t"
    axes = {"u": strides(updates.shape), "i": op.index.places, "y": op.steps}
    return Instance(
        label="x".join(map(str, updates.shape[1:])) or "1",
        params={
            "type": kind,
            "size": out.size,
            "data": data["parameter"],
            "updates": values["parameter"],
            "index": {
                **indices,
                "wide": WIDE.get(indices["type"], "int32_t"),
                "rows": op.index.rows(),
            },
            "loops": loops(updates.shape, axes),
            "merges": op.reduction != "none",
            "merged": real if kind == "f32" else whole.format(type=kind, wide=wide),
        },
        constants=constants,
    )


def _footprints(layer: Layer) -> tuple[Footprint | None, ...]:
    """Operand 0 is copied, element by element, before the first update is written."""
    first = layer.inputs[0]
    return tuple(
        elementwise(first.bytes) if tensor is first and number == 0 else None
        for number, tensor in enumerate(layer.activations)
    )


KERNELS = (
    plain_kernel(
        "scatter",
        "ops/scatter.c.j2",
        _instance,
        lambda layer: 12.0 * layer.output.size + 40.0 * layer.inputs[2].size,
        _footprints,
    ),
)
