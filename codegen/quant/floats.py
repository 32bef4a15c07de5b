"""Rows of weights on grids, and the error that they leave in a layer's outputs.

Shapes are those of codegen.quant.rounding: weights (G, N, K), scales (G, N, 1), H (G, K, K).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def on_grid(w: Floats, scales: Floats, limit: int) -> Floats:
    """The nearest integers within -limit..limit, halves to even. `scales`: (G, N, 1)."""
    return np.clip(np.rint(w / scales), -limit, limit)


def output_error(w: Floats, rounded: Floats, scales: Floats, h: Floats) -> Floats:
    """Summed squared error of every output channel, (G, N): e H eᵀ for each row e."""
    error = w - rounded * scales
    found: Floats = np.einsum("gnk,gnk->gn", error @ h, error)
    return found
