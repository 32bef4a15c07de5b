"""Sums, products, extremes and norms along axes; running sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.lowering.plain.maps import apply, parameters
from codegen.lowering.plain.shapes import reshape
from codegen.ops.arg_extreme import ArgExtreme
from codegen.ops.cumulative import Cumulative
from codegen.ops.reduce import Reduce


def reduce(
    b: Builder,
    function: str,
    x: str,
    axes: Sequence[int],
    sources: tuple[str, ...],
    element: str = "",
) -> str:
    """A reduction of a plain tensor along axes of the ONNX tensor, which stay with size 1."""
    along = tuple(sorted({axis + 1 for axis in axes}))
    return b.emit(Reduce(function, along, element), (x,), sources)


def mean(
    b: Builder, x: str, axes: Sequence[int], sources: tuple[str, ...], element: str = ""
) -> str:
    """The mean along axes, which stay with size 1: the sum times the reciprocal of the count."""
    count = prod(b.plain_shape(x)[axis] for axis in axes)
    total = reduce(b, "add", x, axes, sources, element)
    return parameters(b, "weigh", total, sources, 1 / count)


def axis_of(node: OnnxNode, b: Builder, x: str, axis: int) -> int:
    """An axis that may count from the end."""
    rank = len(b.plain_shape(x))
    if not -rank <= axis < max(rank, 1):
        raise node.unsupported(f"axis {axis} of {rank} axes")
    return axis % max(rank, 1)


def _axes(node: OnnxNode, b: Builder, x: str) -> list[int] | None:
    """The axes that a reduction is along; None where nothing is to be reduced."""
    given = b.integers(node, "axes", 1)
    if not given:
        keeps = node.integer("noop_with_empty_axes", 0) != 0
        return None if keeps else list(range(len(b.plain_shape(x))))
    return sorted({axis_of(node, b, x, axis) for axis in given})


def _kept(node: OnnxNode, b: Builder, x: str, found: str, axes: Sequence[int]) -> str:
    if node.integer("keepdims", 1):
        return found
    left = [size for axis, size in enumerate(b.plain_shape(x)) if axis not in axes]
    return reshape(b, found, tuple(left), node.sources)


def _reduction(function: str, element: str = "", after: str = "") -> Converter:
    def convert(node: OnnxNode, b: Builder) -> None:
        x = b.plain(node, 0)
        axes = _axes(node, b, x)
        if axes is None:
            found = apply(b, element, [x], node.sources) if element else x
        else:
            found = reduce(b, function, x, axes, node.sources, element)
        if after:
            found = apply(b, after, [found], node.sources)
        b.write(node, _kept(node, b, x, found, axes or ()))

    return convert


def _mean(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    axes = _axes(node, b, x)
    found = x if axes is None else mean(b, x, axes, node.sources)
    b.write(node, _kept(node, b, x, found, axes or ()))


def _log_sum_exp(node: OnnxNode, b: Builder) -> None:
    """With the greatest number taken out first, so that no exponential overflows."""
    x, sources = b.plain(node, 0), node.sources
    axes = _axes(node, b, x)
    if axes is None:
        b.write(node, x)
        return
    lowest = b.plain_constant(np.asarray(np.finfo(np.float32).min), "lowest", "float32")
    highest = b.plain_constant(np.asarray(np.finfo(np.float32).max), "highest", "float32")
    most = reduce(b, "maximum", x, axes, sources)
    most = apply(b, "clip", [most, lowest, highest], sources)  # infinity less itself would be NaN
    total = reduce(b, "add", apply(b, "exp_difference", [x, most], sources), axes, sources)
    found = apply(b, "add", [apply(b, "log", [total], sources), most], sources)
    b.write(node, _kept(node, b, x, found, axes))


def _arg(*, least: bool) -> Converter:
    def convert(node: OnnxNode, b: Builder) -> None:
        x = b.plain(node, 0)
        axis = axis_of(node, b, x, node.integer("axis", 0))
        op = ArgExtreme(axis + 1, least, node.integer("select_last_index", 0) != 0)
        found = b.emit(op, (x,), node.sources)
        b.write(node, _kept(node, b, x, found, (axis,)))

    return convert


def _cumsum(node: OnnxNode, b: Builder) -> None:
    x, given = b.plain(node, 0), b.static(node, 1)
    if given is None or given.size != 1:
        raise node.unsupported("one axis is expected")
    axis = axis_of(node, b, x, int(given.reshape(-1)[0]))
    flags = node.integer("exclusive", 0) != 0, node.integer("reverse", 0) != 0
    b.write(node, b.emit(Cumulative(axis + 1, *flags), (x,), node.sources))


ONNX: Mapping[str, Converter] = {
    "ArgMax": _arg(least=False),
    "ArgMin": _arg(least=True),
    "CumSum": _cumsum,
    "ReduceL1": _reduction("add", "abs"),
    "ReduceL2": _reduction("add", "square", "sqrt"),
    "ReduceLogSum": _reduction("add", after="log"),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _reduction("maximum"),
    "ReduceMean": _mean,
    "ReduceMin": _reduction("minimum"),
    "ReduceProd": _reduction("multiply"),
    "ReduceSum": _reduction("add"),
    "ReduceSumSquare": _reduction("add", "square"),
}
