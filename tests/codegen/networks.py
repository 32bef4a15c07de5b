"""Quantized networks of one operator, for tests of references and kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from codegen import bits
from codegen.ir import (
    Array,
    Graph,
    Node,
    Op,
    Port,
    Quant,
    Storage,
    Tensor,
    per_tensor,
    verify_quantized,
)
from codegen.ops.binary_conv2d import BinaryConv2D
from codegen.quant.binary import scaling
from codegen.quant.scheme import counted
from codegen.quant.schemes import SCHEMES

INT8 = np.int8
BITS = per_tensor(1.0, 0, 1)
Shape = tuple[int, ...]


def constant(name: str, data: Array, quant: Quant) -> Tensor:
    return Tensor(name, data.shape, quant, data)


def network(
    op: Op,
    inputs: Sequence[tuple[Shape, Quant]],
    out: Quant,
    constants: tuple[Tensor, ...] = (),
    constants_first: bool = False,
) -> Graph:
    """One node that reads graph inputs x0, x1, ... and constants."""
    arena = tuple(Tensor(f"x{i}", shape, quant) for i, (shape, quant) in enumerate(inputs))
    operands = (*constants, *arena) if constants_first else (*arena, *constants)
    shape = op.infer(tuple(t.shape for t in operands))
    y = Tensor("y", shape, out)
    ports = tuple(_port(t) for t in arena)
    node = Node(op, tuple(t.name for t in operands), "y", ("node",))
    tensors = {t.name: t for t in (*operands, y)}
    return verify_quantized(Graph("net", tensors, (node,), ports, (_port(y),)))


def _port(tensor: Tensor) -> Port:
    return Port(tensor.name, tensor.name, tensor.shape, tuple(range(len(tensor.shape))))


def weighted(
    op: Op,
    x: Shape,
    weights: Shape,
    generator: np.random.Generator,
    grids: tuple[tuple[float, int], tuple[float, int]] = ((0.05, 3), (0.4, -11)),
    extreme: int | None = None,
) -> Graph:
    """A convolution or dense layer with random weights, or with all weights at one value."""
    w = generator.integers(-127, 128, weights).astype(INT8)
    if extreme is not None:
        w = np.full(weights, extreme, INT8)
    channels = weights[0]
    scales = tuple(float(s) for s in generator.uniform(0.001, 0.02, channels))
    b = generator.integers(-5000, 5000, channels).astype(np.int32)
    (x_scale, x_zero), (y_scale, y_zero) = grids
    constants = (
        constant("w", w, Quant(scales, (0,) * channels, 0)),
        constant("b", b, Quant(tuple(x_scale * s for s in scales), (0,) * channels, 0, 32)),
    )
    return network(op, [(x, per_tensor(x_scale, x_zero))], per_tensor(y_scale, y_zero), constants)


def stored(
    op: Op,
    x: Shape,
    shape: Shape,
    generator: np.random.Generator,
    weights: str,
    scheme: str,
    code: int | None = None,
    gain: float = 1.0,
) -> Graph:
    """A layer with stored weights: any codes and factors, or all at one code and the largest factors."""
    graph = weighted(op, x, shape, generator, ((0.05, 3), (0.4 / gain, -11)))
    rows = generator.normal(size=(shape[0], int(np.prod(shape[1:]))))
    storage = SCHEMES[scheme].quantize(rows, np.zeros(shape[0]), weights).storage
    count = storage.levels.shape[1]
    # The MX formats of whole numbers are symmetric: their least code is none.
    first = int(scheme in ("mx4", "mx6", "mx9", "mxint8"))
    codes = generator.integers(first, count, rows.shape).astype(np.uint8)
    factors = storage.factors
    if code is not None:
        codes = np.full_like(codes, code % count)
        factors = tuple(replace(f, values=np.full_like(f.values, f.values.max())) for f in factors)
    storage = replace(storage, codes=codes, factors=factors)
    expanded = storage.expanded().reshape(shape)
    width = 8 if expanded.min() >= -128 and expanded.max() <= 127 else 16
    w = graph.tensors["w"]
    return graph.with_tensors(
        replace(
            w,
            data=expanded.astype(f"int{width}"),
            quant=replace(w.grid, width=width),
            storage=storage,
        )
    )


def in_nibbles(graph: Graph, seed: int, code: int | None = None) -> Graph:
    """The layer with 4-bit weights: any, or all of one code."""
    w = graph.tensors["w"]
    shape = (len(w.values), w.size // len(w.values))
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 16, shape) if code is None else np.full(shape, code)
    storage = Storage("uniform", "int4", 4, codes.astype(np.uint8), counted(4))
    data = storage.expanded().reshape(w.shape).astype(np.int8)
    return graph.with_tensors(replace(w, data=data, storage=storage))


def binary(
    op: Op, x: Shape, weights: Shape, g: np.random.Generator, extreme: str | None = None
) -> Graph:
    """A binary convolution with random constants. Extremes: weights all +1, or sums at their limits."""
    assert isinstance(op, BinaryConv2D)
    channels, length = weights[0], int(np.prod(weights[1:]))
    w = g.choice([-1, 1], weights).astype(INT8)
    if extreme is not None:
        w = np.full(weights, 1 if extreme == "ones" else -1, INT8)
    one = per_tensor(1.0, 0, 32)
    constants = [constant("w", w, per_tensor(1.0, 0))]
    if op.binary:
        spread = int(np.sqrt(length)) + 1
        edges = g.integers(-spread, spread + 1, channels).astype(np.int32)
        edges[:: 1 + channels // 2] = g.choice([-length, length, length + 1])
        constants.append(constant("t", edges, one))
        return network(op, [(x, BITS)], BITS, tuple(constants))
    scales = g.uniform(0.5, 4.0, channels) * 60 / np.sqrt(length)
    offsets = g.uniform(-60, 60, channels)
    multipliers, addends, shift = scaling(scales, offsets, length, "node")
    constants.append(constant("m", multipliers.astype(np.int32), one))
    constants.append(constant("a", addends.astype(np.int32), one))
    return network(replace(op, shift=shift), [(x, BITS)], per_tensor(0.05, 3), tuple(constants))


def samples(graph: Graph, generator: np.random.Generator, count: int = 6) -> tuple[Array, ...]:
    """Inputs: random ones, and all values at the ends of int8."""
    tensors = [graph.tensors[port.tensor] for port in graph.inputs]
    shapes = [tensor.shape[1:] for tensor in tensors]
    random = [generator.integers(-128, 128, (count, *s)).astype(INT8) for s in shapes]
    ends = [np.stack([np.full(s, v, INT8) for v in (-128, 127, 0)]) for s in shapes]
    found = [np.concatenate(pair) for pair in zip(random, ends, strict=True)]
    return tuple(
        bits.pack(values) if tensor.grid.width == 1 else values
        for tensor, values in zip(tensors, found, strict=True)
    )
