"""Fully connected layer over the last axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from codegen import expand
from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.ir import Array, Tensor
from codegen.kernel import (
    BOTH_ORDERS,
    NO_LANE,
    NO_SMLAD,
    NOT_ALIGNED,
    Constant,
    Footprint,
    Instance,
    Kernel,
    Layer,
    channel_block,
    unmet,
)
from codegen.ops.reshape import reshape
from codegen.ops.transpose import transpose
from codegen.quant.fixed import INT8_MAX, INT8_MIN, clamp_range, exact_matmul, stable_matmul
from codegen.requantize import ONE, Rounding, Scaling, reach, rule, weighted
from codegen.tuned import dense as packing
from codegen.tuned import dense_bits, dense_int4, dense_pairs, gemm_factors, limbs, mending
from codegen.tuned.lanes import folded_bias, lane, stream


@dataclass(frozen=True, slots=True)
class Dense:
    """Operands: x (1, ..., K), w (N, K), b (N,). The result, (1, ..., N), is clamped if asked."""

    kind: ClassVar[str] = "dense"
    clamp: tuple[float, float] | None = None
    rounding: Rounding = "half_up"  # how sums become int8 (codegen.requantize)
    shift: int | None = None  # of the requantization, kept when channels were removed

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The operand's shape with N in place of K."""
        x, w, b = shapes
        if len(w) != 2 or len(x) < 2 or x[-1] != w[1] or b != (w[0],):
            raise ValueError(f"operand {list(x)}, weights {list(w)}, bias {list(b)} do not match")
        return (*x[:-1], w[0])

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """x · wᵀ + b."""
        x, w, b = as_floats(inputs)
        y = stable_matmul(x, w) + b
        return y if self.clamp is None else np.clip(y, *self.clamp)


def _gemm(node: OnnxNode, b: Builder) -> None:
    x, w = b.read(node, 0), b.read(node, 1)
    _refuse_dynamic(node, b, x, w)
    if b.rank(x) != 2 or b.rank(w) != 2:
        raise node.unsupported("both operands must be matrices")
    if node.integer("transA", 0):
        x = transpose(b, x, (1, 0), node.sources)
    if not node.integer("transB", 0):
        w = transpose(b, w, (1, 0), node.sources)
    w = _scaled(b, w, node.real("alpha", 1.0))
    outputs = b.shape(w)[0]
    bias = _no_bias(node, b, outputs)
    if node.has(2) and node.real("beta", 1.0) != 0.0:
        bias = _scaled(b, _bias(node, b, b.read(node, 2), outputs), node.real("beta", 1.0))
    b.write(node, b.emit(Dense(), (x, w, bias), node.sources))


def _matmul(node: OnnxNode, b: Builder) -> None:
    x, w = b.read(node, 0), b.read(node, 1)
    _refuse_dynamic(node, b, x, w)
    vector = b.rank(w) == 1
    if vector:
        w = reshape(b, w, (1, b.shape(w)[0]), node.sources)
    else:
        if any(size != 1 for size in b.shape(w)[:-2]):
            raise node.unsupported(f"the right operand {list(b.shape(w))} is not one matrix")
        rank = max(b.rank(x), b.rank(w))
        x = reshape(b, x, (1,) * (rank - b.rank(x)) + b.shape(x), node.sources)
        w = transpose(b, reshape(b, w, b.shape(w)[-2:], node.sources), (1, 0), node.sources)
    y = b.emit(Dense(), (x, w, _no_bias(node, b, b.shape(w)[0])), node.sources)
    b.write(node, reshape(b, y, b.shape(y)[:-1], node.sources) if vector else y)


def _refuse_dynamic(node: OnnxNode, b: Builder, x: str, w: str) -> None:
    if b.is_constant(w) and not b.is_constant(x):
        return
    if b.is_constant(x):
        raise node.unsupported("the left operand is constant; only the right one may be")
    hint = "attention layers multiply two activations; they are not supported"
    raise node.unsupported("the right operand must be constant", hint)


def _no_bias(node: OnnxNode, b: Builder, outputs: int) -> str:
    return b.constant(np.zeros(outputs, np.float32), f"{node.label}.bias")


