"""Normalization by mean and variance, by norms, by given statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.lowering.plain.maps import apply
from codegen.lowering.plain.reductions import axis_of, mean, reduce
from codegen.lowering.plain.shapes import reshape

EPSILON = 1e-5


def _scalar(b: Builder, number: float, hint: str) -> str:
    return b.plain_constant(np.asarray(number, np.float32), hint, "float32")


def _centred(
    b: Builder, x: str, axes: Sequence[int], sources: tuple[str, ...]
) -> tuple[str, str, str]:
    """The mean along axes, the operand less it, and the variance: the mean of its squares.

    The mean is taken off twice: of elements that are nearly alike, what it misses by rounding would be
    large beside what is left (Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983).
    """
    middle = mean(b, x, axes, sources)
    centred = apply(b, "subtract", [x, middle], sources)
    centred = apply(b, "subtract", [centred, mean(b, centred, axes, sources)], sources)
    return middle, centred, mean(b, centred, axes, sources, "square")


def _deviation(b: Builder, variance: str, epsilon: float, sources: tuple[str, ...]) -> str:
    """sqrt(variance + epsilon)."""
    padded = apply(b, "add", [variance, _scalar(b, epsilon, "epsilon")], sources)
    return apply(b, "sqrt", [padded], sources)


def _scaled(b: Builder, normal: str, scale: str, bias: str | None, sources: tuple[str, ...]) -> str:
    if bias is None:
        return apply(b, "multiply", [normal, scale], sources)
    return apply(b, "multiply_add", [normal, scale, bias], sources)


def _channels(node: OnnxNode, b: Builder, index: int, x: str) -> str:
    """An operand of one number per channel, beside those of a tensor whose axis 1 they are along."""
    name = b.plain(node, index)
    rank = len(b.plain_shape(x))
    if rank < 2 or b.plain_shape(name) != b.plain_shape(x)[1:2]:
        raise node.unsupported(f"operand {index} has shape {list(b.plain_shape(name))}")
    return reshape(b, name, (b.plain_shape(name)[0], *(1,) * (rank - 2)))


def _batch_norm(node: OnnxNode, b: Builder) -> None:
    x, sources = b.plain(node, 0), node.sources
    scale, bias = _channels(node, b, 1, x), _channels(node, b, 2, x)
    center, variance = _channels(node, b, 3, x), _channels(node, b, 4, x)
    if node.integer("training_mode", 0):
        rank = len(b.plain_shape(x))
        axes = [axis for axis in range(rank) if axis != 1]
        now, _, spread = _centred(b, x, axes, sources)
        share = node.real("momentum", 0.9)
        for index, (old, new) in enumerate(((center, now), (variance, spread)), 1):
            _running(node, b, index, old, new, share)
        shape = b.plain_shape(center)
        center, variance = reshape(b, now, shape, sources), reshape(b, spread, shape, sources)
    given = b.static(node, 4) if b.is_constant(b.get(node.inputs[4])) else None
    if given is not None and np.any(np.float64(given) + node.real("epsilon", EPSILON) <= 0):
        raise node.unsupported("a variance is not positive")
    deviation = _deviation(b, variance, node.real("epsilon", EPSILON), sources)
    centred = apply(b, "subtract", [x, center], sources)
    normal = apply(b, "divide", [centred, deviation], sources)
    b.write(node, _scaled(b, normal, scale, bias, sources))


def _running(node: OnnxNode, b: Builder, index: int, old: str, new: str, share: float) -> None:
    """An output of statistics: `share` of the old ones and the rest of the batch's."""
    if index >= len(node.outputs) or not node.outputs[index]:
        return
    fresh = reshape(b, new, b.plain_shape(old), node.sources)
    parts = [
        apply(b, "multiply", [name, _scalar(b, weight, "momentum")], node.sources)
        for name, weight in ((old, share), (fresh, 1 - share))
    ]
    found = apply(b, "add", parts, node.sources)
    b.set(node.outputs[index], reshape(b, found, (b.plain_shape(old)[0],), node.sources))


def _normal(
    b: Builder, x: str, axes: Sequence[int], epsilon: float, sources: tuple[str, ...]
) -> str:
    _, centred, variance = _centred(b, x, axes, sources)
    return apply(b, "divide", [centred, _deviation(b, variance, epsilon, sources)], sources)


