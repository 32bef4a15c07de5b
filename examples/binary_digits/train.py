"""Train the binary digits example: a CNN whose hidden layers multiply signs with signs.

The first and the last layer are ordinary ones. `--twin FILE` trains the same network with ReLU
and real weights instead, to compare with.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples import training
from examples.digits.train import SEED, load_split, shift, to_real

FOLDER = Path(__file__).resolve().parent
SCHEDULE = training.Schedule(epochs=60, batch=50, rate=5e-3, seed=SEED)


def sign(x: torch.Tensor) -> torch.Tensor:
    """Give -1 or 1; gradients pass where the value is within -1 and 1."""
    signs = torch.where(x >= 0, torch.ones_like(x), -torch.ones_like(x))
    if not x.requires_grad:
        return signs
    passed = x.clamp(-1, 1)
    return passed + (signs - passed).detach()


class Sign(nn.Module):  # type: ignore[misc]  # without stubs
    """Binary activations."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take the signs, as one comparison and one choice when exported."""
        if torch.onnx.is_in_onnx_export():
            return torch.where(x >= 0, 1.0, -1.0)
        return sign(x)


class BinaryConv(nn.Conv2d):  # type: ignore[misc]  # without stubs
    """A convolution with the signs of its weights, which are all that is left of them once frozen.

    The normalization behind it has the scale.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve."""
        weight = sign(self.weight) if self.weight.requires_grad else self.weight
        return nn.functional.conv2d(x, weight, padding=self.padding)


def build(*, binary: bool) -> nn.Sequential:
    """Build the network, or its twin with real weights and ReLU."""
    conv = BinaryConv if binary else nn.Conv2d

    def between() -> nn.Module:
        return Sign() if binary else nn.ReLU()

    return training.named(
        stem=training.named(
            conv=nn.Conv2d(1, 32, 3, padding=1, bias=False), norm=nn.BatchNorm2d(32), act=between()
        ),
        wide=training.named(
            conv=conv(32, 64, 3, padding=1, bias=False),
            norm=nn.BatchNorm2d(64),
            pool=nn.MaxPool2d(2),
            act=between(),
        ),
        deep=training.named(
            conv=conv(64, 64, 3, padding=1, bias=False),
            norm=nn.BatchNorm2d(64),
            pool=nn.MaxPool2d(2),
        ),
        flatten=nn.Flatten(),
        head=nn.Linear(256, 10),
    )


def freeze(model: nn.Sequential) -> None:
    """Leave the signs of binary weights alone, for the file."""
    for layer in model.modules():
        if isinstance(layer, BinaryConv):
            layer.weight.data = sign(layer.weight.data)
            layer.weight.requires_grad = False


def shrink(path: Path) -> None:
    """Store weights that are all -1 or 1 as bytes, with a Cast behind them."""
    model = onnx.load(path)
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.size > 1 and np.all(np.abs(values) == 1):
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.int8), f"{name}.signs"))
            casts.append(
                helper.make_node("Cast", [f"{name}.signs"], [name], to=onnx.TensorProto.FLOAT)
            )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def main() -> None:
    """Train, export and save."""
    parser = argparse.ArgumentParser(description="Train the binary digits example.")
    parser.add_argument("--twin", type=Path, help="train the twin and write it here instead")
    twin = parser.parse_args().twin
    training.make_deterministic(SEED)
    train_x, train_y, test_x, test_y = load_split()
    model = build(binary=twin is None)
    training.fit(model, to_real(train_x), train_y, SCHEDULE, shift)
    freeze(model)
    path = twin or FOLDER / "binary_digits.onnx"
    training.export_onnx(model, (1, 8, 8), path)
    if twin is None:
        shrink(path)
    print(training.summary(model, path, to_real(test_x), test_y))


if __name__ == "__main__":
    main()