def _bias(node: OnnxNode, b: Builder, name: str, outputs: int) -> str:
    if not b.is_constant(name):
        raise node.unsupported("the bias must be constant")
    tensor = b.tensors[name]
    if tensor.size == outputs:
        return reshape(b, name, (outputs,), node.sources)
    if tensor.size != 1 or tensor.data is None:
        raise node.unsupported(f"a bias of shape {list(tensor.shape)} for {outputs} outputs")
    quant = tensor.quant
    if quant is not None and quant.axis is not None:
        quant = replace(quant, axis=None)
    return b.constant(np.repeat(tensor.data.reshape(-1), outputs), name, quant)


def _scaled(b: Builder, name: str, factor: float) -> str:
    tensor = b.tensors[name]
    if factor == 1.0:
        return name
    if tensor.quant is not None and factor > 0:
        scales = tuple(scale * factor for scale in tensor.quant.scales)
        assert tensor.data is not None
        return b.constant(tensor.data, name, replace(tensor.quant, scales=scales))
    value = b.value(name)
    assert value is not None
    return b.constant(value.astype(np.float32) * np.float32(factor), name)


OP = Dense
ONNX: Mapping[str, Converter] = {"Gemm": _gemm, "MatMul": _matmul}


# Integers: the reference, and the kernels that reproduce it.


