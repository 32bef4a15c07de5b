"""One step of a recurrent layer in float32, operation by operation as templates/ops/recurrent.c.j2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from codegen.scalar import FUNCTIONS

Cell = Literal["rnn", "gru", "lstm"]
Activation = tuple[str, tuple[float, ...]]
Numbers: TypeAlias = npt.NDArray[Any]

GATES: Mapping[str, int] = {"rnn": 1, "gru": 3, "lstm": 4}
"""Rows of weights per element of the state."""
ONE = np.float32(1)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What a step needs; see codegen.ops.recurrent.

    Attributes:
        weights: w, r and maybe b, p of one direction, samples along axis 0.
    """

    cell: Cell
    weights: Mapping[str, Numbers]
    activations: tuple[Activation, ...]
    clip: float | None
    linear_before_reset: bool
    input_forget: bool

    def run(self, x: Numbers, h: Numbers, c: Numbers) -> tuple[Numbers, Numbers]:
        """The new state and cell of (samples, inputs), (samples, size), (samples, size)."""
        if self.cell == "lstm":
            return self._lstm(x, h, c)
        new = self._gru(x, h) if self.cell == "gru" else self._activated(0, self._all(x, h))
        return new, c

    def _lstm(self, x: Numbers, h: Numbers, c: Numbers) -> tuple[Numbers, Numbers]:
        i, o, f, g = np.split(self._all(x, h), 4, axis=-1)
        p = self.weights.get("p")
        pi, po, pf = np.split(p, 3, axis=-1) if p is not None else (None, None, None)
        taken = self._activated(0, i if pi is None else i + pi * c)
        kept = (
            ONE - taken
            if self.input_forget
            else self._activated(0, f if pf is None else f + pf * c)
        )
        cell = kept * c + taken * self._activated(1, g)
        shown = self._activated(0, o if po is None else o + po * cell)
        return shown * self._function(2, cell), cell

    def _gru(self, x: Numbers, h: Numbers) -> Numbers:
        size, r = h.shape[-1], self.weights["r"]
        both, products = 2 * size, self._start()
        if self.linear_before_reset and "b" in self.weights:
            products[:, both:] = self.weights["b"][:, both : 3 * size]
        products = _added(products, x, self.weights["w"])
        gates = self._activated(0, _added(products[:, :both], h, r[:, :both]))
        z, reset = gates[:, :size], gates[:, size:]
        if self.linear_before_reset:
            bias = self.weights["b"][:, 5 * size :] if "b" in self.weights else np.zeros_like(h)
            new = products[:, both:] + reset * _added(bias, h, r[:, both:])
        else:
            new = _added(products[:, both:], reset * h, r[:, both:])
        result: Numbers = (ONE - z) * self._activated(1, new) + z * h
        return result

    def _all(self, x: Numbers, h: Numbers) -> Numbers:
        """Biases, then products with the operand, then with the state."""
        return _added(_added(self._start(), x, self.weights["w"]), h, self.weights["r"])

    def _start(self) -> Numbers:
        rows = self.weights["w"].shape[-2]
        bias = self.weights.get("b")
        if bias is None:
            return np.zeros((1, rows), np.float32)
        return np.asarray(bias[:, :rows] + bias[:, rows:], np.float32)

    def _activated(self, role: int, x: Numbers) -> Numbers:
        if self.clip is not None:
            bound = np.float32(self.clip)
            x = np.where(x < -bound, -bound, np.where(x > bound, bound, x))
        return self._function(role, x)

    def _function(self, role: int, x: Numbers) -> Numbers:
        name, parameters = self.activations[role]
        return np.asarray(FUNCTIONS[name].compute((x,), parameters), np.float32)


def _added(start: Numbers, x: Numbers, w: Numbers) -> Numbers:
    """start + w · x, product by product: (samples, rows), (samples, length), (samples, rows, length)."""
    total = start
    for k in range(x.shape[-1]):
        total = total + x[:, k, None] * w[:, :, k]
    return total
