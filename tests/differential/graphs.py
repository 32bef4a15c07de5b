"""Random valid ONNX graphs: one to twelve operators on tensors of two to four axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

IR_VERSION, OPSET = 9, 17
MOST_ELEMENTS = 4096
Shape = tuple[int, ...]


@dataclass
class Random:
    """A graph under construction: what was made so far, by name, with its shape."""

    random: np.random.Generator
    shapes: dict[str, Shape] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def pick(self, ranks: tuple[int, ...] = (2, 3, 4)) -> str | None:
        """A tensor that was made, the later the likelier."""
        known = [name for name, shape in self.shapes.items() if len(shape) in ranks]
        return (
            known[-1 - min(int(self.random.geometric(0.5)) - 1, len(known) - 1)] if known else None
        )

    def integer(self, low: int, high: int) -> int:
        """Uniform, both ends included."""
        return int(self.random.integers(low, high + 1))

    def constant(self, array: Any, kind: Any = np.float32) -> str:
        """Adds a constant."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, kind), name))
        return name

    def normal(self, *shape: int) -> str:
        """Adds random weights that keep sums near one."""
        fan = max(1, int(np.prod(shape[1:])))
        return self.constant(self.random.normal(0, fan**-0.5, shape))

    def add(self, op: str, inputs: list[str], shape: Shape, **attributes: Any) -> bool:
        """Adds a node, unless its result is empty or too large."""
        if min(shape, default=1) < 1 or np.prod(shape) > MOST_ELEMENTS:
            return False
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], f"{op}_{name}", **attributes))
        self.shapes[name] = shape
        return True


Maker = Callable[[Random], bool]
UNARY = (
    "Abs", "Neg", "Relu", "Sigmoid", "Tanh", "Erf", "HardSwish", "LeakyRelu", "Elu", "Softplus", "Floor",
    "Ceil", "Softsign", "Identity",
)  # fmt: skip


def _unary(g: Random) -> bool:
    x = g.pick()
    return x is not None and g.add(str(g.random.choice(UNARY)), [x], g.shapes[x])


def _binary(g: Random) -> bool:
    """With a tensor of the same shape, or a constant that broadcasts."""
    x = g.pick()
    if x is None:
        return False
    shape = g.shapes[x]
    op = str(g.random.choice(["Add", "Sub", "Mul", "Max", "Min"]))
    mates = [name for name, other in g.shapes.items() if other == shape]
    if g.random.random() < 0.5:
        y = str(g.random.choice(mates))
    else:
        y = g.constant(g.random.normal(0, 1, [s if g.random.random() < 0.5 else 1 for s in shape]))
    return g.add(op, [x, y], shape)


