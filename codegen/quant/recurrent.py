"""Constants of recurrent layers as integers: weights per row in int8, biases with 20 fractional bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codegen import gates
from codegen.ir import Node, Quant, Tensor, per_tensor

LIMIT = 127
BIAS_GRID = per_tensor(2.0**-gates.BIAS_FRACTION, 0, 32)


def quantized(node: Node, constants: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Weights beside inputs and beside hidden values, and biases, under names of their own.

    Args:
        node: a `Gated` layer.
        constants: its operands w, r, b; weights with a grid of their own keep it.
    """
    w, r, b = constants
    name = node.output
    bias = gates.bias_integers(b.values.astype(np.float64))
    return (
        replace(_weights(w), name=f"{name}.weights"),
        replace(_weights(r), name=f"{name}.recurrent"),
        Tensor(f"{name}.bias", b.shape, BIAS_GRID, bias),
    )


def _weights(tensor: Tensor) -> Tensor:
    """Symmetric int8 with a scale per row."""
    values = tensor.values.astype(np.float64)
    scales = np.abs(values).max(axis=1) / LIMIT
    scales[scales == 0] = 1.0
    stored = np.clip(np.rint(values / scales[:, None]), -LIMIT, LIMIT).astype(np.int8)
    grid = Quant(tuple(scales.tolist()), (0,) * len(scales), 0)
    return Tensor(tensor.name, tensor.shape, grid, stored)
