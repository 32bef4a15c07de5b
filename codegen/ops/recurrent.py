"""Recurrent layers of float32 numbers: simple, gated (GRU), long short-term memory (LSTM)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen import recurrences, sums
from codegen.build import Converter
from codegen.ir import Array
from codegen.kernel import Constant, Instance, Layer
from codegen.plain import c_number, only_float, operands, plain_kernel, reference
from codegen.recurrences import GATES, Activation, Cell, Numbers
from codegen.scalar import FUNCTIONS

__all__ = ["KERNELS", "ONNX", "OP", "Recurrent", "reference"]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Recurrent:
    """Operands, as ONNX shapes them behind an axis for samples, by `given`.

    x (steps, batch, inputs), w (directions, gates * size, inputs), r (directions, gates * size, size); maybe
    b (directions, 2 * gates * size), h and c (directions, batch, size), p (directions, 3 * size).

    The result is (1, rows, directions, batch, size): a row per step if `keep` says "y", then one for the last
    state "h", then one for the last cell "c".

    Attributes:
        cell: which layer.
        given: the letters of the operands.
        keep: what the result holds, in the order of "yhc".
        reverse: per direction, whether the last step comes first.
        activations: per direction its functions, as ONNX orders them: name (codegen.scalar), parameters.
        clip: bound of what activation functions see.
        lengths: steps that each batch entry has; none: all.
        linear_before_reset: of GRU: whether the reset gate applies to products.
        input_forget: of LSTM: whether the forget gate is 1 minus the input gate.
    """

    kind: ClassVar[str] = "recurrent"
    cell: Cell
    given: str
    keep: str
    reverse: tuple[bool, ...]
    activations: tuple[tuple[Activation, ...], ...]
    clip: float | None = None
    lengths: tuple[int, ...] = ()
    linear_before_reset: bool = False
    input_forget: bool = False

    def infer(self, shapes: tuple[Shape, ...]) -> Shape:
        """(1, rows, directions, batch, size)."""
        found = dict(zip(self.given, shapes, strict=True))
        samples, steps, batch, inputs = found["x"]
        directions, size, gates = len(self.reverse), found["r"][-1], GATES[self.cell]
        wanted: dict[str, Shape] = {
            "w": (directions, gates * size, inputs),
            "r": (directions, gates * size, size),
            "b": (directions, 2 * gates * size),
            "h": (directions, batch, size),
            "c": (directions, batch, size),
            "p": (directions, 3 * size),
        }
        for letter, shape in found.items():
            if letter != "x" and shape != (1, *wanted[letter]):
                raise ValueError(
                    f"operand {letter} is {list(shape[1:])}, not {list(wanted[letter])}"
                )
        if self.lengths and (len(self.lengths) != batch or not min(self.lengths) >= 0):
            raise ValueError(f"lengths {list(self.lengths)} for a batch of {batch}")
        if max(self.lengths, default=0) > steps:
            raise ValueError(f"lengths {list(self.lengths)} of {steps} steps")
        rows = steps * ("y" in self.keep) + ("h" in self.keep) + ("c" in self.keep)
        return (samples, rows, directions, batch, size)

    def evaluate(self, inputs: tuple[Array, ...]) -> Array:
        """Step by step."""
        found = dict(zip(self.given, map(np.asarray, inputs), strict=True))
        samples, steps, batch, _ = found["x"].shape
        size = found["r"].shape[-1]
        y = np.zeros((samples, steps, len(self.reverse), batch, size), np.float32)
        last = np.zeros((2, samples, 1, len(self.reverse), batch, size), np.float32)
        for direction in range(len(self.reverse)):
            for entry in range(batch):
                self._run(found, direction, entry, y, last)
        kept = {"y": y, "h": last[0], "c": last[1]}
        return np.concatenate([kept[letter] for letter in self.keep], axis=1)

    def _run(
        self,
        found: dict[str, Numbers],
        direction: int,
        entry: int,
        y: Numbers,
        last: Numbers,
    ) -> None:
        """One direction of one batch entry."""
        step = recurrences.Step(
            self.cell,
            {letter: found[letter][:, direction] for letter in found.keys() & set("wrbp")},
            self.activations[direction],
            self.clip,
            self.linear_before_reset,
            self.input_forget,
        )
        state = np.zeros((len(y), 2, y.shape[-1]), np.float32)
        for index, letter in enumerate("hc"):
            if letter in found:
                state[:, index] = found[letter][:, direction, entry]
        h, c = state[:, 0], state[:, 1]
        length = self.lengths[entry] if self.lengths else y.shape[1]
        for number in range(length):
            time = length - 1 - number if self.reverse[direction] else number
            h, c = step.run(found["x"][:, time, entry], h, c)
            y[:, time, direction, entry] = h
        last[0, :, 0, direction, entry], last[1, :, 0, direction, entry] = h, c

    def result_type(self, types: tuple[str, ...]) -> str:
        """float32."""
        return only_float(types)

    def macs(self, shapes: tuple[Shape, ...]) -> int:
        """Products of one sample."""
        found = dict(zip(self.given, shapes, strict=True))
        _, steps, batch, inputs = found["x"]
        return steps * batch * found["r"][1] * found["r"][2] * (inputs + found["r"][3])


OP = Recurrent
ONNX: Mapping[str, Converter] = {}


def _instance(layer: Layer) -> Instance:
    op = layer.node.op
    assert isinstance(op, Recurrent)
    rows, constants = operands(layer)
    shapes = dict(zip(op.given, (tensor.shape for tensor in layer.inputs), strict=True))
    _, steps, batch, inputs = shapes["x"]
    if op.lengths:
        lengths = np.array(op.lengths, np.int32)
        constants = (*constants, Constant("lengths", "int32_t", lengths))
    directions, size = len(op.reverse), shapes["r"][-1]
    return Instance(
        label=f"{op.cell}_{steps}x{batch}x{inputs}_{size}_{op.keep}",
        params={
            "cell": op.cell,
            "operands": [{"name": n, **row} for n, row in zip(op.given, rows, strict=True)],
            "given": op.given,
            "keep": op.keep,
            "steps": steps,
            "batch": batch,
            "inputs": inputs,
            "size": size,
            "gates": GATES[op.cell],
            "sums": _sums(op),
            "directions": directions,
            "reverse": "direction == 1" if directions == 2 else "1" if op.reverse[0] else "",
            "functions": _functions(op),
            "clip": None if op.clip is None else c_number(float(np.float32(op.clip)), "float"),
            "lengths": bool(op.lengths),
            "linear": op.linear_before_reset,
            "input_forget": op.input_forget,
            "block": sums.BLOCK,
        },
        constants=constants,
    )


def _functions(op: Recurrent) -> list[list[str]]:
    """For every role its C expression, or one per direction where they differ."""
    found = []
    for role in zip(*op.activations, strict=True):
        texts = [FUNCTIONS[name].expression("float32", parameters) for name, parameters in role]
        found.append(texts[:1] if len(set(texts)) == 1 else texts)
    return found


def _sums(op: Recurrent) -> int:
    """Sums of products in a step, per element of the state."""
    return GATES[op.cell] + (op.cell == "gru" and op.linear_before_reset)


def _scratch(layer: Layer) -> int:
    """Sums, the state, the cell of LSTM, the state after GRU's reset."""
    op = layer.node.op
    assert isinstance(op, Recurrent)
    numbers = (
        _sums(op) + 1 + (op.cell == "lstm") + (op.cell == "gru" and not op.linear_before_reset)
    )
    return 4 * numbers * layer.output.shape[-1]


def _cycles(layer: Layer) -> float:
    op = layer.node.op
    assert isinstance(op, Recurrent)
    return sums.cycles(layer, op.macs(tuple(tensor.shape for tensor in layer.inputs)))


KERNELS = (plain_kernel("recurrent", "ops/recurrent.c.j2", _instance, _cycles, scratch=_scratch),)
