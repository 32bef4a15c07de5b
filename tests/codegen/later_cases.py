"""Networks of one operator: recurrent layers and copies. `tests.codegen.cases` has the others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from codegen import gates
from codegen.copies import joined, transposed
from codegen.ir import Graph, Quant, per_tensor
from codegen.ops.gated import GATES, Cell, Gated
from tests.codegen.networks import constant, network

BIAS_GRID = per_tensor(2.0**-gates.BIAS_FRACTION, 0, 32)


def recurrent(g: np.random.Generator) -> Iterator[tuple[str, Graph]]:
    """LSTM and GRU, both ways of time, short and long, the last state alone."""
    cells: tuple[Cell, ...] = ("lstm", "gru")
    for cell in cells:
        yield f"{cell}-forward", _layer(Gated(cell), (5, 6, 4), g)
        yield f"{cell}-last", _layer(Gated(cell, last=True), (3, 3, 5), g)
        yield f"{cell}-backward", _layer(Gated(cell, reverse=True), (12, 1, 3), g)
        yield f"{cell}-extreme", _layer(Gated(cell), (4, 7, 2), g, extreme=-127)


def copies(g: np.random.Generator) -> Iterator[tuple[str, Graph]]:
    """A copy that may overlap its operand, and one of several operands."""
    x = per_tensor(0.1, 7)
    turned = transposed((1, 3, 4, 5), (0, 2, 1, 3))
    yield "move-turned", network(turned, [((1, 3, 4, 5), x)], x)
    shapes = ((1, 3, 2), (1, 3, 4))
    yield "move-joined", network(joined(shapes, 2), [(shape, x) for shape in shapes], x)


def _layer(
    op: Gated, sizes: tuple[int, int, int], g: np.random.Generator, extreme: int | None = None
) -> Graph:
    steps, width, hidden = sizes
    rows = GATES[op.cell] * hidden
    constants = []
    for name, columns in (("w", width), ("r", hidden)):
        data = g.integers(-127, 128, (rows, columns)).astype(np.int8)
        if extreme is not None:
            data = np.full((rows, columns), extreme, np.int8)
        scales = tuple(float(scale) for scale in g.uniform(0.002, 0.02, rows))
        constants.append(constant(name, data, Quant(scales, (0,) * rows, 0)))
    bias = gates.bias_integers(g.normal(0, 0.5, (2, rows)))
    constants.append(constant("b", bias, BIAS_GRID))
    x = [((1, steps, width), per_tensor(0.03, -5))]
    return network(op, x, per_tensor(1 / 128, 0), tuple(constants))
