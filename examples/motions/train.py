"""Train the motions example: a 1-D CNN that tells four activities from a smart watch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from aeon.datasets import load_basic_motions
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples import training

FOLDER = Path(__file__).resolve().parent
SEED = 1
SCALE = 1 / 32  # brings accelerometer and gyroscope readings to about -1..1
CLASSES = ("badminton", "running", "standing", "walking")


def load_split(name: str) -> tuple[training.Floats, training.Labels]:
    """Return the samples (N, 6 channels, 100 readings) and labels of a split of the archive."""
    x, labels = load_basic_motions(split=name)
    y = np.array([CLASSES.index(label) for label in labels], dtype=np.uint8)
    return (x * SCALE).astype(np.float32), y


def build() -> nn.Sequential:
    """Build the network."""
    return training.named(
        first=training.conv_bn_relu(nn.Conv1d(6, 16, 5, padding=2, bias=False)),
        pool1=nn.MaxPool1d(2),
        second=training.conv_bn_relu(nn.Conv1d(16, 32, 5, padding=2, bias=False)),
        pool2=nn.MaxPool1d(2),
        third=training.conv_bn_relu(nn.Conv1d(32, 32, 3, padding=1, bias=False)),
        average=nn.AdaptiveAvgPool1d(1),
        flatten=nn.Flatten(),
        head=nn.Linear(32, len(CLASSES)),
    )


def vary(x: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Rotate the samples of a batch in time and change how strong each movement is."""
    start = int(torch.randint(0, x.shape[2], (1,), generator=random))
    strength = 0.8 + 0.4 * torch.rand(len(x), 1, 1, generator=random)
    return torch.roll(x, start, dims=2) * strength


def main() -> None:
    """Train, export and save."""
    training.make_deterministic(SEED)
    train_x, train_y = load_split("train")
    test_x, test_y = load_split("test")
    model = build()
    schedule = training.Schedule(epochs=150, batch=10, rate=3e-3, seed=SEED)
    training.fit(model, train_x, train_y, schedule, vary)
    path = FOLDER / "motions.onnx"
    training.export_onnx(model, train_x.shape[1:], path)
    np.savez_compressed(
        FOLDER / "motions.npz",
        x=test_x,
        y=test_y,
        calib_x=train_x,
        classes=np.array(CLASSES),
        metric=np.array("top1"),
    )
    print(training.summary(model, path, test_x, test_y))


if __name__ == "__main__":
    main()
