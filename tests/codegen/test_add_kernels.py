"""Which kernel adds, and what it costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codegen import plan
from codegen.ir import Graph, per_tensor
from codegen.kernel import Layer
from codegen.ops import OPS
from emulator.cortex_m import CortexM
from emulator.model import EmulatedModel
from targets.target import load
from tests.codegen import networks
from tests.codegen.test_kernels import expected, on_core, write

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


@pytest.mark.parametrize("shape", [(1, 16, 16, 16), (1, 1, 1, 1028)])
def test_price_is_the_prediction(shape: tuple[int, ...], tmp_path: Path) -> None:
    graph = addition(shape)
    written = write(graph, "generic-m4", tmp_path)
    inputs = networks.samples(graph, np.random.default_rng(1), 1)
    np.testing.assert_array_equal(on_core(written, inputs), expected(graph, inputs))
    machine = CortexM(load("generic-m4"), tmp_path / "net.elf", count=True)
    with EmulatedModel(machine, written.image) as model:
        run = model.infer(tuple(x[0].tobytes() for x in inputs))
    layer = layer_of(graph)
    predicted = plan.choose(layer).cycles(layer)
    assert predicted == pytest.approx(run.steps[0].cycles, rel=0.03)
    assert run.steps[0].cycles <= 7 * layer.output.size
