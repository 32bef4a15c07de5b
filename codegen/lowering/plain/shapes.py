"""Reshaping of plain tensors, and what other converters need of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codegen.build import Builder, Converter, OnnxNode
from codegen.moves import Reshape


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


def _reshape(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    wanted = b.integers(node, "shape", 1)
    if wanted is None:
        raise node.unsupported("the new shape is missing")
    old, shape = b.plain_shape(x), list(wanted)
    if not node.integer("allowzero", 0):
        shape = [old[axis] if size == 0 else size for axis, size in enumerate(shape)]
    if shape.count(-1) == 1:
        known = 1
        for size in shape:
            known *= size if size != -1 else 1
        total = 1
        for size in old:
            total *= size
        shape[shape.index(-1)] = total // known if known else 0
    b.write(node, reshape(b, x, tuple(shape), node.sources))


ONNX: Mapping[str, Converter] = {"Reshape": _reshape}
