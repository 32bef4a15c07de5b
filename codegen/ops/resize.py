"""Nearest-neighbour resizing of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import floor, prod
from typing import ClassVar

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.images import from_image, to_image
from codegen.ir import Array, FloatArray, Tensor
from codegen.kernel import Constant, Instance, Kernel, Layer
from codegen.limits import MAX_ACTIVATION


@dataclass(frozen=True, slots=True)
class Resize:
    """The source row of every output row, and the source column of every output column."""

    kind: ClassVar[str] = "resize"
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """(1, rows, columns, C)."""
        n, height, width, channels = shapes[0]
        if max(self.rows, default=height) >= height or max(self.columns, default=width) >= width:
            raise ValueError(f"a resize of {height}x{width} reads beyond the image")
        return n, len(self.rows), len(self.columns), channels

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The picked rows and columns."""
        return inputs[0][:, self.rows][:, :, self.columns]


def _half_pixel(x: FloatArray, scale: np.float32, size: int, count: int) -> FloatArray:
    return np.asarray((x + np.float32(0.5)) / scale - np.float32(0.5))


def _pytorch_half_pixel(x: FloatArray, scale: np.float32, size: int, count: int) -> Array:
    return _half_pixel(x, scale, size, count) if count > 1 else np.zeros_like(x)


def _half_pixel_symmetric(x: FloatArray, scale: np.float32, size: int, count: int) -> Array:
    offset = np.float32(size / 2) * (1 - np.float32(count) / (scale * np.float32(size)))
    return np.asarray(offset + _half_pixel(x, scale, size, count))


def _align_corners(x: FloatArray, scale: np.float32, size: int, count: int) -> Array:
    if count == 1:
        return np.zeros_like(x)
    return np.asarray(x * np.float32(size - 1) / np.float32(count - 1))


# Where output place x lies in the source. In float32, as onnxruntime computes it.
COORDINATES: Mapping[str, Callable[[FloatArray, np.float32, int, int], Array]] = {
    "align_corners": _align_corners,
    "asymmetric": lambda x, scale, _size, _count: np.asarray(x / scale),
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "tf_half_pixel_for_nn": lambda x, s, _size, _count: np.asarray((x + np.float32(0.5)) / s),
}
ROUNDING: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "ceil": np.ceil,
    "floor": np.floor,
    "round_prefer_ceil": lambda x: np.floor(x + np.float32(0.5)),
    "round_prefer_floor": lambda x: np.ceil(x - np.float32(0.5)),
}


def source_indices(size: int, count: int, scale: float, place: str, rounding: str) -> Array:
    """The source index of each of `count` outputs along an axis of `size` elements."""
    if rounding == "simple":  # what onnxruntime does where opsets 7 to 10 say nothing
        rounding = "ceil" if scale < 1 else "floor"
    outputs = np.arange(count, dtype=np.float32)
    found = COORDINATES[place](outputs, np.float32(scale), size, count)
    nearest = ROUNDING[rounding](found.astype(np.float32))
    return np.clip(nearest, 0, size - 1).astype(np.int64)


def _resize(node: OnnxNode, b: Builder) -> None:
    modern = node.op_type == "Resize" and node.opset >= 11
    place = node.text("coordinate_transformation_mode", "half_pixel" if modern else "asymmetric")
    rounding = node.text("nearest_mode", "round_prefer_floor") if modern else "simple"
    mode = node.text("mode", "nearest")
    if mode != "nearest" or place not in COORDINATES or rounding not in (*ROUNDING, "simple"):
        why = f"mode {mode}, {place}, {rounding} is not supported"
        raise node.unsupported(why, "export the model with nearest-neighbour resizing")
    if node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.unsupported("keep_aspect_ratio_policy is not supported")
    x = b.read(node, 0)
    counts, scales = extents(node, b, b.shape(x), modern=modern)
    if min(counts) < 1 or prod(counts) > MAX_ACTIVATION:
        raise node.unsupported(f"the result has the unreasonable shape {counts}")
    if counts[:2] != list(b.shape(x))[:2]:
        raise node.unsupported("only rows and columns can be resized")
    if b.rank(x) == 3:
        counts, scales = [*counts[:2], 1, counts[2]], [*scales[:2], 1.0, scales[2]]
    image = to_image(node, b, x)
    rows, columns = (
        tuple(int(i) for i in source_indices(size, counts[axis], scales[axis], place, rounding))
        for axis, size in zip((2, 3), b.shape(image)[1:3], strict=True)
    )
    y = b.emit(Resize(rows, columns), (image,), node.sources)
    b.write(node, from_image(node, b, y, b.rank(x)))


def extents(
    node: OnnxNode, b: Builder, shape: tuple[int, ...], *, modern: bool
) -> tuple[list[int], list[float]]:
    """The new size and the scale of every axis."""
    named = node.integers("axes") or tuple(range(len(shape)))
    axes = [axis % len(shape) for axis in named]
    counts, scales = list(shape), [1.0] * len(shape)
    given, sizes = b.static(node, 2 if modern else 1), b.static(node, 3) if modern else None
    if sizes is not None and sizes.size == len(axes):
        for axis, count in zip(axes, sizes.reshape(-1).tolist(), strict=True):
            counts[axis], scales[axis] = int(count), int(count) / shape[axis]
        return counts, scales
    factors = node.reals("scales") if given is None else given.reshape(-1).tolist()
    if factors is None or len(factors) != len(axes):
        raise node.unsupported("neither scales nor sizes suit the operand")
    for axis, factor in zip(axes, factors, strict=True):
        if not 0 < factor < 1 << 16:
            raise node.unsupported(f"a scale of {factor} is not supported")
        counts[axis], scales[axis] = floor(shape[axis] * factor), float(factor)
    return counts, scales


OP = Resize
ONNX: Mapping[str, Converter] = {"Resize": _resize, "Upsample": _resize}


# Integers: the reference, and the kernels that reproduce it.


def reference(
    op: Resize, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """Stored values of the nearest pixels."""
    return np.ascontiguousarray(op.evaluate(values))


def _instance(layer: Layer) -> Instance:
    op = layer.node.op
    assert isinstance(op, Resize)
    _, _, width, depth = layer.inputs[0].shape
    params = {
        "rows": len(op.rows),
        "columns": len(op.columns),
        "width": width,
        "depth": depth,
    }
    constants = (
        Constant("source_rows", "uint16_t", np.array(op.rows)),
        Constant("source_columns", "uint16_t", np.array(op.columns)),
    )
    return Instance("x".join(map(str, layer.output.shape[1:])), params, constants)


KERNELS = (
    Kernel(
        name="resize.portable",
        template="ops/resize.c.j2",
        serves=lambda layer: True,
        instance=_instance,
        cycles=lambda layer: 6.0 * layer.output.size,
        footprints=lambda layer: (None,),
    ),
)
