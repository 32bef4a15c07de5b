"""Fake quantization: values rounded to integer grids in the forward pass, gradients straight through.

Rounding and clipping are those of codegen.quant: halves to even, weights symmetric, one scale per channel.
A scale learns by LSQ (Esser et al., ICLR 2020): inside the range its gradient is round(x/s) - x/s, outside
the end of the range, times 1 / sqrt(values per scale * largest integer).
"""

from __future__ import annotations

from math import sqrt
from typing import Any, TypeAlias

import torch

Tensor: TypeAlias = Any

TERNARY_CUT = 0.7  # of a row's mean magnitude: what lies below becomes 0 (Li et al., 2016)
LEVEL_LIMIT = 127  # of the int8 levels that two ternary scales are stored as
SIGN_REACH = 2.0  # times the mean magnitude: how far from 0 a sign lets gradients pass
LEAST_SCALE = 1e-8


def rounded(x: Tensor) -> Tensor:
    """The nearest integers, halves to even; the gradient of the identity."""
    return x + (torch.round(x) - x).detach()


def slowed(x: Tensor, factor: float) -> Tensor:
    """The same value, its gradient times a factor."""
    return x * factor + (x - x * factor).detach()


def positive(scale: Tensor) -> Tensor:
    """A learned scale as it is used."""
    return torch.clamp(scale, min=LEAST_SCALE)


def uniform(x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    """x on the grid scale * (low .. high), by LSQ.

    Args:
        x: any shape.
        scale: positive; one number, or one per index of axis 0 as (N, 1, ...).
        low: the least integer.
        high: the largest.
    """
    per_scale = x.numel() / scale.numel()
    s = slowed(scale, 1 / sqrt(per_scale * max(high, -low)))
    return rounded(torch.clamp(x / s, low, high)) * s


class _SharedScale(torch.autograd.Function):  # type: ignore[misc]
    """`uniform` for one scale: a pass or two over the tensor each way, where its formula takes a dozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
        step = float(scale)
        y = torch.div(x, step).clamp_(low, high).round_().mul_(step)
        ctx.save_for_backward(x, y)
        ctx.step, ctx.low, ctx.high = step, low, high
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, y = ctx.saved_tensors
        gradient = gradient.contiguous()
        step, low, high = ctx.step, ctx.low, ctx.high
        inside = torch.ops.aten.hardtanh_backward(gradient, x, low * step, high * step)
        # Sum over gradient * (inside: round(x/s) - x/s, outside: the end), both terms divided by s at last.
        total = torch.dot(gradient.reshape(-1), y.reshape(-1))
        total = total - torch.dot(inside.reshape(-1), x.reshape(-1))
        return inside, total / (step * sqrt(x.numel() * max(high, -low))), None, None


def shared(x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    """What `uniform` gives for one scale, in a fraction of the time.

    Args:
        x: any shape.
        scale: one positive number, without axes.
        low: the least integer; at most 0.
        high: the largest; at least 0.
    """
    return _SharedScale.apply(x.contiguous(), scale, low, high)


def two_scales(w: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """{-down, 0, up} per channel: trained ternary quantization (Zhu et al., ICLR 2017).

    Each side's scale gets the summed gradient of its weights; a latent weight's gradient is multiplied by its
    side's scale. Both scales lie on the 127 steps of the larger one, as flash will hold them.
    """
    cut = TERNARY_CUT * w.detach().abs().flatten(1).mean(1).reshape(up.shape)
    above, below = (w > cut).to(w.dtype), (w < -cut).to(w.dtype)
    step = (torch.maximum(up, down) / LEVEL_LIMIT).detach()
    high, low = rounded(up / step) * step, rounded(down / step) * step
    latent = w * (above * up + below * down + (1 - above - below)).detach()
    return high * above - low * below + (latent - latent.detach())


def signs(x: Tensor) -> Tensor:
    """-1 or 1, which is that of 0; the gradient is that of a ramp as wide as usual values are."""
    reach = SIGN_REACH * x.detach().abs().mean() + LEAST_SCALE
    ramp = torch.clamp(x / reach, -1, 1)
    return ramp + (torch.where(x >= 0, 1.0, -1.0) - ramp).detach()


def binary(w: Tensor, scale: Tensor, noise: Tensor | None) -> Tensor:
    """{-1, 1} times a scale per channel; gradients pass where |w| <= scale (Courbariaux et al., 2015).

    Args:
        w: latent weights; 0 counts as positive.
        scale: learned, (N, 1, ...).
        noise: None for the sign; uniform numbers in [0, 1) for +1 with probability clip((w/scale + 1) / 2).
    """
    limited = torch.clamp(w / scale.detach(), -1, 1)
    shifted = limited if noise is None else limited + 1 - 2 * noise
    signs = torch.where(shifted >= 0, 1.0, -1.0)
    straight = limited + (signs - limited).detach()
    s = slowed(scale, 1 / sqrt(w.numel() / scale.numel()))
    return straight * s
