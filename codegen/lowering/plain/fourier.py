"""Fourier transforms as products with constant matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from math import prod

import numpy as np
import numpy.typing as npt

from codegen.build import Builder, Converter, OnnxNode
from codegen.ir import FloatArray
from codegen.lowering.plain.copies import part, transpose
from codegen.lowering.plain.shapes import axis_of, reshape
from codegen.ops.convolution import Convolution
from codegen.ops.matmul import MatMul

MAX_MATRIX = 1 << 22  # numbers


def _circle(length: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Cosine and sine of all multiples of a turn / length; exact on the axes."""
    found = []
    for number in range(length):
        quarter, rest = divmod(4 * number, length)
        angle = math.pi / 2 * rest / length
        c, s = math.cos(angle), math.sin(angle)
        found.append(((c, s), (-s, c), (-c, -s), (s, -c))[quarter])
    table = np.array(found)
    return table[:, 0], table[:, 1]


def matrix(rows: int, parts: int, columns: int, length: int, *, inverse: bool) -> FloatArray:
    """The transform of `rows` numbers of a signal into `columns` complex ones: (rows, parts, columns, 2).

    `parts` is 1 for a real signal, 2 for a complex one; the transform has `length` points.
    """
    cosine, sine = _circle(length)
    turns = np.outer(np.arange(rows), np.arange(columns)) % length
    real, imaginary = cosine[turns], sine[turns] if inverse else -sine[turns]
    found = np.zeros((rows, parts, columns, 2))
    found[:, 0, :, 0], found[:, 0, :, 1] = real, imaginary
    if parts == 2:
        found[:, 1, :, 0], found[:, 1, :, 1] = -imaginary, real
    return np.asarray(found / length if inverse else found, np.float32)


def _real_inverse(rows: int, length: int) -> FloatArray:
    """The inverse of half a spectrum into a real signal: (rows, 2, length, 1)."""
    whole = matrix(rows, 2, length, length, inverse=True)[..., :1].copy()
    # The other half is the conjugate: all but the ends count twice.
    twice = np.arange(rows)
    whole[(twice > 0) & (2 * twice != length)] *= np.float32(2)
    return whole


def _check(node: OnnxNode, rows: int, columns: int) -> None:
    if 4 * rows * columns > MAX_MATRIX:
        raise node.unsupported(f"a matrix of {rows} x {columns} complex numbers is too large")


def _dft(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    shape = b.plain_shape(x)
    if len(shape) < 2 or shape[-1] not in (1, 2):
        raise node.unsupported(f"{list(shape)} is no signal")
    axis = _axis(node, b, len(shape))
    inverse, onesided = bool(node.integer("inverse", 0)), bool(node.integer("onesided", 0))
    length = _length(node, b, 2 * (shape[axis] - 1) if inverse and onesided else shape[axis])
    used = min(shape[axis], length // 2 + 1 if inverse and onesided else length)
    columns = length // 2 + 1 if onesided and not inverse else length
    _check(node, used, columns)
    if inverse and onesided:
        if shape[-1] != 2:
            raise node.unsupported("half a spectrum must be complex")
        table = _real_inverse(used, length)
    elif onesided and shape[-1] != 1:
        raise node.unsupported("half a spectrum needs a real signal")
    else:
        table = matrix(used, shape[-1], columns, length, inverse=inverse)
    if used < shape[axis]:
        spans = [range(used if i == axis else size) for i, size in enumerate(shape)]
        x = part(b, x, spans, node.sources)
    b.write(node, _transformed(node, b, x, axis, table))


def _transformed(node: OnnxNode, b: Builder, x: str, axis: int, table: FloatArray) -> str:
    """The product of a signal along an axis with a matrix (rows, parts, columns, parts)."""
    shape = b.plain_shape(x)
    outer, inner = prod(shape[:axis]), prod(shape[axis + 1 : -1])
    rows, parts, columns, results = table.shape
    constant = b.plain_constant(table.reshape(rows * parts, -1), f"{node.label}.matrix")
    flat = transpose(b, reshape(b, x, (outer, rows, inner, parts)), (0, 2, 1, 3), node.sources)
    flat = reshape(b, flat, (outer * inner, rows * parts))
    y = reshape(
        b, b.emit(MatMul(), (flat, constant), node.sources), (outer, inner, columns, results)
    )
    y = transpose(b, y, (0, 2, 1, 3), node.sources)
    return reshape(b, y, (*shape[:axis], columns, *shape[axis + 1 : -1], results), node.sources)


def _axis(node: OnnxNode, b: Builder, rank: int) -> int:
    if node.opset < 20:
        axis = node.integer("axis", 1)
    else:
        value = b.static(node, 2)
        axis = -2 if value is None else int(value.reshape(-1)[0])
    axis = axis_of(node, axis, rank)
    if axis == rank - 1:
        raise node.unsupported("the last axis holds the parts of complex numbers")
    return axis


def _length(node: OnnxNode, b: Builder, usual: int) -> int:
    value = b.static(node, 1)
    length = usual if value is None else int(value.reshape(-1)[0])
    if length < 1:
        raise node.unsupported(f"a transform of {length} points")
    return length


def _stft(node: OnnxNode, b: Builder) -> None:
    x, step, window = b.plain(node, 0), b.static(node, 1), b.static(node, 2)
    shape = b.plain_shape(x)
    if len(shape) != 3 or shape[-1] not in (1, 2) or step is None:
        raise node.unsupported(f"{list(shape)} is no signal, or the step is missing")
    said = b.static(node, 3)
    length = shape[1] if window is None else window.size
    length = length if said is None else int(said.reshape(-1)[0])
    stride, onesided = int(step.reshape(-1)[0]), bool(node.integer("onesided", 1))
    if not 0 < length <= shape[1] or stride < 1 or (window is not None and window.size != length):
        raise node.unsupported(f"frames of {length} every {stride} of {shape[1]} numbers")
    if onesided and shape[-1] == 2:
        raise node.unsupported("half a spectrum needs a real signal")
    columns = length // 2 + 1 if onesided else length
    _check(node, length, columns)
    table = matrix(length, shape[-1], columns, length, inverse=False)
    if window is not None:
        table = table * window.astype(np.float32).reshape(-1, 1, 1, 1)
    # Frames that overlap are the places of a window: a convolution.
    weights = table.transpose(2, 3, 0, 1).reshape(2 * columns, length, shape[-1])
    constant = b.plain_constant(weights, f"{node.label}.matrix")
    y = b.emit(Convolution((stride,), (0,), (0,), (1,)), (x, constant), node.sources)
    frames = b.plain_shape(y)[1]
    b.write(node, reshape(b, y, (shape[0], frames, columns, 2), node.sources))


ONNX: Mapping[str, Converter] = {"DFT": _dft, "STFT": _stft}
