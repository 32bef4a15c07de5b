"""Plain float32 numbers as integers on a grid: where a network goes on in integers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codegen.build import Converter
from codegen.forms import ToGrid
from codegen.ir import Array, Tensor
from codegen.kernel import Instance, Kernel, Layer
from codegen.plain import c_number, disjoint

OP = ToGrid
ONNX: Mapping[str, Converter] = {}


def reference(
    op: ToGrid, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """rint(x / scale) + zero_point, saturated, in float32 as ONNX's QuantizeLinear; NaN is the lowest."""
    grid = out.grid
    with np.errstate(all="ignore"):
        steps = np.rint(values[0].astype(np.float32) / np.float32(grid.scale)) + np.float32(
            grid.zero_point
        )
    kept = np.where(steps >= -128, np.minimum(steps, 127), np.float32(-128))
    return kept.astype(np.int8).reshape((len(values[0]), *out.shape[1:]))


def _instance(layer: Layer) -> Instance:
    grid, size = layer.output.grid, layer.output.size
    scale = c_number(float(np.float32(grid.scale)), "float")
    zero = c_number(float(grid.zero_point), "float")
    return Instance(str(size), {"size": size, "zero": zero, "scale": scale})


KERNELS = (
    Kernel(
        name="to_grid.portable",
        template="ops/to_grid.c.j2",
        serves=lambda layer: True,
        instance=_instance,
        cycles=lambda layer: 120.0 * layer.output.size,
        footprints=disjoint,
    ),
)
