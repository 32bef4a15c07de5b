"""Pad in all its modes."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Literal

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.copies import bordered, padded
from codegen.limits import MAX_ACTIVATION
from codegen.lowering.plain.copies import move, part
from codegen.lowering.plain.indices import pick
from codegen.lowering.plain.shapes import axis_of

Mirror = Literal["edge", "reflect", "wrap"]
MIRRORS: Mapping[str, Mirror] = {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}


def _pad(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    pads = _pads(node, b, len(b.plain_shape(x)))
    mode = node.text("mode", "constant")
    if mode == "constant":
        b.write(node, _framed(node, b, x, pads))
    elif mode in MIRRORS:
        b.write(node, _mirrored(node, b, x, pads[1:], MIRRORS[mode]))
    else:
        raise node.unsupported(f"mode {mode} is not supported")


def _framed(node: OnnxNode, b: Builder, x: str, pads: list[tuple[int, int]]) -> str:
    """With a border of one number, known or not."""
    shape = b.shape(x)
    if node.has(2) and not b.is_constant(b.get(node.inputs[2])):
        value = b.plain(node, 2)
        if b.tensors[value].size != 1:
            raise node.unsupported("the constant of the border is no single number")
        return move(b, (x, value), lambda: bordered(shape, pads), node.sources)
    fill = b.static(node, 2)
    number = node.real("value", 0.0) if fill is None or not fill.size else fill.reshape(-1)[0]
    if np.isnan(float(number)):
        raise node.unsupported("the constant of the border is no number")
    border = float(number) if b.dtype(x) == "float32" else int(number)
    return move(b, (x,), lambda: padded(shape, pads, border), node.sources)


def _mirrored(node: OnnxNode, b: Builder, x: str, pads: list[tuple[int, int]], mode: Mirror) -> str:
    """With a border of the operand's own elements, axis by axis; negative pads cut first."""
    spans = [
        range(max(-before, 0), size - max(-behind, 0))
        for size, (before, behind) in zip(b.plain_shape(x), pads, strict=True)
    ]
    sizes = (size + sum(pair) for size, pair in zip(b.plain_shape(x), pads, strict=True))
    if prod(sizes) > MAX_ACTIVATION:
        raise node.unsupported("the result is too large")
    x = part(b, x, spans, node.sources)
    for axis, (before, behind) in enumerate(pads):
        width = (max(before, 0), max(behind, 0))
        if any(width):
            numbers = np.pad(np.arange(b.plain_shape(x)[axis]), width, mode)
            x = pick(b, x, axis, numbers, node.sources)
    return x


def _pads(node: OnnxNode, b: Builder, rank: int) -> list[tuple[int, int]]:
    """(before, behind) for every axis, that for samples included."""
    flat = b.integers(node, "paddings" if "paddings" in node.attributes else "pads", 1) or ()
    axes = b.integers(node, "axes", 3) or tuple(range(rank))
    if len(flat) != 2 * len(axes) or max(map(abs, flat), default=0) > MAX_ACTIVATION:
        raise node.unsupported(f"pads {list(flat)} do not suit {rank} axes")
    pads = [(0, 0)] * (rank + 1)
    for axis, before, behind in zip(axes, flat, flat[len(axes) :], strict=False):
        pads[axis_of(node, axis, rank) + 1] = (before, behind)
    return pads


ONNX: Mapping[str, Converter] = {"Pad": _pad}
