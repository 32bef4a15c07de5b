"""Transpose: reorder the axes. Layout is settled at compile time; few of these reach a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.ir import Array, Tensor
from codegen.kernel import Instance, Kernel, Layer
from codegen.loops import loops, strides
from codegen.ops.reshape import reshape


@dataclass(frozen=True, slots=True)
class Transpose:
    """Axis i of the result is axis perm[i] of the operand; axis 0 stays."""

    kind: ClassVar[str] = "transpose"
    perm: tuple[int, ...]

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The operand's sizes, reordered."""
        (shape,) = shapes
        if sorted(self.perm) != list(range(len(shape))):
            raise ValueError(f"{list(self.perm)} is no order of {len(shape)} axes")
        return tuple(shape[axis] for axis in self.perm)

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The operand with its axes reordered."""
        return np.ascontiguousarray(inputs[0].transpose(self.perm))


def permuted(tensor: Tensor, perm: tuple[int, ...]) -> Tensor:
    """A constant with its axes, and the axis of its grid, reordered."""
    if tensor.data is None:
        raise ValueError(f"{tensor.name} is no constant")
    data = np.ascontiguousarray(tensor.data.transpose(perm))
    quant = tensor.quant
    if quant is not None and quant.axis is not None:
        quant = replace(quant, axis=perm.index(quant.axis))
    return replace(tensor, shape=data.shape, data=data, quant=quant)


def transpose(b: Builder, name: str, perm: tuple[int, ...], sources: tuple[str, ...]) -> str:
    """The tensor with its axes reordered; a Reshape does where only unit axes move."""
    shape = b.shape(name)
    if sorted(perm) != list(range(len(shape))):
        Transpose(perm).infer((shape,))
    if b.is_constant(name):
        moved = permuted(b.tensors[name], perm)
        return b.constant(_data(moved), name, moved.quant)
    if moves_only_units(shape, perm):
        return reshape(b, name, tuple(shape[axis] for axis in perm), sources)
    return b.emit(Transpose(_batch_first(shape, perm)), (name,), sources)


def moves_only_units(shape: tuple[int, ...], perm: tuple[int, ...]) -> bool:
    """Whether a transposition leaves the order of the elements in memory unchanged."""
    longer = [axis for axis in perm if shape[axis] != 1]
    return longer == sorted(longer)


def _batch_first(shape: tuple[int, ...], perm: tuple[int, ...]) -> tuple[int, ...]:
    # A unit axis in front is as good as the batch: exchange the two, so that the batch stays.
    if perm[0] == 0 or shape[perm[0]] != 1 or shape[0] != 1:
        return perm
    exchange = {0: perm[0], perm[0]: 0}
    return tuple(exchange.get(axis, axis) for axis in perm)


def _data(tensor: Tensor) -> Array:
    assert tensor.data is not None
    return tensor.data


def _transpose(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    perm = node.integers("perm") or tuple(reversed(range(b.rank(x))))
    if sorted(perm) != list(range(b.rank(x))):
        raise node.unsupported(f"perm {list(perm)} is no order of {b.rank(x)} axes")
    b.write(node, transpose(b, x, perm, node.sources))


def channels_last(b: Builder, name: str, sources: tuple[str, ...]) -> str:
    """A tensor with axis 1 moved to the end."""
    rank = b.rank(name)
    return transpose(b, name, (0, *range(2, rank), 1), sources)


def channels_first(b: Builder, name: str, sources: tuple[str, ...]) -> str:
    """A tensor with its last axis moved to place 1."""
    rank = b.rank(name)
    return transpose(b, name, (0, rank - 1, *range(1, rank - 1)), sources)


OP = Transpose
ONNX: Mapping[str, Converter] = {"Transpose": _transpose}


# Integers: the reference, and the kernels that reproduce it.


def reference(
    op: Transpose, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """Stored values in the new order of axes."""
    return np.ascontiguousarray(op.evaluate(values))


def _instance(layer: Layer) -> Instance:
    op = layer.node.op
    assert isinstance(op, Transpose)
    steps = strides(layer.inputs[0].shape)
    walked = [steps[axis] for axis in op.perm]
    label = "x".join(map(str, layer.output.shape[1:]))
    return Instance(label, {"loops": loops(layer.output.shape, {"x": walked})})


KERNELS = (
    Kernel(
        name="transpose.portable",
        template="ops/transpose.c.j2",
        serves=lambda layer: True,
        instance=_instance,
        cycles=lambda layer: 8.0 * layer.output.size,
        footprints=lambda layer: (None,),
    ),
)
