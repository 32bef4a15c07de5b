"""A regular part of a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.ir import Array, Tensor
from codegen.kernel import Footprint, Instance, Kernel, Layer
from codegen.loops import loops, strides


@dataclass(frozen=True, slots=True)
class Slice:
    """For every axis: the first index, how many elements, and the step between them (from 1 on)."""

    kind: ClassVar[str] = "slice"
    begins: tuple[int, ...]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The sizes."""
        (shape,) = shapes
        parts = zip(shape, self.begins, self.sizes, self.steps, strict=True)
        if any(b < 0 or n < 1 or s < 1 or b + (n - 1) * s >= size for size, b, n, s in parts):
            raise ValueError(f"{self} leaves {list(shape)} or is empty")
        return self.sizes

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The part, of every sample."""
        parts = zip(self.begins[1:], self.sizes[1:], self.steps[1:], strict=True)
        index = tuple(slice(b, b + (n - 1) * s + 1, s) for b, n, s in parts)
        return np.ascontiguousarray(inputs[0][(slice(None), *index)])


def wanted_spans(node: OnnxNode, b: Builder, shape: tuple[int, ...]) -> list[range]:
    """The indices that a Slice asks for, along every axis of a shape; steps may be negative."""
    starts, ends = b.integers(node, "starts", 1), b.integers(node, "ends", 2)
    if starts is None or ends is None:
        raise node.unsupported("starts and ends are missing")
    axes = b.integers(node, "axes", 3) or tuple(range(len(starts)))
    steps = b.integers(node, "steps", 4) or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise node.unsupported("starts, ends, axes and steps do not suit each other")
    spans = [range(size) for size in shape]
    if not all(-len(spans) <= axis < len(spans) for axis in axes):
        raise node.unsupported(f"{len(starts)} starts for axes {list(axes)} of {len(spans)}")
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        spans[axis] = spans[axis][slice(start, end, step)]
    return spans


def _slice(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    spans = wanted_spans(node, b, b.shape(x))
    if min(span.step for span in spans) < 1:
        raise node.unsupported("steps below 1 are not supported")
    op = Slice(
        tuple(span.start for span in spans),
        tuple(len(span) for span in spans),
        tuple(span.step for span in spans),
    )
    b.write(node, b.emit(op, (x,), node.sources))


def _split(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    shape = b.shape(x)
    axis = node.integer("axis", 0) % len(shape)
    whole, parts = shape[axis], len(node.outputs)
    sizes = b.integers(node, "split", 1)
    if sizes is None:
        each = -(-whole // parts)
        sizes = (*(each,) * (parts - 1), whole - each * (parts - 1))
    if len(sizes) != parts or sum(sizes) != whole:
        raise node.unsupported(f"parts of {list(sizes)} do not make {whole}")
    begin = 0
    for output, size in zip(node.outputs, sizes, strict=True):
        begins = tuple(begin if i == axis else 0 for i in range(len(shape)))
        extents = tuple(size if i == axis else s for i, s in enumerate(shape))
        op = Slice(begins, extents, (1,) * len(shape))
        if output:
            b.set(output, b.emit(op, (x,), node.sources))
        begin += size


OP = Slice
ONNX: Mapping[str, Converter] = {"Slice": _slice, "Split": _split}


# Integers: the reference, and the kernels that reproduce it.


def reference(
    op: Slice, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """Part of the stored values."""
    return op.evaluate(values)


def _instance(layer: Layer) -> Instance:
    op = layer.node.op
    assert isinstance(op, Slice)
    steps = strides(layer.inputs[0].shape)
    walked = [step * every for step, every in zip(steps, op.steps, strict=True)]
    return Instance(
        label="x".join(map(str, layer.output.shape[1:])),
        params={
            "loops": loops(layer.output.shape, {"x": walked}),
            "offset": sum(begin * step for begin, step in zip(op.begins, steps, strict=True)),
        },
    )


def _footprints(layer: Layer) -> tuple[Footprint | None, ...]:
    """Element p of the output is written right after its source was read; sources ascend."""
    op = layer.node.op
    assert isinstance(op, Slice)
    numbers = np.arange(layer.inputs[0].size, dtype=np.float64).reshape(layer.inputs[0].shape)
    source = op.evaluate((numbers,)).ravel().astype(np.int64)
    element = np.arange(layer.output.size, dtype=np.int64)
    return (Footprint(source, source + 1, element, element + 1, reads_first=True),)


KERNELS = (
    Kernel(
        name="slice.portable",
        template="ops/slice.c.j2",
        serves=lambda layer: True,
        instance=_instance,
        cycles=lambda layer: 7.0 * layer.output.size,
        footprints=_footprints,
    ),
)
