"""AdaRound: which way every weight is rounded, found by descent on the outputs' error.

Nagel et al., "Up or down?", ICML 2020: weights are floor(w / s) + h(V), h a stretched sigmoid in 0..1;
a penalty that sharpens with time pushes h to an end. The error is that of the layer's linear outputs, whose
gradient H = Σ x xᵀ gives exactly, so neither samples nor automatic differentiation are needed.
"""

from __future__ import annotations

import numpy as np

from codegen.quant.floats import Floats, on_grid, output_error

STEPS = 1000
RATE = 0.02  # of Adam
WARM = 0.2  # share of the steps without penalty
PENALTY = 0.05  # of a weight, in squared steps
SHARPEST, SOFTEST = 2.0, 20.0  # exponent of the penalty, last and first
LOW, HIGH = -0.1, 1.1  # ends of the stretched sigmoid
DECAYS = (0.9, 0.999)  # of Adam's means


def adaround(w: Floats, scales: Floats, limit: int, h: Floats, seed: int) -> Floats:
    """Integers (G, N, K) within -limit..limit; each row no worse than rounded to nearest.

    Args:
        w: (G, N, K).
        scales: (G, N, 1).
        limit: largest magnitude.
        h: (G, K, K).
        seed: not used.
    """
    steps = w / scales
    below = np.floor(steps)
    mean = np.einsum("gkk->gk", h).mean(axis=1)[:, None, None]
    weight = h / np.where(mean > 0, mean, 1.0)
    # So that h(v) is the fraction: training begins at the real weights.
    share = (steps - below - LOW) / (HIGH - LOW)
    v = np.log(share / (1 - share))
    first, second = np.zeros_like(v), np.zeros_like(v)
    for step in range(STEPS):
        gradient = _gradient(v, below, steps, limit, weight, step / STEPS)
        first = DECAYS[0] * first + (1 - DECAYS[0]) * gradient
        second = DECAYS[1] * second + (1 - DECAYS[1]) * gradient**2
        size = np.sqrt(second / (1 - DECAYS[1] ** (step + 1))) + 1e-8
        v -= RATE * first / (1 - DECAYS[0] ** (step + 1)) / size
    found = np.clip(below + (v >= 0), -limit, limit)
    plain = on_grid(w, scales, limit)
    better = output_error(w, found, scales, h) < output_error(w, plain, scales, h)
    return np.where(better[:, :, None], found, plain)


def _gradient(
    v: Floats, below: Floats, steps: Floats, limit: int, weight: Floats, time: float
) -> Floats:
    """Of the error and the penalty, at a share of all steps."""
    sigmoid = 1 / (1 + np.exp(-v))
    soft = np.clip(LOW + (HIGH - LOW) * sigmoid, 0, 1)
    stored = below + soft
    error = np.clip(stored, -limit, limit) - steps
    free = (soft > 0) & (soft < 1) & (np.abs(stored) < limit)
    slope: Floats = 2 * error @ weight
    if time > WARM:
        exponent = SOFTEST + (SHARPEST - SOFTEST) * (time - WARM) / (1 - WARM)
        away = 2 * soft - 1
        slope = slope - PENALTY * 2 * exponent * np.sign(away) * np.abs(away) ** (exponent - 1)
    found: Floats = slope * (HIGH - LOW) * sigmoid * (1 - sigmoid) * free
    return found
