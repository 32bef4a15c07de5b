"""Which kernel makes probabilities, every byte of it, and what it costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen import plan
from codegen.ir import Graph, per_tensor
from codegen.ops import KERNELS, OPS
from codegen.ops.softmax import LONGEST_QUICK_ROW
from tests.codegen import networks
from tests.codegen.firmware import every_byte, expected, on_core, write
from tests.codegen.test_small_kernels import counted, layer_of

(RECIPROCAL,) = (k for k in KERNELS["softmax"] if k.name == "softmax.reciprocal")


def softmax(shape: tuple[int, ...], scale: float = 0.1, y_scale: float = 1 / 256) -> Graph:
    return networks.network(
        OPS["softmax"](), [(shape, per_tensor(scale, 5))], per_tensor(y_scale, -128)
    )


@pytest.mark.parametrize(
    ("length", "target", "chosen"),
    [
        (12, "generic-m4", "softmax.reciprocal"),
        (12, "generic-m3", "softmax.reciprocal"),
        (LONGEST_QUICK_ROW, "generic-m4", "softmax.reciprocal"),
        (LONGEST_QUICK_ROW + 1, "generic-m4", "softmax.portable"),
        (12, "generic-m0plus", "softmax.portable"),
    ],
)
def test_which_rows_are_quick(length: int, target: str, chosen: str) -> None:
    assert plan.choose(layer_of(softmax((1, length)), target), "speed").name == chosen


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.integers(1, 3),
    length=st.integers(1, 70),
    scale=st.floats(1e-4, 2.0),
    y_scale=st.floats(0.002, 0.5),
    seed=st.integers(0, 2**32),
)
def test_every_byte_of_any_row(
    rows: int,
    length: int,
    scale: float,
    y_scale: float,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    graph = softmax((1, rows, length), scale, y_scale)
    inputs = networks.samples(graph, np.random.default_rng(seed))
    written = write(graph, "generic-m4", tmp_path_factory.mktemp("softmax"), RECIPROCAL)
    every_byte(graph, written, inputs)


@pytest.mark.parametrize("scale", [1e-5, 0.01, 3.0])
def test_every_byte_of_the_longest_row(scale: float, tmp_path: Path) -> None:
    """The sum is near both of its limits: all powers alike, and a single one."""
    graph = softmax((1, LONGEST_QUICK_ROW), scale, 2e-4)
    alone = np.full((1, LONGEST_QUICK_ROW), -128, np.int8)
    alone[0, 7] = 127
    (samples,) = networks.samples(graph, np.random.default_rng(2), 1)
    inputs = (np.concatenate([samples, alone]),)
    written = write(graph, "generic-m4", tmp_path, RECIPROCAL)
    np.testing.assert_array_equal(on_core(written, inputs), expected(graph, inputs))


@pytest.mark.parametrize(("length", "most"), [(12, 1_000), (1_000, 45_000)])
def test_price(length: int, most: int, tmp_path: Path) -> None:
    assert counted(softmax((1, length)), tmp_path, within=0.05) <= most
