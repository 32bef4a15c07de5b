"""Copies of boxes of elements: what transposes, slices, joins, pads and repeats plain tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from codegen.build import Converter
from codegen.copies import Move
from codegen.ir import ITEM_BYTES
from codegen.kernel import Footprint, Instance, Layer
from codegen.loops import loops, strides
from codegen.plain import alias, c_number, ctype, operands, plain_kernel, reference

__all__ = ["KERNELS", "ONNX", "OP", "Move", "reference"]

OP = Move
TRACED = 1 << 20  # elements whose order is worth the host's memory
ONNX: Mapping[str, Converter] = {}


def _instance(layer: Layer) -> Instance:
    op, out = layer.node.op, layer.output
    assert isinstance(op, Move)
    rows, constants = operands(layer)
    places = strides(op.shape)
    parts = [
        {
            "source": rows[part.operand]["parameter"],
            "from": part.start,
            "to": sum(b * step for b, step in zip(part.begin, places, strict=True)),
            "loops": loops(part.extents, {"x": part.steps, "y": places}),
        }
        for part in op.parts
    ]
    return Instance(
        label="x".join(map(str, out.shape[1:])) or "1",
        params={
            "type": alias(out.dtype or "int8"),
            "size": out.size,
            "fill": None if op.is_full else c_number(op.fill, ctype(out)),
            "sources": [row["parameter"] for row in rows],
            "parts": parts,
        },
        constants=constants,
    )


def _footprints(layer: Layer) -> tuple[Footprint | None, ...]:
    """A lone box is written element by element, each right after its source was read."""
    op, out = layer.node.op, layer.output
    assert isinstance(op, Move)
    if not layer.activations:
        return ()
    if len(op.parts) > 1 or not op.is_full or len(layer.inputs) > 1 or out.size > TRACED:
        return (None,) * len(layer.activations)
    (part,) = op.parts
    source = np.full((1,), part.start, np.int64)
    for size, step in zip(part.extents, part.steps, strict=True):
        source = (source[:, None] + np.arange(size, dtype=np.int64) * step).reshape(-1)
    width = ITEM_BYTES[out.dtype or "int8"]
    read, written = source * width, np.arange(out.size, dtype=np.int64) * width
    return (Footprint(read, read + width, written, written + width, reads_first=True),)


_PLAIN = plain_kernel(
    "move", "ops/move.c.j2", _instance, lambda layer: 12.0 * layer.output.size, _footprints
)
KERNELS = (_PLAIN, replace(_PLAIN, name="move.portable", serves=lambda layer: not layer.is_plain))
