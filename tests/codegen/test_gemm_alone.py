"""conv2d.gemm's last pixel of an odd number: every byte, by any rest of pairs and channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen.ir import Graph
from codegen.ops import KERNELS, OPS
from tests.codegen import networks
from tests.codegen.firmware import expected, on_core, write
from tests.codegen.test_small_kernels import counted

(GEMM,) = (k for k in KERNELS["conv2d"] if k.name == "conv2d.gemm")
CLAMPS = (None, (0.0, 6.0), (0.0, float("inf")), (float("-inf"), 2.0))


def convolution(
    shape: tuple[int, int, int],
    channels: int,
    clamp: tuple[float, float] | None = None,
    extreme: int | None = None,
) -> Graph:
    weights, generator = (channels, 1, 1, shape[2]), np.random.default_rng(sum(shape) + channels)
    grids = ((0.05, 3), (3.0, -11))
    op = OPS["conv2d"](clamp=clamp)
    return networks.weighted(op, (1, *shape), weights, generator, grids, extreme)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    pixels=st.sampled_from([1, 3, 5]),
    depth=st.integers(1, 40),
    channels=st.integers(1, 9),
    clamp=st.sampled_from(CLAMPS),
    extreme=st.sampled_from([None, -127, 127]),
    seed=st.integers(0, 2**32),
)
def test_every_byte_of_an_odd_number_of_pixels(
    pixels: int,
    depth: int,
    channels: int,
    clamp: tuple[float, float] | None,
    extreme: int | None,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    graph = convolution((pixels, 1, depth), channels, clamp, extreme)
    inputs = networks.samples(graph, np.random.default_rng(seed), 1)
    written = write(graph, "generic-m4", tmp_path_factory.mktemp("gemm"), GEMM)
    np.testing.assert_array_equal(on_core(written, inputs), expected(graph, inputs))


@pytest.mark.parametrize(
    ("shape", "channels", "most"), [((25, 5, 64), 64, 543_000), ((9, 9, 128), 32, 358_500)]
)
def test_price(shape: tuple[int, int, int], channels: int, most: int, tmp_path: Path) -> None:
    """A pair for the last pixel took 544,430 and 360,994 cycles."""
    assert counted(convolution(shape, channels), tmp_path, within=0.03) <= most
