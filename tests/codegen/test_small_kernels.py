"""Which kernel adds or averages, and what it costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codegen import plan
from codegen.ir import Graph, per_tensor
from codegen.kernel import Layer
from codegen.ops import OPS
from targets.target import load
from tests.codegen import networks
from tests.codegen.firmware import expected, inferred, on_core, write

A, B, Y = per_tensor(0.1, 5), per_tensor(0.07, -128), per_tensor(0.15, 20)


def layer_of(graph: Graph, target: str = "generic-m4") -> Layer:
    node = graph.nodes[0]
    operands = tuple(graph.tensors[name] for name in node.inputs)
    return Layer(node, operands, graph.tensors[node.output], load(target).core)


def addition(shape: tuple[int, ...] = (1, 4, 4, 8), y_scale: float = 0.15) -> Graph:
    return networks.network(OPS["add"](), [(shape, A), (shape, B)], per_tensor(y_scale, 20))


def test_words_of_activations_meet_in_assembly() -> None:
    assert plan.choose(layer_of(addition())).name == "add.dsp"


@pytest.mark.parametrize(
    ("graph", "target"),
    [
        (addition(), "generic-m0plus"),
        (addition((1, 3, 3, 3)), "generic-m4"),
        (addition(y_scale=900.0), "generic-m4"),  # the zero point, shifted, leaves 32 bits
        (networks.network(OPS["add"](bits=21), [((1, 8), A), ((1, 8), B)], Y), "generic-m4"),
        (networks.network(OPS["add"](), [((1, 2, 8), A), ((1, 1, 8), B)], Y), "generic-m4"),
    ],
)
def test_other_sums_are_portable(graph: Graph, target: str) -> None:
    assert plan.choose(layer_of(graph, target)).name == "add.portable"


@pytest.mark.parametrize(
    ("shape", "most"), [((1, 16, 16, 16), 5.9), ((1, 1, 1, 1032), 6.2), ((1, 1, 1, 1028), 6.8)]
)
def test_price_of_a_sum(shape: tuple[int, ...], most: float, tmp_path: Path) -> None:
    assert measured(addition(shape), tmp_path) <= most * np.prod(shape)


def average(shape: tuple[int, ...], kernel: tuple[int, int]) -> Graph:
    return networks.network(OPS["average_pool"](kernel), [(shape, A)], Y)


def test_whole_images_are_averaged_in_assembly() -> None:
    assert plan.choose(layer_of(average((1, 16, 16, 4), (16, 16)))).name == "average_pool.dsp"


@pytest.mark.parametrize(
    ("graph", "target"),
    [
        (average((1, 4, 4, 8), (4, 4)), "generic-m0plus"),
        (average((1, 4, 4, 6), (4, 4)), "generic-m4"),
        (average((1, 16, 17, 4), (16, 17)), "generic-m4"),  # sums leave 16 bits
    ],
)
def test_other_averages_are_portable(graph: Graph, target: str) -> None:
    assert plan.choose(layer_of(graph, target)).name == "average_pool.portable"


@pytest.mark.parametrize("shape", [(1, 8, 8, 64), (1, 5, 3, 128)])
def test_price_of_an_average(shape: tuple[int, ...], tmp_path: Path) -> None:
    graph = average(shape, (shape[1], shape[2]))
    assert measured(graph, tmp_path) <= 3.5 * np.prod(shape)


def measured(graph: Graph, folder: Path) -> int:
    """Cycles of a layer that gives every byte, and the predicted cycles within 3 %."""
    return counted(graph, folder, within=0.03)


def counted(graph: Graph, folder: Path, within: float) -> int:
    """Cycles of a layer that gives every byte; the prediction may be off by such a share."""
    written = write(graph, "generic-m4", folder)
    inputs = networks.samples(graph, np.random.default_rng(1), 1)
    np.testing.assert_array_equal(on_core(written, inputs), expected(graph, inputs))
    run = inferred(written, inputs)
    layer = layer_of(graph)
    cycles = run.steps[0].cycles
    assert plan.choose(layer).cycles(layer) == pytest.approx(cycles, rel=within)
    return cycles
