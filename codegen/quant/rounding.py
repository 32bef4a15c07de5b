"""Rounding of weights: which of the neighbouring grid points every weight takes.

Weights are seen as matrices (G, N, K): G groups of N output channels with K inputs each (G = 1 unless the
convolution is grouped, G = channels and N = 1 when it is depthwise). A layer's inputs enter through
H = Σ x xᵀ, (G, K, K): the summed squared error of the outputs is trace(E H Eᵀ), E the rounding error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from codegen.quant.adaround import adaround
from codegen.quant.floats import Floats, on_grid, output_error

__all__ = ["ROUNDINGS", "Floats", "gptq", "nearest", "on_grid", "output_error", "stochastic"]
DAMPING = 0.01  # of H's mean diagonal
BLOCK = 64  # columns whose errors are spread over the rest at once


def nearest(w: Floats, scales: Floats, limit: int, h: Floats, seed: int) -> Floats:
    """Every weight to its nearest grid point."""
    return on_grid(w, scales, limit)


def stochastic(w: Floats, scales: Floats, limit: int, h: Floats, seed: int) -> Floats:
    """Up with the probability of the fraction: floor(w / s + u), u uniform in [0, 1).

    Gupta et al., ICML 2015. Meant for training: as a rounding of finished weights it only adds noise.
    """
    noise = np.random.default_rng(seed).random(w.shape)
    return np.clip(np.floor(w / scales + noise), -limit, limit)


def gptq(w: Floats, scales: Floats, limit: int, h: Floats, seed: int) -> Floats:
    """Second-order rounding: column by column, the rest makes up for the error of each.

    Frantar et al., "GPTQ", ICLR 2023, algorithm 1, with columns in the order of falling H_jj ("act
    order"). Columns whose input is always 0 (H_jj = 0) have nothing to make up for: they are rounded to
    nearest, and their diagonal is set to 1 so that H stays invertible.
    """
    diagonal = np.einsum("gkk->gk", h)
    dead = diagonal <= 0
    order = np.argsort(-diagonal, axis=1, kind="stable")
    h = h + np.eye(h.shape[-1]) * np.where(dead, 1.0, 0.0)[:, None, :]
    mean = np.maximum(diagonal.mean(axis=1), np.finfo(np.float64).tiny)
    h = h + np.eye(h.shape[-1]) * (DAMPING * mean)[:, None, None]
    h = np.take_along_axis(h, order[:, :, None], axis=1)
    h = np.take_along_axis(h, order[:, None, :], axis=2)
    rest = np.take_along_axis(w, order[:, None, :], axis=2)
    spread = np.swapaxes(np.linalg.cholesky(np.linalg.inv(h)), 1, 2)  # upper: H⁻¹ = Uᵀ U
    rounded = np.empty_like(rest)
    count = rest.shape[2]
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        errors = np.empty((*rest.shape[:2], stop - start))
        for j in range(start, stop):
            rounded[:, :, j] = on_grid(rest[:, :, j], scales[:, :, 0], limit)
            error = rest[:, :, j] - rounded[:, :, j] * scales[:, :, 0]
            errors[:, :, j - start] = error / spread[:, j, j][:, None]
            step = errors[:, :, j - start, None] * spread[:, None, j, j + 1 : stop]
            rest[:, :, j + 1 : stop] -= step
        rest[:, :, stop:] -= errors @ spread[:, start:stop, stop:]
    back = np.argsort(order, axis=1)
    return np.take_along_axis(rounded, back[:, None, :], axis=2)


ROUNDINGS: Mapping[str, Callable[[Floats, Floats, int, Floats, int], Floats]] = {
    "nearest": nearest,
    "stochastic": stochastic,
    "gptq": gptq,
    "adaround": adaround,
}