def reference(
    op: Dense, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """int8 dense layer: bias + sum((x - zp) * w), exact, then one rounding."""
    x, w, bias = values
    centred = x.astype(np.int32) - inputs[0].grid.zero_point
    return requantize(op, accumulate(centred, w) + bias.astype(np.int32), inputs, out)


def accumulate(centred: Array, w: Array) -> npt.NDArray[np.int32]:
    """sum(x * w) of int32 values x with the zero point taken off."""
    return exact_matmul(centred, w)


def requantize(op: Dense, total: Array, inputs: tuple[Tensor, ...], out: Tensor) -> Array:
    """int8 of sums with their bias."""
    low, high = clamp_range(op.clamp, out.grid)
    requant = rule((inputs[0].grid, inputs[1].grid), out.grid, ONE, op.rounding, out.name, op.shift)
    return requant.apply(total, out.grid.zero_point, low, high)


def _instance(layer: Layer) -> Instance:
    op = layer.node.op
    assert isinstance(op, Dense)
    x, w, b = layer.inputs
    scaling = _scaling(layer)
    bias = folded_bias(x, w, b)
    channels, length = w.shape
    return Instance(
        label=f"{length}_{channels}",
        params={
            "rows": layer.output.size // channels,
            "length": length,
            "channels": channels,
            "block": channel_block(layer.core),
            "q": scaling.q,
        },
        constants=(
            Constant("weights", "int8_t", w.values, w.size),
            Constant("bias", "int32_t", bias),
            *scaling.constants(),
        ),
    )


def _footprints(reads_first: bool) -> Callable[[Layer], tuple[Footprint | None, ...]]:
    """One event per row: a row is read again for every channel, unless it was copied first."""

    def footprints(layer: Layer) -> tuple[Footprint | None, ...]:
        channels, length = layer.inputs[1].shape
        row = np.arange(layer.output.size // channels, dtype=np.int64)
        ends = row * length, (row + 1) * length, row * channels, (row + 1) * channels
        return (Footprint(*ends, reads_first=reads_first),)

    return footprints


def _limits(layer: Layer) -> tuple[int, int]:
    op = layer.node.op
    assert isinstance(op, Dense)
    return clamp_range(op.clamp, layer.output.grid)


@lru_cache(maxsize=16)
def _scaling(layer: Layer) -> Scaling:
    op = layer.node.op
    assert isinstance(op, Dense)
    grid = layer.output.grid
    return weighted(layer.inputs, grid, _limits(layer), op.rounding, layer.label, op.shift)


def _dsp_refusal(layer: Layer) -> str:
    x, w, b = layer.inputs
    channels, length = w.shape
    aligned = length % 4 == 0 or layer.output.size == channels or layer.core.unaligned

    def sums_fit() -> bool:
        ends = (end for ends in reach(x.grid, w, b) for end in (ends.min(), ends.max()))
        within = not max(abs(int(end)) for end in ends) >> 23
        return within and mending.fit(_scaling(layer).fixed.patches, 256)

    def has_lanes() -> bool:
        scaling = _scaling(layer).fixed
        return lane(scaling) is not None and lane(scaling, 8) is not None

    return unmet(
        (lambda: layer.core.dsp, NO_SMLAD),
        (lambda: aligned, NOT_ALIGNED),
        (lambda: bool(w.values.min() >= -127), "a weight of -128: 256 * odd + even leaves 16 bits"),
        (sums_fit, "256 times a sum of an odd channel leaves 32 bits"),
        (has_lanes, NO_LANE),
    )


def _rows(layer: Layer) -> float:
    """Rows of the input: each reads all weights."""
    return layer.output.size / layer.inputs[1].shape[0]


def _raw_refusal(layer: Layer) -> str:
    ready = layer.inputs[1].shape[1] % 4 == 0
    return _dsp_refusal(layer) if ready else "rows of no multiple of 4 bytes"


def _dsp_instance(layer: Layer, raw: bool = False) -> Instance:
    x, w, b = layer.inputs
    channels, length = w.shape
    scaling = _scaling(layer).fixed
    even, mended = lane(scaling), bool(scaling.patches)
    assert even is not None
    words = packing.pack(w.values.astype(np.int64), folded_bias(x, w, b), scaling.multipliers)
    cut = packing.blocks(channels)
    stream_bytes = 4 * (len(words) + mended * len(cut.starts))
    if mended:
        words = packing.mended(words, cut, scaling.patches)
    params = packing.params(channels, length, raw) | {
        "rows": layer.output.size // channels,
        "mended": mended,
        "stream_bytes": stream_bytes,
        **packing.limits(even.low, even.high),
    }
    head = np.array([even.addend, even.shift])
    return Instance(
        f"{'raw_' if raw else ''}{length}_{channels}",
        params,
        (stream(np.concatenate([head, words]), w.size),),
    )


def _dsp_cycles(layer: Layer, raw: bool = False) -> float:
    channels, length = layer.inputs[1].shape
    scaling, cut = _scaling(layer).fixed, packing.blocks(channels)
    bounds = (scaling.q["low"] != INT8_MIN) + (scaling.q["high"] != INT8_MAX)
    rows = layer.output.size // channels
    mends = rows * mending.cycles(scaling.patches, cut.starts, cut.width)
    return packing.cycles(channels, length, rows, bounds, raw) + mends


@lru_cache(maxsize=64)
def _form(layer: Layer) -> limbs.Form | None:
    op = layer.node.op
    assert isinstance(op, Dense)
    y = layer.output.grid
    limits = clamp_range(op.clamp, y)
    return limbs.weighted(layer.inputs, y, limits, op.rounding, layer.label, op.shift)


@lru_cache(maxsize=64)
def _blocks(layer: Layer) -> dense_pairs.Blocks:
    return dense_pairs.blocks(layer.inputs[1].values.astype(np.int64))


_PAIRS = dense_pairs.kernel(_blocks, _form, _footprints(reads_first=True))
_INT8 = (
    Kernel(
        name="dense.dsp",
        template="ops/dense.dsp.c.j2",
        assembly="ops/dense.dsp.S.j2",
        serves=lambda layer: not _dsp_refusal(layer),
        refusal=_dsp_refusal,
        instance=_dsp_instance,
        cycles=_dsp_cycles,
        passes=_rows,
        footprints=_footprints(reads_first=True),
        scratch=lambda layer: 2 * packing.padded_length(layer.inputs[1].shape[1]),
    ),
    Kernel(
        name="dense.raw",
        template="ops/dense.dsp.c.j2",
        assembly="ops/dense.dsp.S.j2",
        serves=lambda layer: not _raw_refusal(layer),
        refusal=_raw_refusal,
        instance=partial(_dsp_instance, raw=True),
        cycles=partial(_dsp_cycles, raw=True),
        footprints=_footprints(reads_first=False),
    ),
    Kernel(
        name="dense.portable",
        template="ops/dense.c.j2",
        serves=lambda layer: True,
        instance=_instance,
        cycles=lambda layer: layer.dot_cycles(layer.output.size * layer.inputs[1].shape[1]),
        passes=_rows,
        footprints=_footprints(reads_first=False),
        orders=BOTH_ORDERS,
    ),
)
KERNELS = (
    expand.unpacked(_PAIRS),
    *map(expand.plain, _INT8),
    dense_bits.kernel(_scaling, _footprints(reads_first=True)),
    dense_int4.kernel(_scaling, _footprints(reads_first=True)),
    *gemm_factors.dense_kernels(_scaling, _limits, _footprints(reads_first=True)),
    expand.dense_kernel(_scaling),
)
