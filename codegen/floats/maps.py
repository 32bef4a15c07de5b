"""Functions of single numbers, reductions and normalization of reals in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, prod

from codegen.floats.rewrite import Lowering, Rewriter
from codegen.forms import Reshape
from codegen.ir import Node
from codegen.ops.add import Add
from codegen.ops.lookup import Lookup
from codegen.ops.map import Map
from codegen.ops.mean import Mean
from codegen.ops.mul import Mul
from codegen.ops.reduce import Reduce
from targets.errors import UnsupportedModel

Clamp = tuple[float, float] | None


def bound(clamp: tuple[float, float]) -> Map:
    """Numbers within bounds, which may be infinite."""
    return Map("relu") if clamp == (0, inf) else Map("bound", clamp)


def _clamped(
    function: str, inputs: tuple[str, ...], clamp: Clamp, node: Node, new: Rewriter
) -> None:
    """A function and, if asked, bounds of its result."""
    if clamp is None:
        new.emit(Map(function), inputs, node.output, node)
    else:
        free = new.part(Map(function), inputs, "free", node)
        new.emit(bound(clamp), (free,), node.output, node)


def _add(node: Node, new: Rewriter) -> None:
    op = node.op
    assert isinstance(op, Add)
    first, second = node.inputs
    if op.signs == (-1, -1):
        first = new.part(Map("negative"), (first,), "negative", node)
    elif op.signs == (-1, 1):
        first, second = second, first
    function = "add" if op.signs == (1, 1) else "subtract"
    _clamped(function, (first, second), op.clamp, node, new)


def _mul(node: Node, new: Rewriter) -> None:
    assert isinstance(node.op, Mul)
    _clamped("multiply", node.inputs, node.op.clamp, node, new)


def _named(function: str, parameters: int = 0) -> Callable[[Lookup], Map]:
    return lambda op: Map(function, (op.alpha, op.beta)[:parameters])


def _sign(op: Lookup) -> Map:
    return Map("sign_or", (op.alpha,)) if op.alpha else Map("sign")


TABLES: Mapping[str, Callable[[Lookup], Map]] = {
    "abs": _named("abs"),
    "clip": lambda op: bound((op.alpha, op.beta)),
    "elu": _named("elu", 1),
    "erf": _named("erf"),
    "exp": _named("exp"),
    "gelu": _named("gelu"),
    "gelu_tanh": _named("gelu_tanh"),
    "hard_sigmoid": _named("hard_sigmoid", 2),
    "hard_swish": _named("hard_swish"),
    "leaky_relu": _named("leaky_relu", 1),
    "mish": _named("mish"),
    "neg": _named("negative"),
    "relu": _named("relu"),
    "selu": _named("selu", 2),
    "sigmoid": _named("sigmoid"),
    "sign": _sign,
    "softplus": _named("softplus"),
    "softsign": _named("softsign"),
    "swish": _named("swish", 1),
    "tanh": _named("tanh"),
}
"""By the functions of codegen.ops.lookup; "identity" is none."""


def _lookup(node: Node, new: Rewriter) -> None:
    op = node.op
    assert isinstance(op, Lookup)
    if op.function == "identity":
        new.emit(Reshape(new.shape(node.inputs[0])), node.inputs, node.output, node)
    elif op.function in TABLES:
        new.emit(TABLES[op.function](op), node.inputs, node.output, node)
    else:
        why = f"{node.label}: {op.function} does not compute in float"
        raise UnsupportedModel(why, node=node.label)


def _softmax(node: Node, new: Rewriter) -> None:
    (x,) = node.inputs
    last = (len(new.shape(x)) - 1,)
    most = new.part(Reduce("maximum", last), (x,), "most", node)
    powers = new.part(Map("exp_difference"), (x, most), "powers", node)
    total = new.part(Reduce("add", last), (powers,), "total", node)
    new.emit(Map("divide"), (powers, total), node.output, node)


def _mean(node: Node, new: Rewriter) -> None:
    op = node.op
    assert isinstance(op, Mean)
    (x,) = node.inputs
    count = prod(new.shape(x)[axis] for axis in op.axes)
    total = new.part(Reduce("add", op.axes), (x,), "total", node)
    share = Map("weigh", (1 / count,))
    if op.keepdims:
        new.emit(share, (total,), node.output, node)
    else:
        kept = new.part(share, (total,), "kept", node)
        new.emit(Reshape(op.infer((new.shape(x),))), (kept,), node.output, node)


LOWERINGS: Mapping[str, Lowering] = {
    "add": _add,
    "lookup": _lookup,
    "mean": _mean,
    "mul": _mul,
    "softmax": _softmax,
}
