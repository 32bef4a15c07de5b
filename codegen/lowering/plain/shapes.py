"""Reshaping of plain tensors, and what other converters need of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from codegen.build import Builder, Converter, OnnxNode
from codegen.forms import Reshape
from codegen.ops.reshape import wanted_shape


def reshape(b: Builder, name: str, shape: tuple[int, ...], sources: tuple[str, ...] = ()) -> str:
    """A plain tensor under another shape, its axis for samples not counted."""
    whole = (1, *shape)
    if b.shape(name) == whole:
        return name
    value = b.tensors[name].data
    if value is not None:
        return b.plain_constant(value.reshape(shape), name, b.dtype(name))
    made = b.emit(Reshape(whole), (name,), sources, f"{name}.shaped")
    b.led.add(made)
    return made


def same_rank(b: Builder, names: Sequence[str]) -> list[str]:
    """Plain tensors with axes of size 1 in front, so that all have equally many: as ONNX broadcasts."""
    rank = max(len(b.plain_shape(name)) for name in names)
    return [
        reshape(b, name, (1,) * (rank - len(b.plain_shape(name))) + b.plain_shape(name))
        for name in names
    ]


def axis_of(node: OnnxNode, axis: int, rank: int) -> int:
    """An axis of an ONNX tensor, counted from the front."""
    if not -rank <= axis < rank:
        raise node.unsupported(f"axis {axis} of {rank} axes")
    return axis % rank


def _reshape(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    _write(node, b, x, wanted_shape(node, b, b.plain_shape(x)))


def _write(node: OnnxNode, b: Builder, x: str, shape: tuple[int, ...]) -> None:
    old = b.plain_shape(x)
    if prod(shape) != prod(old) or min(shape, default=1) < 1:
        raise node.unsupported(f"shape {list(old)} cannot become {list(shape)}")
    b.write(node, reshape(b, x, shape, node.sources))


def _flatten(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    shape, axis = b.plain_shape(x), node.integer("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise node.unsupported(f"axis {axis} of {len(shape)} axes")
    axis += len(shape) if axis < 0 else 0
    _write(node, b, x, (prod(shape[:axis]), prod(shape[axis:])))


def _squeeze(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    shape, axes = b.plain_shape(x), b.integers(node, "axes", 1)
    if axes is None:
        axes = tuple(axis for axis, size in enumerate(shape) if size == 1)
    dropped = {axis_of(node, axis, len(shape)) for axis in axes}
    _write(node, b, x, tuple(s for axis, s in enumerate(shape) if axis not in dropped))


def _unsqueeze(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    axes = b.integers(node, "axes", 1) or ()
    rank = len(b.plain_shape(x)) + len(axes)
    added = {axis_of(node, axis, rank) for axis in axes}
    if len(added) != len(axes):
        raise node.unsupported(f"axes {list(axes)} name one twice")
    sizes = iter(b.plain_shape(x))
    _write(node, b, x, tuple(1 if axis in added else next(sizes) for axis in range(rank)))


def _identity(node: OnnxNode, b: Builder) -> None:
    b.write(node, b.plain(node, 0))


ONNX: Mapping[str, Converter] = {
    "Flatten": _flatten,
    "Identity": _identity,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}
