"""Activation functions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.lowering.plain.maps import apply, parameters
from codegen.lowering.plain.reductions import axis_of, reduce
from codegen.lowering.plain.shapes import reshape
from codegen.ops.arg_extreme import ArgExtreme

SELU = (("alpha", 1.6732631921768188), ("gamma", 1.0507010221481323))


def _with(function: str, *attributes: tuple[str, float]) -> Converter:
    """A function of the node's first operand and of attributes."""

    def convert(node: OnnxNode, b: Builder) -> None:
        numbers = [node.real(key, default) for key, default in attributes]
        b.write(node, parameters(b, function, b.plain(node, 0), node.sources, *numbers))

    return convert


def _celu(node: OnnxNode, b: Builder) -> None:
    if np.float32(node.real("alpha", 1.0)) == 0:
        raise node.unsupported("alpha is 0")
    _with("celu", ("alpha", 1.0))(node, b)


def _gelu(node: OnnxNode, b: Builder) -> None:
    tanh = node.text("approximate", "none") == "tanh"
    _with("gelu_tanh" if tanh else "gelu")(node, b)


def _prelu(node: OnnxNode, b: Builder) -> None:
    b.write(node, apply(b, "prelu", [b.plain(node, 0), b.plain(node, 1)], node.sources))


def along(node: OnnxNode, b: Builder, x: str) -> tuple[str, tuple[int, ...]]:
    """The operand, and the axes that a softmax is along: before opset 13, `axis` and all behind it."""
    old = node.opset < 13
    axis = axis_of(node, b, x, node.integer("axis", 1 if old else -1))
    rank = len(b.plain_shape(x))
    return x, tuple(range(axis, rank)) if old else (axis,)


def _exponentials(node: OnnxNode, b: Builder) -> tuple[str, str, str, str]:
    """The operand, its greatest number, exp of what is left, the sum of those."""
    x, axes = along(node, b, b.plain(node, 0))
    most = reduce(b, "maximum", x, axes, node.sources)
    powers = apply(b, "exp_difference", [x, most], node.sources)
    return x, most, powers, reduce(b, "add", powers, axes, node.sources)


def _softmax(node: OnnxNode, b: Builder) -> None:
    _, _, powers, total = _exponentials(node, b)
    b.write(node, apply(b, "divide", [powers, total], node.sources))


def _log_softmax(node: OnnxNode, b: Builder) -> None:
    x, most, _, total = _exponentials(node, b)
    size = apply(b, "log", [total], node.sources)
    b.write(node, apply(b, "log_softmax", [x, most, size], node.sources))


def _hardmax(node: OnnxNode, b: Builder) -> None:
    """1 where the first of the greatest numbers is, 0 elsewhere."""
    x, axes = along(node, b, b.plain(node, 0))
    shape = b.plain_shape(x)
    merged = (*shape[: axes[0]], -1, *shape[axes[-1] + 1 :])
    count = int(np.prod([shape[axis] for axis in axes]))
    flat = reshape(b, x, tuple(count if size == -1 else size for size in merged), node.sources)
    where = b.emit(ArgExtreme(axes[0] + 1), (flat,), node.sources)
    counted = np.arange(count).reshape(-1, *(1 for _ in shape[axes[-1] + 1 :]))
    indices = b.plain_constant(counted, "indices", "int64")
    found = apply(b, "equal", [where, indices], node.sources)
    number = apply(b, "to_float32", [found], node.sources)
    b.write(node, reshape(b, number, shape, node.sources))


ONNX: Mapping[str, Converter] = {
    "Celu": _celu,
    "Elu": _with("elu", ("alpha", 1.0)),
    "Gelu": _gelu,
    "HardSigmoid": _with("hard_sigmoid", ("alpha", 0.2), ("beta", 0.5)),
    "HardSwish": _with("hard_swish"),
    "Hardmax": _hardmax,
    "LeakyRelu": _with("leaky_relu", ("alpha", 0.01)),
    "LogSoftmax": _log_softmax,
    "Mish": _with("mish"),
    "PRelu": _prelu,
    "Relu": _with("relu"),
    "Selu": _with("selu", *SELU),
    "Sigmoid": _with("sigmoid"),
    "Softmax": _softmax,
    "Softplus": _with("softplus"),
    "Softsign": _with("softsign"),
    "Swish": _with("swish", ("alpha", 1.0)),
    "Tanh": _with("tanh"),
    "ThresholdedRelu": _with("thresholded_relu", ("alpha", 1.0)),
    "com.microsoft::Gelu": _gelu,
}
