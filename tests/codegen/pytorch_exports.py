"""Quantized networks as PyTorch exports them today, made when the tests run: PT2E and torchao. Needs both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch
from torchao.quantization import IntxWeightOnlyConfig, quantize_
from torchao.quantization.granularity import PerAxis, PerGroup
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86
from torchao.testing.pt2e import _xnnpack_quantizer as xnnpack
from torchao.utils import unwrap_tensor_subclass

SHAPE = (1, 3, 8, 8)
FEATURES = 64


class Images(torch.nn.Module):  # type: ignore[misc]
    """Batch norm, depthwise, a residual sum; `mean` averages the image, else it is flattened."""

    def __init__(self, mean: bool):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
        self.point = torch.nn.Conv2d(8, 8, 1)
        self.last = torch.nn.Linear(8 if mean else 128, 5)
        self.mean = mean

    def forward(self, x: Any) -> Any:
        """(1, 3, 8, 8) -> (1, 5)."""
        x = torch.relu(self.norm(self.first(x)))
        y = torch.nn.functional.relu6(self.depthwise(x))
        y = torch.relu(self.point(y) + y)
        return self.last(y.mean((2, 3)) if self.mean else y.flatten(1))


def pt2e(quantizer: str, mean: bool, path: Path) -> onnx.ModelProto:
    """A network quantized after training, torch.export throughout; quantizer is "xnnpack" or "x86"."""
    torch.manual_seed(0)
    x = torch.randn(SHAPE)
    graph = torch.export.export(Images(mean).eval(), (x,)).module()
    if quantizer == "xnnpack":
        config = xnnpack.get_symmetric_quantization_config(is_per_channel=True)
        chosen = xnnpack.XNNPACKQuantizer().set_global(config)
    else:
        config = x86.get_default_x86_inductor_quantization_config()
        chosen = x86.X86InductorQuantizer().set_global(config)
    prepared = prepare_pt2e(graph, chosen)
    for _ in range(20):
        prepared(torch.randn(SHAPE))
    return exported(convert_pt2e(prepared), x, path)


def weight_only(group: int | None, path: Path) -> onnx.ModelProto:
    """Two dense layers with int4 weights: a scale per output, or for each `group` inputs."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(FEATURES, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
    )
    granularity = PerGroup(group) if group else PerAxis(0)
    quantize_(model.eval(), IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=granularity))
    return exported(unwrap_tensor_subclass(model), torch.randn(1, FEATURES), path)


def exported(model: Any, x: Any, path: Path) -> onnx.ModelProto:
    """The model as an ONNX file, with the exporter's own settings."""
    program = torch.onnx.export(torch.export.export(model, (x,)), (x,), dynamo=True, verbose=False)
    program.save(str(path), external_data=False)
    return onnx.load(path)
