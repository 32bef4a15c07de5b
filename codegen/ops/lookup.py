"""Elementwise functions of one operand: on int8, each is a table of 256 bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import erf, inf, pi, sqrt
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.ir import Array, Quant, Tensor
from codegen.kernel import Constant, Instance, Kernel, Layer, elementwise
from codegen.quant.fixed import saturated

FloatArray = npt.NDArray[np.floating[Any]]  # float32 for whole tensors, float64 for tables
Function: TypeAlias = Callable[[FloatArray, float, float], FloatArray]


def _sigmoid(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-x)))


def _erf(x: FloatArray) -> FloatArray:
    return np.asarray(np.frompyfunc(erf, 1, 1)(x), x.dtype)


def _gelu_tanh(x: FloatArray) -> FloatArray:
    return np.asarray(0.5 * x * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))))


def _elu(x: FloatArray, alpha: float, scale: float) -> FloatArray:
    return np.asarray(scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))))


FUNCTIONS: Mapping[str, Function] = {
    "abs": lambda x, _a, _b: np.abs(x),
    "clip": np.clip,
    "elu": lambda x, alpha, _b: _elu(x, alpha, 1.0),
    "erf": lambda x, _a, _b: _erf(x),
    "exp": lambda x, _a, _b: np.exp(x),
    "gelu": lambda x, _a, _b: np.asarray(0.5 * x * (1 + _erf(x / sqrt(2)))),
    "gelu_tanh": lambda x, _a, _b: _gelu_tanh(x),
    "hard_sigmoid": lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
    "hard_swish": lambda x, _a, _b: np.asarray(x * np.clip(x / 6 + 0.5, 0, 1)),
    "identity": lambda x, _a, _b: x,
    "leaky_relu": lambda x, alpha, _b: np.where(x >= 0, x, alpha * x),
    "mish": lambda x, _a, _b: np.asarray(x * np.tanh(np.logaddexp(0, x))),
    "neg": lambda x, _a, _b: np.negative(x),
    "relu": lambda x, _a, _b: np.maximum(x, 0),
    "selu": _elu,
    "sign": lambda x, zero, _b: np.sign(x) + zero * (x == 0),
    "sigmoid": lambda x, _a, _b: _sigmoid(x),
    "softplus": lambda x, _a, _b: np.logaddexp(0, x),
    "softsign": lambda x, _a, _b: np.asarray(x / (1 + np.abs(x))),
    "swish": lambda x, alpha, _b: np.asarray(x * _sigmoid(np.asarray(alpha * x))),
    "tanh": lambda x, _a, _b: np.tanh(x),
}


@dataclass(frozen=True, slots=True)
class Lookup:
    """`function` of each element; alpha and beta are its parameters (of clip: the bounds)."""

    kind: ClassVar[str] = "lookup"
    function: str
    alpha: float = 0.0
    beta: float = 0.0

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The operand's shape."""
        return shapes[0]

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The function of every element."""
        (x,) = as_floats(inputs)
        return np.asarray(FUNCTIONS[self.function](x, self.alpha, self.beta), np.float32)

    def bounds(self) -> tuple[float, float] | None:
        """The clamp that this function is, if it is one."""
        if self.function == "relu":
            return 0.0, inf
        return (self.alpha, self.beta) if self.function == "clip" else None


def _plain(function: str, *parameters: tuple[str, float]) -> Converter:
    """A converter that reads up to two number attributes."""

    def convert(node: OnnxNode, b: Builder) -> None:
        x = _real(node, b)
        values = [node.real(key, default) for key, default in parameters]
        b.write(node, b.emit(Lookup(function, *values), (x,), node.sources))

    return convert


def _real(node: OnnxNode, b: Builder) -> str:
    x = b.read(node, 0)
    if x in b.stored_types:
        raise node.unsupported("it computes on integers that no DequantizeLinear reads")
    return x


def _clip(node: OnnxNode, b: Builder) -> None:
    x = b.read(node, 0)
    low, high = _bound(node, b, 1, "min", -inf), _bound(node, b, 2, "max", inf)
    op = Lookup("clip", b.meaning(node, x, low), b.meaning(node, x, high))
    b.write(node, b.emit(op, (x,), node.sources))


def _bound(node: OnnxNode, b: Builder, index: int, key: str, default: float) -> float:
    value = b.static(node, index)
    return node.real(key, default) if value is None else float(value.reshape(-1)[0])


def _limit(*, upper: bool) -> Converter:
    """A converter of Max (Min) with one constant number: a clip from below (above)."""

    def convert(node: OnnxNode, b: Builder) -> None:
        names = sorted((b.get(name) for name in node.inputs), key=b.is_constant)
        bound = b.value(names[-1])
        if len(names) != 2 or bound is None or bound.size != 1 or b.is_constant(names[0]):
            raise node.unsupported("only one activation and one constant number are supported")
        number = b.meaning(node, names[0], float(bound.reshape(-1)[0]))
        op = Lookup("clip", -inf, number) if upper else Lookup("clip", number, inf)
        b.write(node, b.emit(op, names[:1], node.sources))

    return convert


def _gelu(node: OnnxNode, b: Builder) -> None:
    function = "gelu_tanh" if node.text("approximate", "none") == "tanh" else "gelu"
    b.write(node, b.emit(Lookup(function), (_real(node, b),), node.sources))


def _prelu(node: OnnxNode, b: Builder) -> None:
    slope = b.static(node, 1)
    if slope is None or np.any(slope != slope.reshape(-1)[0]):
        raise node.unsupported("only one slope for all channels is supported")
    op = Lookup("leaky_relu", float(slope.reshape(-1)[0]))
    b.write(node, b.emit(op, (_real(node, b),), node.sources))


OP = Lookup
ONNX: Mapping[str, Converter] = {
    "Abs": _plain("abs"),
    "Clip": _clip,
    "Elu": _plain("elu", ("alpha", 1.0)),
    "Erf": _plain("erf"),
    "Exp": _plain("exp"),
    "Gelu": _gelu,
    "HardSigmoid": _plain("hard_sigmoid", ("alpha", 0.2), ("beta", 0.5)),
    "HardSwish": _plain("hard_swish"),
    "LeakyRelu": _plain("leaky_relu", ("alpha", 0.01)),
    "Max": _limit(upper=False),
    "Min": _limit(upper=True),
    "Mish": _plain("mish"),
    "Neg": _plain("neg"),
    "PRelu": _prelu,
    "Relu": _plain("relu"),
    "Selu": _plain("selu", ("alpha", 1.6732631921768188), ("gamma", 1.0507010221481323)),
    "Sigmoid": _plain("sigmoid"),
    "Softplus": _plain("softplus"),
    "Softsign": _plain("softsign"),
    "Swish": _plain("swish", ("alpha", 1.0)),
    "Tanh": _plain("tanh"),
    "com.microsoft::Gelu": _gelu,
}


# Integers: the reference, and the kernels that reproduce it.


def table(op: Lookup, x: Quant, y: Quant) -> npt.NDArray[np.int8]:
    """The 256 results, for stored inputs -128..127: round half to even of f(real) on the output's grid."""
    real = (np.arange(-128, 128, dtype=np.float64) - x.zero_point) * x.scale
    result: FloatArray = np.rint(FUNCTIONS[op.function](real, op.alpha, op.beta) / y.scale)
    return saturated(result + y.zero_point)


def reference(
    op: Lookup, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """The table's entry of every value."""
    return table(op, inputs[0].grid, out.grid)[values[0].astype(np.int32) + 128]


def _instance(layer: Layer) -> Instance:
    op = layer.node.op
    assert isinstance(op, Lookup)
    x, y = layer.inputs[0].grid, layer.output.grid
    size = layer.output.size
    return Instance(str(size), {"size": size}, (Constant("table", "int8_t", table(op, x, y)),))


KERNELS = (
    Kernel(
        name="lookup.portable",
        template="ops/lookup.c.j2",
        serves=lambda layer: True,
        instance=_instance,
        cycles=lambda layer: 9.0 * layer.output.size,
        footprints=lambda layer: (elementwise(layer.output.size),),
    ),
)
