"""Images varied while training: moved and mirrored, all of a batch alike in size."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch.nn import functional

from targets.errors import UsageError

Tensor: TypeAlias = Any


def augmented(
    inputs: tuple[Tensor, ...], shift: int, flip: bool, random: torch.Generator
) -> tuple[Tensor, ...]:
    """Images (samples, H, W, C) moved by at most `shift` pixels each way, half of them mirrored if asked.

    What enters at a border is zero. Each image draws its own numbers.

    Raises:
        UsageError: the inputs are not one image.
    """
    if len(inputs) != 1 or inputs[0].ndim != 4:
        raise UsageError("--shift and --flip are for models with one image as input")
    (x,) = inputs
    count, height, width, _ = x.shape
    if flip:
        mirrored = torch.rand(count, generator=random) < 0.5
        x = torch.where(mirrored[:, None, None, None], x.flip(2), x)
    if shift:
        padded = functional.pad(x, (0, 0, shift, shift, shift, shift))
        down, across = torch.randint(0, 2 * shift + 1, (2, count), generator=random)
        rows = (down[:, None] + torch.arange(height))[:, :, None]
        columns = (across[:, None] + torch.arange(width))[:, None, :]
        x = padded[torch.arange(count)[:, None, None], rows, columns]
    return (x,)
