"""Integers on a grid as plain float32 numbers: where a network goes on in float."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codegen.build import Converter
from codegen.forms import ToFloat
from codegen.ir import Array, Tensor
from codegen.kernel import Instance, Layer
from codegen.plain import c_number, disjoint, plain_kernel

OP = ToFloat
ONNX: Mapping[str, Converter] = {}


def reference(
    op: ToFloat, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """float32(q - zero_point) * float32(scale): one rounding, as ONNX's DequantizeLinear."""
    grid = inputs[0].grid
    steps = (values[0].astype(np.int32) - grid.zero_point).astype(np.float32)
    return (steps * np.float32(grid.scale)).reshape((len(values[0]), *out.shape[1:]))


def _instance(layer: Layer) -> Instance:
    grid, size = layer.inputs[0].grid, layer.output.size
    scale = c_number(float(np.float32(grid.scale)), "float")
    return Instance(str(size), {"size": size, "zero": grid.zero_point, "scale": scale})


KERNELS = (
    plain_kernel(
        "to_float",
        "ops/to_float.c.j2",
        _instance,
        lambda layer: 40.0 * layer.output.size,
        disjoint,
    ),
)
