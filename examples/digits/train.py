"""Train the digits example: a small CNN with a depthwise separable block on 8x8 images."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples import training

FOLDER = Path(__file__).resolve().parent
SEED = 1
TRAIN = 1200
CALIBRATION = 200
SCALE = 1 / 16  # the images hold 0..16, the model takes 0..1

Images = npt.NDArray[np.uint8]


def load_split() -> tuple[Images, training.Labels, Images, training.Labels]:
    """Return the images (N, 1, 8, 8) and labels for training, then those for the test."""
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    x = digits.images.astype(np.uint8)[order, None]
    y = digits.target.astype(np.uint8)[order]
    return x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:]


def build() -> nn.Sequential:
    """Build the network."""
    return training.named(
        stem=training.conv_bn_relu(nn.Conv2d(1, 16, 3, padding=1, bias=False)),
        depthwise=training.conv_bn_relu(nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)),
        pointwise=training.conv_bn_relu(nn.Conv2d(16, 32, 1, bias=False)),
        pool=nn.MaxPool2d(2),
        mix=training.conv_bn_relu(nn.Conv2d(32, 16, 3, padding=1, bias=False)),
        shrink=nn.AvgPool2d(2),
        flatten=nn.Flatten(),
        head=nn.Linear(64, 10),
    )


def shift(x: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Move the images of a batch together by at most one pixel each way."""
    down, right = torch.randint(0, 3, (2,), generator=random).tolist()
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    return padded[:, :, down : down + 8, right : right + 8]


def to_real(x: Images) -> training.Floats:
    """Turn stored images into model inputs."""
    return x.astype(np.float32) * np.float32(SCALE)


def main() -> None:
    """Train, export and save."""
    training.make_deterministic(SEED)
    train_x, train_y, test_x, test_y = load_split()
    model = build()
    schedule = training.Schedule(epochs=80, batch=50, rate=5e-3, seed=SEED)
    training.fit(model, to_real(train_x), train_y, schedule, shift)
    path = FOLDER / "digits.onnx"
    training.export_onnx(model, (1, 8, 8), path)
    np.savez_compressed(
        FOLDER / "digits.npz",
        x=test_x,
        x_scale=np.float32(SCALE),
        x_zero_point=np.int32(0),
        y=test_y,
        calib_x=train_x[:CALIBRATION],
        metric=np.array("top1"),
    )
    print(training.summary(model, path, to_real(test_x), test_y))


if __name__ == "__main__":
    main()