def _conv(g: Random) -> bool:
    x = g.pick((3, 4))
    if x is None:
        return False
    _, depth, *sizes = g.shapes[x]
    kernel = [g.integer(1, min(3, size)) for size in sizes]
    stride = [g.integer(1, 2) for _ in sizes]
    pads = [g.integer(0, k - 1) for k in kernel] * 2
    group = depth if g.random.random() < 0.3 else 1
    filters = depth * g.integer(1, 2) if group > 1 else g.integer(1, 8)
    out = [
        (s + 2 * p - k) // d + 1
        for s, p, k, d in zip(sizes, pads[: len(sizes)], kernel, stride, strict=True)
    ]
    w = g.normal(filters, depth // group, *kernel)
    bias = g.constant(g.random.normal(0, 0.5, filters))
    shape = (1, filters, *out)
    return g.add("Conv", [x, w, bias], shape, strides=stride, pads=pads, group=group)


def _pool(g: Random) -> bool:
    x = g.pick((4,))
    if x is None:
        return False
    _, depth, *sizes = g.shapes[x]
    if g.random.random() < 0.2:
        return g.add("GlobalAveragePool", [x], (1, depth, 1, 1))
    kernel = [g.integer(1, min(3, size)) for size in sizes]
    stride = [g.integer(1, 2) for _ in sizes]
    out = [(s - k) // d + 1 for s, k, d in zip(sizes, kernel, stride, strict=True)]
    op = str(g.random.choice(["MaxPool", "AveragePool"]))
    return g.add(op, [x], (1, depth, *out), kernel_shape=kernel, strides=stride)


def _gemm(g: Random) -> bool:
    x = g.pick((2,))
    if x is None:
        return False
    width, out = g.shapes[x][1], g.integer(1, 12)
    inputs = [x, g.normal(out, width), g.constant(g.random.normal(0, 0.5, out))]
    return g.add("Gemm", inputs, (1, out), transB=1)


def _matmul(g: Random) -> bool:
    x = g.pick((3,))
    if x is None:
        return False
    batch, rows, width = g.shapes[x]
    out = g.integer(1, 10)
    return g.add(
        "MatMul", [x, g.constant(g.random.normal(0, width**-0.5, (width, out)))], (batch, rows, out)
    )


def _reshape(g: Random) -> bool:
    x = g.pick()
    if x is None:
        return False
    total = int(np.prod(g.shapes[x]))
    factors = [n for n in range(1, total + 1) if total % n == 0]
    first = int(g.random.choice(factors))
    shape = (1, total) if g.random.random() < 0.5 else (1, first, total // first)
    return g.add("Reshape", [x, g.constant(shape, np.int64)], shape)


def _transpose(g: Random) -> bool:
    x = g.pick((3, 4))
    if x is None:
        return False
    shape = g.shapes[x]
    perm = [0, *(1 + int(i) for i in g.random.permutation(len(shape) - 1))]
    return g.add("Transpose", [x], tuple(shape[axis] for axis in perm), perm=perm)


def _concat(g: Random) -> bool:
    x = g.pick()
    if x is None:
        return False
    shape = g.shapes[x]
    axis = g.integer(1, len(shape) - 1)
    mates = [
        name
        for name, other in g.shapes.items()
        if len(other) == len(shape)
        and all(a == b for i, (a, b) in enumerate(zip(shape, other, strict=True)) if i != axis)
    ]
    y = str(g.random.choice(mates))
    joined = tuple(s + g.shapes[y][axis] if i == axis else s for i, s in enumerate(shape))
    return g.add("Concat", [x, y], joined, axis=axis)


def _slice(g: Random) -> bool:
    x = g.pick()
    if x is None:
        return False
    shape = list(g.shapes[x])
    axis = g.integer(1, len(shape) - 1)
    start = g.integer(0, shape[axis] - 1)
    end, step = g.integer(start + 1, shape[axis]), g.integer(1, 2)
    shape[axis] = -(-(end - start) // step)
    names = [g.constant([value], np.int64) for value in (start, end, axis, step)]
    return g.add("Slice", [x, *names], tuple(shape))


def _pad(g: Random) -> bool:
    x = g.pick((3, 4))
    if x is None:
        return False
    shape = g.shapes[x]
    before = [0, *(g.integer(0, 2) for _ in shape[1:])]
    after = [0, *(g.integer(0, 2) for _ in shape[1:])]
    out = tuple(s + b + a for s, b, a in zip(shape, before, after, strict=True))
    return g.add("Pad", [x, g.constant([*before, *after], np.int64)], out)


def _softmax(g: Random) -> bool:
    x = g.pick()
    return x is not None and g.add("Softmax", [x], g.shapes[x], axis=-1)


def _reduce(g: Random) -> bool:
    x = g.pick((3, 4))
    if x is None:
        return False
    shape = g.shapes[x]
    axis = g.integer(1, len(shape) - 1)
    out = tuple(1 if i == axis else s for i, s in enumerate(shape))
    op = str(g.random.choice(["ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2"]))
    return g.add(op, [x], out, axes=[axis], keepdims=1)


def _normalize(g: Random) -> bool:
    x = g.pick((3, 4))
    if x is None:
        return False
    shape = g.shapes[x]
    if g.random.random() < 0.5:
        names = [g.constant(g.random.normal(1, 0.2, shape[-1])) for _ in range(2)]
        return g.add("LayerNormalization", [x, *names], shape)
    scale, bias, mean = (g.constant(g.random.normal(1, 0.2, shape[1])) for _ in range(3))
    variance = g.constant(g.random.uniform(0.5, 2, shape[1]))
    return g.add("BatchNormalization", [x, scale, bias, mean, variance], shape)


MAKERS: tuple[Maker, ...] = (
    _unary, _binary, _conv, _pool, _gemm, _matmul, _reshape, _transpose, _concat, _slice, _pad,
    _softmax, _reduce, _normalize, _unary, _binary, _conv,
)  # fmt: skip


def make(seed: int) -> onnx.ModelProto:
    """The graph of a number: same number, same graph."""
    random = np.random.default_rng(seed)
    g = Random(random)
    forms: tuple[Shape, ...] = (
        (1, g.integer(1, 6), g.integer(3, 9), g.integer(3, 9)),
        (1, g.integer(1, 6), g.integer(3, 12)),
        (1, g.integer(2, 24)),
    )
    g.shapes["x"] = forms[g.integer(0, 2)]
    wanted = g.integer(1, 12)
    tries = 0
    while len(g.nodes) < wanted and tries < 100:
        MAKERS[g.integer(0, len(MAKERS) - 1)](g)
        tries += 1
    inputs = [helper.make_tensor_value_info("x", 1, g.shapes["x"])]
    last = g.nodes[-1].output[0]
    outputs = [helper.make_tensor_value_info(last, 1, g.shapes[last])]
    graph = helper.make_graph(g.nodes, f"random{seed}", inputs, outputs, g.constants)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
