"""Operands of elementwise operators brought into one form.

The graph wants activations of equal rank, constants of that rank too, and a constant in second
place; ONNX broadcasts freely.
"""

from __future__ import annotations

import numpy as np

from codegen.build import Builder, OnnxNode
from codegen.ops.reshape import reshape


def broadcast_shape(shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """The common shape of operands; ValueError when there is none."""
    return tuple(int(size) for size in np.broadcast_shapes(*shapes))


def same_rank(node: OnnxNode, b: Builder, names: tuple[str, ...]) -> tuple[str, ...]:
    """The operands with unit axes put in front where ranks differ."""
    rank = max(b.rank(name) for name in names)
    return tuple(
        reshape(b, name, (1,) * (rank - b.rank(name)) + b.shape(name), node.sources)
        for name in names
    )
