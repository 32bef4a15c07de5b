"""Mean over whole axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.ir import Array
from codegen.ops.reshape import reshape


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean over contiguous axes, never the batch; `keepdims` leaves unit axes behind."""

    kind: ClassVar[str] = "mean"
    axes: tuple[int, ...]
    keepdims: bool = True

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
        return np.asarray(x.mean(axis=self.axes, keepdims=self.keepdims), np.float32)


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
