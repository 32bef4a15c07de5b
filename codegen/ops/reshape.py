"""Reshape: the same elements in the same order under another shape. Costs nothing on a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from codegen.build import Builder, Converter, OnnxNode
from codegen.forms import Reshape
from codegen.ir import Array, Quant, Tensor
from codegen.kernel import Kernel


def reshaped(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A constant under another shape. ValueError if a grid's axis is torn."""
    if tensor.data is None:
        raise ValueError(f"{tensor.name} is no constant")
    quant = tensor.quant and _moved_axis(tensor.quant, tensor.shape, shape)
    return replace(tensor, shape=shape, data=tensor.data.reshape(shape), quant=quant)


def _moved_axis(quant: Quant, old: tuple[int, ...], new: tuple[int, ...]) -> Quant:
    if quant.axis is None:
        return quant
    before, size = prod(old[: quant.axis]), old[quant.axis]
    for axis, extent in enumerate(new):
        if extent == size and prod(new[:axis]) == before:
            return replace(quant, axis=axis)
    raise ValueError(f"the per-channel grid on axis {quant.axis} does not survive the new shape")


def reshape(b: Builder, name: str, shape: tuple[int, ...], sources: tuple[str, ...]) -> str:
    """The tensor under another shape: itself, a constant, or a new node."""
    if b.shape(name) == shape:
        return name
    if not b.is_constant(name):
        return b.emit(Reshape(shape), (name,), sources)
    moved = reshaped(b.tensors[name], shape)
    assert moved.data is not None
    return b.constant(moved.data, name, moved.quant)


def _reshape(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    _checked(node, b, x, wanted_shape(node, b, b.shape(x)))


def wanted_shape(node: OnnxNode, b: Builder, old: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that a Reshape asks for: sizes copied, and one computed, from the old one."""
    wanted = b.integers(node, "shape", 1)
    if wanted is None:
        raise node.unsupported("the new shape is missing")
    shape = list(wanted)
    if not node.integer("allowzero", 0):
        if any(size == 0 and axis >= len(old) for axis, size in enumerate(shape)):
            raise node.unsupported(f"shape {shape} copies an axis that {list(old)} lacks")
        shape = [old[axis] if size == 0 else size for axis, size in enumerate(shape)]
    if shape.count(-1) == 1:
        known = prod(size for size in shape if size != -1)
        shape[shape.index(-1)] = prod(old) // known if known else 0
    if prod(shape) != prod(old) or min(shape, default=1) < 1:
        raise node.unsupported(f"shape {list(old)} cannot become {list(wanted)}")
    return tuple(shape)


def _flatten(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    shape, axis = b.shape(x), node.integer("axis", 1)
    axis += len(shape) if axis < 0 else 0
    _checked(node, b, x, (prod(shape[:axis]), prod(shape[axis:])))


def _squeeze(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    shape, axes = b.shape(x), b.integers(node, "axes", 1)
    if axes is None:
        axes = tuple(axis for axis, size in enumerate(shape) if size == 1)
    dropped = {axis % len(shape) for axis in axes}
    if any(shape[axis] != 1 for axis in dropped):
        raise node.unsupported(f"axes {list(axes)} of {list(shape)} are not all of size 1")
    _checked(node, b, x, tuple(s for axis, s in enumerate(shape) if axis not in dropped))


def _unsqueeze(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    axes = b.integers(node, "axes", 1) or ()
    rank = b.rank(x) + len(axes)
    added = {axis % rank for axis in axes}
    sizes = iter(b.shape(x))
    _checked(node, b, x, tuple(1 if axis in added else next(sizes) for axis in range(rank)))


def _checked(node: OnnxNode, b: Builder, x: str, shape: tuple[int, ...]) -> None:
    try:
        b.write(node, reshape(b, x, shape, node.sources))
    except ValueError as error:
        raise node.unsupported(str(error)) from error


OP = Reshape
ONNX: Mapping[str, Converter] = {
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}


# Integers: the reference, and the kernels that reproduce it.


def reference(
    op: Reshape, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """The same stored values in the new shape; bits keep their last axis."""
    return values[0].reshape((len(values[0]), *out.stored_shape[1:]))


KERNELS: tuple[Kernel, ...] = ()
