"""Signs as the field writes them: Sign, BipolarQuant, and a comparison that Where or Cast reads.

A sign at 0 is 0 for ONNX's Sign and +1 for BipolarQuant; for a comparison it is what the comparison says.
A comparison's result is kept as the sign that decides it, with the polarity of "true".
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codegen.broadcast import same_rank
from codegen.build import Builder, Converter, OnnxNode
from codegen.ir import Array
from codegen.ops.add import Add
from codegen.ops.lookup import Lookup
from codegen.ops.mul import Mul

# Sign of 0, and of "true", for comparisons of a difference with 0.
COMPARISONS = {
    "Greater": (-1, 1),
    "GreaterOrEqual": (1, 1),
    "Less": (1, -1),
    "LessOrEqual": (-1, -1),
}
SWAPPED = {
    "Greater": "Less",
    "GreaterOrEqual": "LessOrEqual",
    "Less": "Greater",
    "LessOrEqual": "GreaterOrEqual",
}


def _sign(node: OnnxNode, b: Builder) -> None:
    b.write(node, b.emit(Lookup("sign", 0.0), (b.read(node, 0),), node.sources))


def _bipolar(node: OnnxNode, b: Builder) -> None:
    x, given = b.read(node, 0), b.static(node, 1)
    scale = np.asarray(0 if given is None else given, np.float64)
    if not np.all(np.isfinite(scale)) or not np.all(scale > 0):
        raise node.unsupported("the scale must be positive")
    value = b.value(x)
    if value is not None:
        signs = np.where(value.astype(np.float64) >= 0, np.float32(1), np.float32(-1))
        b.write(node, b.constant(np.asarray(signs * scale, np.float32), node.label))
        return
    y = b.emit(Lookup("sign", 1.0), (x,), node.sources)
    b.write(node, _affine(node, b, y, scale, np.zeros(1)))


def _compare(node: OnnxNode, b: Builder) -> None:
    kind = node.op_type
    x, y = b.read(node, 0), b.read(node, 1)
    if b.is_constant(x):
        x, y, kind = y, x, SWAPPED[kind]
    bound = b.value(y)
    if bound is None:
        raise node.unsupported("only a comparison with a constant is supported")
    zero, polarity = COMPARISONS[kind]
    difference = _affine(node, b, x, np.ones(1), -np.asarray(bound, np.float64))
    sign = b.emit(Lookup("sign", float(zero)), (difference,), node.sources)
    truth = b.emit(Lookup("identity"), (sign,), node.sources)
    b.conditions[truth] = (sign, polarity)
    b.annotate(truth, None, "bool")  # whoever takes it for a number is refused
    b.write(node, truth)


def _where(node: OnnxNode, b: Builder) -> None:
    if b.read(node, 0) not in b.conditions:
        raise node.unsupported("the condition must be a comparison with a constant")
    above, below = b.value(b.read(node, 1)), b.value(b.read(node, 2))
    if above is None or below is None or above.size != 1 or below.size != 1:
        raise node.unsupported("only a choice between two constant numbers is supported")
    b.write(node, chosen(node, b, float(above.reshape(-1)[0]), float(below.reshape(-1)[0])))


def chosen(node: OnnxNode, b: Builder, above: float, below: float) -> str:
    """One of two numbers, by the comparison that a node reads first."""
    sign, polarity = b.conditions[b.read(node, 0)]
    half = polarity * (above - below) / 2
    return _affine(node, b, sign, np.array([half]), np.array([(above + below) / 2]))


def _affine(node: OnnxNode, b: Builder, x: str, slope: Array, offset: Array) -> str:
    """slope * x + offset, of numbers or arrays that broadcast; nothing where they are 1 and 0."""
    for op, values, neutral in ((Mul(), slope, 1.0), (Add(), offset, 0.0)):
        if not np.all(values == neutral):
            wide = values.reshape((1,) * (b.rank(x) - values.ndim) + values.shape)
            constant = b.constant(wide.astype(np.float32), f"{node.label}.constant")
            x = b.emit(op, same_rank(node, b, (x, constant)), node.sources)
    return x


_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
ONNX: Mapping[str, Converter] = {
    "Sign": _sign,
    "Where": _where,
    **{f"{domain}::BipolarQuant": _bipolar for domain in _DOMAINS},
    **dict.fromkeys(COMPARISONS, _compare),
}
