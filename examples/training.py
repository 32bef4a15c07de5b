"""What the training scripts of the examples share: fit, export, strip, check and save."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import checker
from torch import nn

OPSET = 17

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]
Augment = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train."""

    epochs: int
    batch: int
    rate: float
    seed: int = 0


def make_deterministic(seed: int) -> None:
    """Seed PyTorch and keep it to one thread, so that every run gives the same weights."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def named(**layers: nn.Module) -> nn.Sequential:
    """Chain layers under readable names, which become the node names of the ONNX file."""
    return nn.Sequential(OrderedDict(layers))


def conv_bn_relu(conv: nn.Module) -> nn.Sequential:
    """Put batch normalization and ReLU behind a convolution."""
    norm = nn.BatchNorm1d if isinstance(conv, nn.Conv1d) else nn.BatchNorm2d
    return named(conv=conv, norm=norm(conv.out_channels), relu=nn.ReLU())


def fit(model: nn.Module, x: Floats, y: Labels, schedule: Schedule, augment: Augment) -> None:
    """Train the model in place and leave it in eval mode."""
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))
    random = torch.Generator().manual_seed(schedule.seed)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.rate, weight_decay=1e-2)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, schedule.epochs)
    model.train()
    for _ in range(schedule.epochs):
        for rows in torch.randperm(len(inputs), generator=random).split(schedule.batch):
            optimizer.zero_grad()
            loss_of(model(augment(inputs[rows], random)), labels[rows]).backward()
            optimizer.step()
        decay.step()
    model.eval()


def export_onnx(model: nn.Module, sample_shape: tuple[int, ...], path: Path) -> None:
    """Write the model with batch 1 as one ONNX file that keeps its batch normalizations.

    ``do_constant_folding`` and ``training`` keep the exporter from folding them into the
    convolutions; the model is in eval mode, so they use the statistics of the training.
    """
    torch.onnx.export(
        model,
        (torch.zeros(1, *sample_shape),),
        path,
        input_names=["input"],
        output_names=["output"],
        opset_version=OPSET,
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
    )
    exported = onnx.load(path)
    strip(exported)
    checker.check_model(exported, full_check=True)
    onnx.save(exported, path)


def strip(model: onnx.ModelProto) -> None:
    """Remove documentation and metadata, which may name paths and source lines."""
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info)
    for item in (model, graph, *graph.node, *graph.initializer, *values):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")


def onnx_correct(path: Path, x: Floats, y: Labels) -> int:
    """Count the samples that the ONNX file classifies correctly."""
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    scores = [session.run(None, {"input": sample[None]})[0][0] for sample in x]
    return int(np.sum(np.argmax(scores, axis=1) == y))


def summary(model: nn.Module, path: Path, x: Floats, y: Labels) -> str:
    """Say how large the model is and how well its ONNX file does on the test samples."""
    params = sum(parameter.numel() for parameter in model.parameters())
    correct = onnx_correct(path, x, y)
    accuracy = 100 * correct / len(y)
    return f"{path.name}: {params} parameters, float top-1 {accuracy:.2f} % ({correct} of {len(y)})"
