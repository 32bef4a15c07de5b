"""Concatenation along one axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.ir import Array, Tensor
from codegen.kernel import Instance, Kernel, Layer


@dataclass(frozen=True, slots=True)
class Concat:
    """The operands one behind the other along `axis`, never the batch."""

    kind: ClassVar[str] = "concat"
    axis: int

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The first operand's shape with the sizes along `axis` added up."""
        axis, first = self.axis, shapes[0]
        frames = {(shape[:axis], shape[axis + 1 :]) for shape in shapes}
        if not 1 <= axis < len(first) or len(frames) != 1:
            raise ValueError(f"shapes {[list(s) for s in shapes]} do not join along axis {axis}")
        return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The joined array; a constant joins every sample."""
        samples = max(array.shape[0] for array in inputs)
        parts = [np.broadcast_to(a, (samples, *a.shape[1:])) for a in as_floats(inputs)]
        return np.concatenate(parts, axis=self.axis)


def _concat(node: OnnxNode, b: Builder) -> None:
    names = tuple(b.read(node, index) for index in range(len(node.inputs)))
    axis = node.integer("axis", 1)
    axis += b.rank(names[0]) if axis < 0 else 0
    if len(names) == 1:
        b.write(node, names[0])
        return
    b.write(node, b.emit(Concat(axis), names, node.sources))


OP = Concat
ONNX: Mapping[str, Converter] = {"Concat": _concat}


# Integers: the reference, and the kernels that reproduce it.


def reference(
    op: Concat, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """Joined as they are: inputs and output share a grid."""
    return np.concatenate(values, axis=op.axis)


def _instance(layer: Layer) -> Instance:
    op = layer.node.op
    assert isinstance(op, Concat)
    outer = prod(layer.output.shape[: op.axis])
    chunks = [
        {"name": f"x{i}" if len(layer.inputs) > 1 else "x", "size": tensor.size // outer}
        for i, tensor in enumerate(layer.inputs)
    ]
    label = "x".join(map(str, layer.output.shape[1:]))
    return Instance(label, {"outer": outer, "chunks": chunks})


KERNELS = (
    Kernel(
        name="concat.portable",
        template="ops/concat.c.j2",
        serves=lambda layer: True,
        instance=_instance,
        cycles=lambda layer: 6.0 * layer.output.size,
        footprints=lambda layer: (None,) * len(layer.activations),
    ),
)
