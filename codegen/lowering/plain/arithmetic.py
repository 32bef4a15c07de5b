"""Arithmetic, comparisons, logic: functions of single numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codegen.build import Builder, Converter, OnnxNode
from codegen.lowering.plain.casts import cast
from codegen.lowering.plain.maps import apply, operand, parameters
from codegen.scalar.form import highest, kind, lowest


def _map(function: str, count: int) -> Converter:
    """A function of the node's first operands."""

    def convert(node: OnnxNode, b: Builder) -> None:
        operands = [operand(node, b, index) for index in range(count)]
        b.write(node, apply(b, function, operands, node.sources))

    return convert


def _chain(function: str) -> Converter:
    """A function of two, over all operands from the first to the last."""

    def convert(node: OnnxNode, b: Builder) -> None:
        b.write(node, _folded(node, b, function))

    return convert


def _folded(node: OnnxNode, b: Builder, function: str) -> str:
    total = b.plain(node, 0)
    for index in range(1, len(node.inputs)):
        total = apply(b, function, [total, b.plain(node, index)], node.sources)
    return total


def _mean(node: OnnxNode, b: Builder) -> None:
    total = _folded(node, b, "add")
    b.write(node, parameters(b, "weigh", total, node.sources, 1 / len(node.inputs)))


def _clip(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    dtype = b.dtype(x)
    bounds = []
    for index, (key, default) in enumerate((("min", lowest), ("max", highest)), 1):
        if node.has(index):
            bounds.append(b.plain(node, index))
        else:
            number = node.real(key, default(dtype)) if node.opset < 11 else default(dtype)
            bounds.append(b.plain_constant(np.asarray(number), key, dtype))
    if not node.has(1) and not node.has(2) and node.opset >= 11:
        b.write(node, x)
        return
    b.write(node, apply(b, "clip", [x, *bounds], node.sources))


def _mod(node: OnnxNode, b: Builder) -> None:
    function = "fmod" if node.integer("fmod", 0) else "modulo"
    _map(function, 2)(node, b)


def _shift(node: OnnxNode, b: Builder) -> None:
    ways = {"LEFT": "shift_left", "RIGHT": "shift_right"}
    way = node.text("direction", "")
    if way not in ways:
        raise node.unsupported(f"direction {way!r}")
    _map(ways[way], 2)(node, b)


def _pow(node: OnnxNode, b: Builder) -> None:
    x, y = b.plain(node, 0), b.plain(node, 1)
    types = b.dtype(x), b.dtype(y)
    exponent = b.value(y)
    if types[0] == "float32" and exponent is not None and np.all(exponent == 2):
        square = apply(b, "square", [x], node.sources)
        b.write(node, square)
    elif kind(types[0]) in ("int", "uint") and types[1] == "float32":
        b.write(node, _int_to_real_power(node, b, x, y))
    else:
        b.write(node, apply(b, "power", [x, cast(b, y, types[0], node.sources)], node.sources))


def _int_to_real_power(node: OnnxNode, b: Builder, x: str, y: str) -> str:
    """Whole exponents give exact powers; others the whole part of a real one."""
    dtype, sources = b.dtype(x), node.sources
    whole = apply(b, "equal", [y, apply(b, "trunc", [y], sources)], sources)
    exact = apply(b, "power", [x, cast(b, y, dtype, sources)], sources)
    real = apply(b, "power", [cast(b, x, "float32", sources), y], sources)
    return apply(b, "where", [whole, exact, cast(b, real, dtype, sources)], sources)


def _is_inf(node: OnnxNode, b: Builder) -> None:
    x = b.plain(node, 0)
    signs = node.integer("detect_negative", 1) != 0, node.integer("detect_positive", 1) != 0
    functions = {
        (True, True): "is_inf",
        (True, False): "is_negative_inf",
        (False, True): "is_positive_inf",
    }
    if signs in functions:
        b.write(node, apply(b, functions[signs], [x], node.sources))
        return
    never = b.plain_constant(np.zeros((), np.bool_), "never")
    found = apply(b, "is_inf", [x], node.sources)
    b.write(node, apply(b, "and", [found, never], node.sources))


ONNX: Mapping[str, Converter] = {
    "Abs": _map("abs", 1),
    "Add": _map("add", 2),
    "And": _map("and", 2),
    "BitShift": _shift,
    "BitwiseAnd": _map("bit_and", 2),
    "BitwiseNot": _map("bit_not", 1),
    "BitwiseOr": _map("bit_or", 2),
    "BitwiseXor": _map("bit_xor", 2),
    "Ceil": _map("ceil", 1),
    "Clip": _clip,
    "Cos": _map("cos", 1),
    "Div": _map("divide", 2),
    "Equal": _map("equal", 2),
    "Erf": _map("erf", 1),
    "Exp": _map("exp", 1),
    "Floor": _map("floor", 1),
    "Greater": _map("greater", 2),
    "GreaterOrEqual": _map("greater_equal", 2),
    "IsInf": _is_inf,
    "IsNaN": _map("is_nan", 1),
    "Less": _map("less", 2),
    "LessOrEqual": _map("less_equal", 2),
    "Log": _map("log", 1),
    "Max": _chain("maximum"),
    "Mean": _mean,
    "Min": _chain("minimum"),
    "Mod": _mod,
    "Mul": _map("multiply", 2),
    "Neg": _map("negative", 1),
    "Not": _map("not", 1),
    "Or": _map("or", 2),
    "Pow": _pow,
    "Reciprocal": _map("reciprocal", 1),
    "Round": _map("round", 1),
    "Sign": _map("sign", 1),
    "Sin": _map("sin", 1),
    "Sqrt": _map("sqrt", 1),
    "Sub": _map("subtract", 2),
    "Sum": _chain("add"),
    "Where": _map("where", 3),
    "Xor": _map("xor", 2),
}