def _instance_norm(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    scale, bias = _channels(node, b, 1, x), _channels(node, b, 2, x)
    axes = range(2, len(b.plain_shape(x)))
    normal = _normal(b, x, axes, node.real("epsilon", EPSILON), node.sources)
    b.write(node, _scaled(b, normal, scale, bias, node.sources))


def _group_norm(node: OnnxNode, b: Builder) -> None:
    """One scale per channel, or before opset 21 per group."""
    x, sources = b.plain(node, 0), node.sources
    shape, groups = b.plain_shape(x), node.integer("num_groups", 0)
    if len(shape) < 2 or groups < 1 or shape[1] % groups:
        raise node.unsupported(f"{groups} groups of shape {list(shape)}")
    split = (shape[0], groups, shape[1] // groups, *shape[2:])
    grouped = reshape(b, x, split, sources)
    axes = range(2, len(split))
    normal = _normal(b, grouped, axes, node.real("epsilon", EPSILON), sources)
    factors = []
    for index in (1, 2):
        name = b.plain(node, index)
        (count,) = b.plain_shape(name) if len(b.plain_shape(name)) == 1 else (0,)
        if count not in (groups, shape[1]):
            raise node.unsupported(f"operand {index} has shape {list(b.plain_shape(name))}")
        rest = (1,) * len(shape[2:])
        factors.append(reshape(b, name, (groups, count // groups, *rest)))
    found = _scaled(b, normal, factors[0], factors[1], sources)
    b.write(node, reshape(b, found, shape, sources))


def _layer_norm(node: OnnxNode, b: Builder) -> None:
    x, sources = b.plain(node, 0), node.sources
    rank = len(b.plain_shape(x))
    axes = range(axis_of(node, b, x, node.integer("axis", -1)), rank)
    middle, centred, variance = _centred(b, x, axes, sources)
    deviation = _deviation(b, variance, node.real("epsilon", EPSILON), sources)
    inverse = apply(b, "reciprocal", [deviation], sources)
    normal = apply(b, "multiply", [centred, inverse], sources)
    bias = b.plain(node, 2) if node.has(2) else None
    b.write(node, _scaled(b, normal, b.plain(node, 1), bias, sources))
    for name, tensor in zip(node.outputs[1:], (middle, inverse), strict=False):
        if name:
            b.set(name, tensor)


def _rms_norm(node: OnnxNode, b: Builder) -> None:
    x, sources = b.plain(node, 0), node.sources
    rank = len(b.plain_shape(x))
    axes = range(axis_of(node, b, x, node.integer("axis", -1)), rank)
    power = mean(b, x, axes, sources, "square")
    deviation = _deviation(b, power, node.real("epsilon", EPSILON), sources)
    normal = apply(b, "divide", [x, deviation], sources)
    b.write(node, _scaled(b, normal, b.plain(node, 1), None, sources))


def _lp_norm(node: OnnxNode, b: Builder) -> None:
    """A norm of 0 leaves the zeros that it is the norm of."""
    x, sources, p = b.plain(node, 0), node.sources, node.integer("p", 2)
    if p not in (1, 2):
        raise node.unsupported(f"the norm of order {p} is not supported")
    axis = axis_of(node, b, x, node.integer("axis", -1))
    total = reduce(b, "add", x, (axis,), sources, "abs" if p == 1 else "square")
    norm = total if p == 1 else apply(b, "sqrt", [total], sources)
    zero, one = _scalar(b, 0, "zero"), _scalar(b, 1, "one")
    is_zero = apply(b, "equal", [norm, zero], sources)
    divisor = apply(b, "where", [is_zero, one, norm], sources)
    b.write(node, apply(b, "divide", [x, divisor], sources))


def _mean_variance(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    axes = [axis_of(node, b, x, axis) for axis in node.integers("axes") or (0, 2, 3)]
    b.write(node, _normal(b, x, sorted(set(axes)), 1e-9, node.sources))


ONNX: Mapping[str, Converter] = {
    "BatchNormalization": _batch_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LpNormalization": _lp_norm,
    "MeanVarianceNormalization": _mean_variance,
    "RMSNormalization": _rms_norm,
}
