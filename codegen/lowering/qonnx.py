"""QONNX (Brevitas, FINN): `Quant` is a rounding to a grid and back in one node."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from codegen.build import Builder, Converter, OnnxNode
from codegen.ir import Array, Quant, per_tensor
from codegen.ops.lookup import Lookup
from codegen.qdq import Quantize

Reals = npt.NDArray[np.float64]
DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
ACTIVATION_BITS, BIAS_BITS = 8, 32

ROUNDINGS: Mapping[str, Callable[[Reals], Reals]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "DOWN": np.trunc,
    "ROUND_TO_ZERO": np.trunc,
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - 0.5),
}


def limits(bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    """Least and largest integer."""
    if signed:
        return -(1 << (bits - 1)) + narrow, (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1 - narrow


def _quant(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    scale, zero, width = (b.static(node, index) for index in (1, 2, 3))
    if scale is None or zero is None or width is None or width.size != 1:
        raise node.unsupported("scale, zero point and one bit width are expected")
    bits = float(width.reshape(-1)[0])
    most = BIAS_BITS if b.is_constant(x) else ACTIVATION_BITS
    if bits != int(bits) or not 1 <= bits <= most:
        raise node.unsupported(f"{bits:g} bits are not supported", f"1 to {most} are")
    if not np.all(np.isfinite(scale)) or scale.min() <= 0 or np.any(zero != np.rint(zero)):
        raise node.unsupported("scales must be positive and zero points whole")
    signed, narrow = bool(node.integer("signed", 1)), bool(node.integer("narrow", 0))
    ends = limits(int(bits), signed, narrow)
    data = b.tensors[x].data
    make = _activation if data is None else _weights
    b.write(node, make(node, b, x, (scale, zero), ends))


def _weights(
    node: OnnxNode, b: Builder, x: str, grid: tuple[Array, Array], ends: tuple[int, int]
) -> str:
    """Constants on their grid: per tensor, or along the one axis of several scales."""
    data = b.tensors[x].data
    assert data is not None
    mode = node.text("rounding_mode", "ROUND").upper()
    if mode not in ROUNDINGS:
        raise node.unsupported(f"rounding mode {mode} is not supported")
    scale, zero = np.broadcast_arrays(*grid)
    steps = data.astype(np.float32) / scale.astype(np.float32)
    rounded = ROUNDINGS[mode](np.clip(steps.astype(np.float64) + zero, *ends)) - zero
    if ends[1] - ends[0] > 255:  # a bias: the layer's own grid is at least as fine
        return b.constant((rounded * scale).astype(np.float32), node.label)
    if np.abs(rounded).max(initial=0) > 127:
        raise node.unsupported("weights minus their zero point do not fit 8 bits")
    longer = [axis for axis, size in enumerate(scale.shape) if size > 1]
    if len(longer) > 1 or (longer and scale.ndim != data.ndim):
        raise node.unsupported(f"scales of shape {list(scale.shape)} for {list(data.shape)}")
    scales = tuple(float(value) for value in scale.reshape(-1))
    quant = Quant(scales, (0,) * len(scales), longer[0] if longer else None)
    return b.constant(rounded.astype(np.int8), node.label, quant)


def _activation(
    node: OnnxNode, b: Builder, x: str, grid: tuple[Array, Array], ends: tuple[int, int]
) -> str:
    """An int8 grid; narrower ranges are a clamp on it."""
    scale, zero = grid
    if scale.size != 1 or zero.size != 1:
        raise node.unsupported("per-channel grids on activations are not supported")
    if node.text("rounding_mode", "ROUND").upper() not in ("ROUND", "HALF_EVEN"):
        raise node.unsupported("activations are rounded half to even only")
    shift = 128 if ends[1] > 127 else 0
    point = int(zero.reshape(-1)[0]) - shift
    if not -128 <= point <= 127:
        raise node.unsupported("the zero point does not fit the bit width")
    quant = per_tensor(float(scale.reshape(-1)[0]), point)
    low, high = ends[0] - shift, ends[1] - shift
    y = b.emit(Quantize(quant), (x,), node.sources)
    if (low, high) == (-128, 127):
        return y
    bounds = (quant.scale * (end - point) for end in (low, high))
    clamped = b.emit(Lookup("clip", *bounds), (y,), node.sources)
    return b.emit(Quantize(quant), (clamped,), node.sources)


ONNX: Mapping[str, Converter] = {
    f"{domain}::{name}": _quant for domain in DOMAINS for name in ("IntQuant", "Quant")
}
