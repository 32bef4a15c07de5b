"""Dropout: nothing at inference; of a model in training mode, what its seed draws."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.ir import Array
from codegen.ops.map import Map


def _kept(node: OnnxNode, b: Builder, shape: tuple[int, ...]) -> tuple[Array, float]:
    """Which elements stay, and what they are multiplied by."""
    given, mode = b.static(node, 1), b.static(node, 2)
    ratio = node.real("ratio", 0.5) if given is None else float(given.reshape(-1)[0])
    if mode is None or not mode.reshape(-1)[0] or ratio == 0:
        return np.ones(shape, bool), 1.0
    if not 0 < ratio < 1:
        raise node.unsupported(f"a ratio of {ratio}")
    if "seed" not in node.attributes:
        raise node.unsupported(
            "training mode without a seed is random", "export the model for inference"
        )
    seed = node.integer("seed", 0) % (1 << 32)
    drawn = np.random.RandomState(seed).uniform(0, 1, shape)
    return drawn >= ratio, 1 / (1 - ratio)


def _dropout(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    kept, scale = _kept(node, b, b.plain_shape(x))
    y = x
    if not kept.all():
        factors = b.plain_constant(np.where(kept, np.float32(scale), 0), f"{x}.kept", "float32")
        y = b.emit(Map("multiply"), (x, factors), node.sources)
    b.write(node, y)
    if len(node.outputs) > 1 and node.outputs[1]:
        mask = "bool" if node.opset >= 10 else b.dtype(x)
        b.set(node.outputs[1], b.plain_constant(kept, f"{x}.mask", mask))


ONNX: Mapping[str, Converter] = {"Dropout": _dropout}
