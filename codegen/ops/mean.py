"""Mean over whole axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.ir import Array, Tensor
from codegen.kernel import Footprint, Instance, Kernel, Layer
from codegen.ops.reshape import reshape
from codegen.quant.fixed import check_accumulator
from codegen.requantize import Rounding, rule, scaling, sum_reach


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean over contiguous axes, never the batch; `keepdims` leaves unit axes behind."""

    kind: ClassVar[str] = "mean"
    axes: tuple[int, ...]
    keepdims: bool = True
    rounding: Rounding = "half_up"

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The operand's shape without the averaged axes, or with units there."""
        (shape,) = shapes
        first, last = self.axes[0], self.axes[-1]
        if self.axes != tuple(range(first, last + 1)) or first < 1 or last >= len(shape):
            raise ValueError(f"axes {list(self.axes)} of {list(shape)} cannot be averaged")
        middle = (1,) * len(self.axes) if self.keepdims else ()
        return (*shape[:first], *middle, *shape[last + 1 :])

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The mean."""
        (x,) = as_floats(inputs)
        return np.asarray(
            x.mean(axis=self.axes, dtype=np.float64, keepdims=self.keepdims), np.float32
        )


def _reduce_mean(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    rank, keepdims = b.rank(x), bool(node.integer("keepdims", 1))
    named = b.integers(node, "axes", 1)
    if not named and node.integer("noop_with_empty_axes", 0):
        b.write(node, x)
        return
    reduced = {axis % rank for axis in named} if named else set(range(rank))
    runs = _runs(sorted(reduced - {0}))
    if len(runs) == 1 and not keepdims and 0 not in reduced:
        b.write(node, b.emit(Mean(runs[0], keepdims=False), (x,), node.sources))
        return
    for run in runs:
        x = b.emit(Mean(run), (x,), node.sources)
    kept = tuple(size for axis, size in enumerate(b.shape(x)) if axis not in reduced)
    b.write(node, x if keepdims else reshape(b, x, kept, node.sources))


def _runs(axes: list[int]) -> list[tuple[int, ...]]:
    runs: list[tuple[int, ...]] = []
    for axis in axes:
        if runs and runs[-1][-1] == axis - 1:
            runs[-1] = (*runs[-1], axis)
        else:
            runs.append((axis,))
    return runs


OP = Mean
ONNX: Mapping[str, Converter] = {"ReduceMean": _reduce_mean}


# Integers: the reference, and the kernels that reproduce it.


def _view(op: Mean, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The input as (outer, count, inner) with the averaged axes in the middle."""
    first, last = min(op.axes), max(op.axes)
    return prod(shape[:first]), prod(shape[first : last + 1]), prod(shape[last + 1 :])


def reference(
    op: Mean, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """int8 mean: sum(x - zp), one rounding."""
    _, count, inner = _view(op, inputs[0].shape)
    centred = values[0].astype(np.int32) - inputs[0].grid.zero_point
    total = centred.reshape(len(centred), -1, count, inner).sum(axis=2, dtype=np.int32)
    requant = rule((inputs[0].grid,), out.grid, np.array([count]), op.rounding, out.name)
    result = requant.apply(total, out.grid.zero_point)
    return result.reshape(len(result), *out.shape[1:])


def _instance(layer: Layer) -> Instance:
    op = layer.node.op
    assert isinstance(op, Mean)
    x, y = layer.inputs[0], layer.output
    outer, count, inner = _view(op, x.shape)
    check_accumulator(255 * count, layer.label)
    divisor = np.array([count])
    requant = rule((x.grid,), y.grid, divisor, op.rounding, layer.label)
    return Instance(
        label=f"{outer}x{count}x{inner}",
        params={
            "outer": outer,
            "count": count,
            "inner": inner,
            "zero_sum": -count * x.grid.zero_point,
            **scaling(requant, sum_reach(x.grid, divisor), y.grid).immediates(),
        },
    )


def _footprints(layer: Layer) -> tuple[Footprint | None, ...]:
    """One event per output element; the columns of an outer block are read in turn."""
    op = layer.node.op
    assert isinstance(op, Mean)
    _, count, inner = _view(op, layer.inputs[0].shape)
    element = np.arange(layer.output.size, dtype=np.int64)
    block, column = element // inner, element % inner
    first = block * count * inner + column
    return (
        Footprint(first, first + (count - 1) * inner + 1, element, element + 1, reads_first=True),
    )


KERNELS = (
    Kernel(
        name="mean.portable",
        template="ops/mean.c.j2",
        serves=lambda layer: True,
        instance=_instance,
        cycles=lambda layer: 6.0 * layer.inputs[0].size,
        footprints=_footprints,
    ),
)
