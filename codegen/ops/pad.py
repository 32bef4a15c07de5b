"""A border of one value around a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.ir import Array, Tensor
from codegen.kernel import Instance, Kernel, Layer
from codegen.loops import loops, strides


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
    op = Pad(tuple(pads), b.meaning(node, x, value))
    b.write(node, b.emit(op, (x,), node.sources))


OP = Pad
ONNX: Mapping[str, Converter] = {"Pad": _pad}


# Integers: the reference, and the kernels that reproduce it.


def _stored_value(op: Pad, out: Tensor) -> int:
    return int(np.clip(np.rint(op.value / out.grid.scale) + out.grid.zero_point, -128, 127))


def reference(op: Pad, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor) -> Array:
    """A border of the value on the shared grid."""
    return np.pad(values[0], op.pads, constant_values=_stored_value(op, out))


def _instance(layer: Layer) -> Instance:
    op = layer.node.op
    assert isinstance(op, Pad)
    steps = strides(layer.output.shape)
    return Instance(
        label="x".join(map(str, layer.output.shape[1:])),
        params={
            "size": layer.output.size,
            "value": _stored_value(op, layer.output),
            "loops": loops(layer.inputs[0].shape, {"y": steps}),
            "offset": sum(before * step for (before, _), step in zip(op.pads, steps, strict=True)),
        },
    )


KERNELS = (
    Kernel(
        name="pad.portable",
        template="ops/pad.c.j2",
        serves=lambda layer: True,
        instance=_instance,
        cycles=lambda layer: 12.0 * layer.output.size,
        footprints=lambda layer: (None,),
    ),
)
