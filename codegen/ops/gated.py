"""Recurrent layers with gates, LSTM and GRU: int8 weights and values, a state of 16 bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

import numpy as np

from codegen import gates
from codegen.build import Builder, Converter, OnnxNode, as_floats
from codegen.ir import Array, FloatArray, IntArray, Tensor
from codegen.kernel import Constant, Footprint, Instance, Kernel, Layer, channel_block
from codegen.ops.concat import Concat
from codegen.quant.fixed import check_accumulator, exact_matmul, stable_matmul

Cell = Literal["lstm", "gru"]
GATES: Mapping[str, int] = {"lstm": 4, "gru": 3}


@dataclass(frozen=True, slots=True)
class Gated:
    """Operands: x (1, T, I), w (G*H, I), r (G*H, H), b (2, G*H); gates in the order of ONNX.

    b holds the biases beside w, then those beside r. The state begins at 0. The result is (1, T, H), or
    (1, H) after the last step. A GRU multiplies with r before it resets (ONNX: linear_before_reset).

    Attributes:
        reverse: whether time runs backwards; results stay at their places.
        last: whether only the state after the last step is wanted.
    """

    kind: ClassVar[str] = "gated"
    cell: Cell
    reverse: bool = False
    last: bool = False

    def infer(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """(1, T, H) or (1, H)."""
        x, w, r, b = shapes
        rows, hidden = r if len(r) == 2 else (0, 0)
        if len(x) != 3 or rows != GATES[self.cell] * hidden or w != (rows, x[-1]) or b != (2, rows):
            shown = ", ".join(str(list(shape)) for shape in shapes)
            raise ValueError(f"operands {shown} do not match")
        return (1, hidden) if self.last else (1, x[1], hidden)

    def macs(self, shapes: tuple[tuple[int, ...], ...]) -> int:
        """Every weight once a step."""
        x, w, r, _ = shapes
        return x[1] * (prod(w) + prod(r))

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """The layer in float32."""
        x, w, r, b = as_floats(inputs)
        hidden = np.zeros((len(x), r.shape[1]), np.float32)
        state, found = hidden, []
        step = _lstm if self.cell == "lstm" else _gru
        for values in self.in_order(x):
            from_x = stable_matmul(values, w) + b[0]
            from_h = stable_matmul(hidden, r) + b[1]
            hidden, state = step(from_x, from_h, state)
            found.append(hidden)
        return self.results(found)

    def in_order(self, x: Array) -> list[Array]:
        """The values of every step as they are taken, (samples, I) each."""
        steps = [x[:, t] for t in range(x.shape[1])]
        return steps[::-1] if self.reverse else steps

    def results(self, found: Sequence[Array]) -> Array:
        """What the steps gave, in the order in which they were taken."""
        if self.last:
            return found[-1]
        return np.stack(found[::-1] if self.reverse else found, axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class _Weights:
    """Constants of one direction: w (G*H, I), r (G*H, H), b (2, G*H)."""

    w: Array
    r: Array
    b: Array


def converter(cell: Cell) -> Converter:
    """The converter of LSTM or GRU, where all but the input is known and the state begins at 0."""

    def convert(node: OnnxNode, b: Builder) -> None:
        _check_form(node, b, cell)
        layout = node.integer("layout", 0)
        found = b.onnx_shape(b.get(node.inputs[0]))
        if len(found) != 3 or found[1 - layout] != 1:
            raise node.unsupported(f"an input of shape {list(found)} holds no batch of one")
        x = b.real_behind(node, 0, (1, found[layout], found[2]))
        ways = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
        directions = ways[node.text("direction", "forward")]
        weights = _weights(node, b, cell, len(directions))
        for index, last in ((0, False), (1, True)):
            if index < len(node.outputs) and node.outputs[index]:
                _emit(node, b, x, cell, weights, index, last)
        if len(node.outputs) > 2 and node.outputs[2]:
            b.withhold(node.outputs[2], node.unsupported("its cell is not given away", FLOAT_HINT))

    return convert


FLOAT_HINT = "--weights float32 has all outputs"


def _emit(
    node: OnnxNode,
    b: Builder,
    x: str,
    cell: Cell,
    weights: list[tuple[bool, _Weights]],
    index: int,
    last: bool,
) -> None:
    """Both directions of an output, one beside the other."""
    layout, steps = node.integer("layout", 0), b.shape(x)[1]
    made = []
    for reverse, given in weights:
        constants = [
            b.constant(array, f"{node.label}.{name}")
            for name, array in (("w", given.w), ("r", given.r), ("b", given.b))
        ]
        made.append(b.emit(Gated(cell, reverse, last), (x, *constants), node.sources))
    y = made[0]
    if len(made) > 1:
        y = b.emit(Concat(b.rank(y) - 1), tuple(made), node.sources)
    ways, hidden = len(made), weights[0][1].r.shape[1]
    inner = (ways, 1, hidden) if layout == 0 else (1, ways, hidden)
    whole = (steps, ways, 1, hidden) if layout == 0 else (1, steps, ways, hidden)
    b.set(node.outputs[index], b.viewed(y, inner if last else whole, node.sources))


def _check_form(node: OnnxNode, b: Builder, cell: Cell) -> None:
    plain = node.reals("activation_alpha") is None and node.reals("activation_beta") is None
    usual = node.attributes.get("activations")
    ways = 2 if node.text("direction", "forward") == "bidirectional" else 1
    names = (b"Sigmoid", b"Tanh", b"Tanh") if cell == "lstm" else (b"Sigmoid", b"Tanh")
    if (usual is not None and usual != names * ways) or not plain:
        raise node.unsupported("only sigmoid and tanh are supported")
    if "clip" in node.attributes or node.integer("input_forget", 0) or node.has(7):
        raise node.unsupported("clipped or coupled gates and peepholes are not supported")
    if cell == "gru" and not node.integer("linear_before_reset", 0):
        raise node.unsupported("only linear_before_reset is supported")
    if node.has(4):
        raise node.unsupported("lengths of sequences are not supported")
    for index in (5, 6):
        value = b.static(node, index)
        if value is not None and np.any(value):
            raise node.unsupported("a state that does not begin at 0 is not supported")


def _weights(node: OnnxNode, b: Builder, cell: Cell, ways: int) -> list[tuple[bool, _Weights]]:
    w, r, bias = (b.static(node, index) for index in (1, 2, 3))
    if w is None or r is None or w.ndim != 3 or r.ndim != 3 or len(w) != ways or len(r) != ways:
        raise node.unsupported("weights of this form are not supported")
    if bias is None:
        bias = np.zeros((ways, 2 * w.shape[1]), np.float32)
    if bias.shape != (ways, 2 * w.shape[1]):
        raise node.unsupported(f"biases of shape {list(bias.shape)}")
    backwards = node.text("direction", "forward") == "reverse"
    return [
        (backwards or way == 1, _Weights(w[way], r[way], bias[way].reshape(2, -1)))
        for way in range(ways)
    ]


def _sigmoid(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-x)), np.float32)


def _lstm(x: FloatArray, h: FloatArray, cell: FloatArray) -> tuple[FloatArray, FloatArray]:
    i, o, f, c = np.split(x + h, 4, axis=1)
    new = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(c)
    return _sigmoid(o) * np.tanh(new), new


def _gru(x: FloatArray, h: FloatArray, state: FloatArray) -> tuple[FloatArray, FloatArray]:
    (xz, xr, xn), (hz, hr, hn) = (np.split(part, 3, axis=1) for part in (x, h))
    z = _sigmoid(xz + hz)
    new = (1 - z) * np.tanh(xn + _sigmoid(xr + hr) * hn) + z * state
    return new, new


OP = Gated
ONNX: Mapping[str, Converter] = {"GRU": converter("gru"), "LSTM": converter("lstm")}


# Integers: the reference, and the kernels that reproduce it.


def reference(
    op: Gated, values: tuple[Array, ...], inputs: tuple[Tensor, ...], out: Tensor
) -> Array:
    """int8 results in steps of 1/128; see codegen.gates."""
    x, w, r, b = values
    scale = gates.scaling(inputs[0].grid, inputs[1].grid, inputs[2].grid)
    centred = x.astype(np.int32) - inputs[0].grid.zero_point
    hidden: IntArray = np.zeros((len(x), r.shape[1]), np.int64)
    state, found = hidden, []
    fraction = gates.cell_fraction(x.shape[1])
    bias = b.astype(np.int64)
    for step in op.in_order(centred):
        from_x = exact_matmul(step, w).astype(np.int64) * scale.x
        from_h = exact_matmul(hidden.astype(np.int32), r).astype(np.int64) * scale.h
        if op.cell == "lstm":
            sums = gates.gate_sums(from_x + from_h, bias[0] + bias[1], scale.shift)
            split = tuple(np.split(sums, 4, axis=1))
            state, hidden = gates.lstm_step(split, state, fraction)
        else:
            state, hidden = _gru_integers(from_x, from_h, bias, scale, state)
        found.append(hidden.astype(np.int8))
    return op.results(found)


def _gru_integers(
    from_x: IntArray, from_h: IntArray, bias: IntArray, scale: gates.Scaling, state: IntArray
) -> tuple[IntArray, IntArray]:
    width = state.shape[1]
    last = slice(2 * width, None)
    both = gates.gate_sums(from_x + from_h, bias[0] + bias[1], scale.shift)
    fresh = gates.gate_sums(from_x[:, last], bias[0, last], scale.shift[last])
    kept = gates.gate_sums(from_h[:, last], bias[1, last], scale.shift[last])
    return gates.gru_step((both[:, :width], both[:, width : 2 * width], fresh), kept, state)


def _instance(layer: Layer) -> Instance:
    op = layer.node.op
    assert isinstance(op, Gated)
    x, w, r, b = layer.inputs
    steps, width, hidden = x.shape[1], x.shape[2], r.shape[1]
    check_accumulator(255 * 128 * max(width, hidden), layer.label)
    scale = gates.scaling(x.grid, w.grid, r.grid)
    bias = b.values.astype(np.int64)
    apart = bias.copy()
    if op.cell == "lstm":
        apart = bias.sum(axis=0, keepdims=True)
    else:
        apart[0, : 2 * hidden] += bias[1, : 2 * hidden]
    offsets = -x.grid.zero_point * w.values.astype(np.int64).sum(axis=1)
    constants = (
        Constant("weights", "int8_t", w.values, w.size),
        Constant("recurrent", "int8_t", r.values, r.size),
        Constant("offsets", "int32_t", offsets),
        Constant("bias", "int32_t", apart),
        Constant("scale_x", "int32_t", scale.x),
        Constant("scale_h", "int32_t", scale.h),
        Constant("shifts", "uint8_t", scale.shift),
        Constant("sigmoid", "int16_t", gates.sigmoid_table()),
        Constant("tanh", "int16_t", gates.tanh_table()),
    )
    params = {
        "cell": op.cell,
        "reverse": op.reverse,
        "last": op.last,
        "steps": steps,
        "width": width,
        "hidden": hidden,
        "rows": len(w.values),
        "fraction": gates.cell_fraction(steps),
        "groups": _groups(GATES[op.cell], channel_block(layer.core)),
    }
    return Instance(f"{op.cell}_{steps}x{width}_{hidden}", params, constants)


def _groups(count: int, block: int) -> list[list[int]]:
    """Gates whose sums run at once: as many as share the load of a value in registers."""
    return [list(range(first, min(first + block, count))) for first in range(0, count, block)]


def _scratch(layer: Layer) -> int:
    """Gates and state in 16 bits, hidden values in 8; a GRU's gate h is held in two parts."""
    op, (rows, hidden) = layer.node.op, layer.inputs[2].shape
    assert isinstance(op, Gated)
    apart = hidden if op.cell == "gru" else 0
    return 2 * (rows + apart + hidden) + -(-hidden // 4) * 4


def _cycles(layer: Layer) -> float:
    x, (rows, hidden) = layer.inputs[0], layer.inputs[2].shape
    return float(x.shape[1] * (layer.dot_cycles(rows * (x.shape[2] + hidden)) + 120.0 * rows))


def _footprints(layer: Layer) -> tuple[Footprint | None, ...]:
    return (None,)


KERNELS = (
    Kernel(
        name="gated.portable",
        template="ops/gated.c.j2",
        serves=lambda layer: True,
        instance=_instance,
        cycles=_cycles,
        footprints=_footprints,
        scratch=_scratch,
        passes=lambda layer: float(layer.inputs[0].shape[1]),
    ),
)
