"""1x1 convolution with weights staged in scratch: layers it serves, every byte, when it pays, its price."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen import plan
from codegen.ir import Graph
from codegen.ops import KERNELS, OPS
from codegen.select import candidate
from targets.target import load
from tests.codegen import networks
from tests.codegen.firmware import every_byte, expected, on_core, write
from tests.codegen.test_depthwise_strips import layer_of, measured, samples

NAME = "conv2d.gemm_staged"
KERNEL = next(kernel for kernel in KERNELS["conv2d"] if kernel.name == NAME)
USUAL = next(kernel for kernel in KERNELS["conv2d"] if kernel.name == "conv2d.gemm")
SLOW_FLASH = "nucleo-l4r5zi"
WIDE = ((0.05, 3), (3.0, -11))


def pointwise(
    pixels: int,
    depth: int,
    channels: int,
    grids: tuple[tuple[float, int], tuple[float, int]] = WIDE,
    extreme: int | None = None,
    clamp: tuple[float, float] | None = None,
) -> Graph:
    op = OPS["conv2d"](clamp=clamp) if clamp else OPS["conv2d"]()
    generator = np.random.default_rng(pixels * 1000 + depth)
    shape = (1, pixels, 1, depth)
    return networks.weighted(op, shape, (channels, 1, 1, depth), generator, grids, extreme)


@pytest.mark.parametrize("size", [(2, 8, 8), (9, 8, 6), (9, 400, 8)])
def test_other_layers_are_refused(size: tuple[int, int, int]) -> None:
    """Two pixels have nothing to share; ends of blocks; blocks that are too long to copy without a loop."""
    assert not KERNEL.serves(layer_of(pointwise(*size)))


def test_windows_with_borders_are_refused() -> None:
    op = OPS["conv2d"](pads=(1, 1, 1, 1))
    graph = networks.weighted(op, (1, 5, 5, 8), (8, 3, 3, 8), np.random.default_rng(1), WIDE)
    assert not KERNEL.serves(layer_of(graph))


@st.composite
def convolutions(draw: st.DrawFn) -> Graph:
    points = draw(st.tuples(st.integers(-128, 127), st.integers(-128, 127)))
    return pointwise(
        draw(st.integers(3, 50)),
        draw(st.sampled_from([1, 2, 3, 5, 8, 16, 30, 64, 71, 140])),
        4 * draw(st.integers(1, 5)),
        ((draw(st.floats(1e-3, 0.1)), points[0]), (draw(st.floats(0.01, 10.0)), points[1])),
        draw(st.sampled_from([None, None, -127, 127])),
        draw(st.sampled_from([None, (0.0, 6.0), (0.0, float("inf"))])),
    )


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=convolutions(), seed=st.integers(0, 2**32))
def test_every_byte_of_any_convolution(
    graph: Graph, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not KERNEL.serves(layer_of(graph)):
        return
    inputs = samples(graph, seed)
    written = write(graph, "generic-m4", tmp_path_factory.mktemp("staged"), KERNEL)
    every_byte(graph, written, inputs)


@pytest.mark.parametrize("extreme", [None, -127, 127])
@pytest.mark.parametrize(
    ("target", "compiler"),
    [("generic-m4", "zig"), ("generic-m7", "gcc"), ("generic-m33", "gcc"), ("generic-m33", "zig")],
)
def test_every_byte_on_other_cores_and_compilers(
    extreme: int | None, target: str, compiler: str, tmp_path: Path
) -> None:
    graph = pointwise(37, 67, 12, extreme=extreme)
    written = write(graph, target, tmp_path, KERNEL)
    inputs = samples(graph, 7)
    np.testing.assert_array_equal(on_core(written, inputs, compiler), expected(graph, inputs))


@pytest.mark.parametrize(("depth", "channels"), [(16, 16), (8, 24), (64, 8)])
def test_output_may_run_over_the_input(depth: int, channels: int, tmp_path: Path) -> None:
    graph = pointwise(45, depth, channels)
    written = write(graph, "generic-m4", tmp_path, KERNEL)
    both = 45 * max(depth, channels) + KERNEL.scratch(layer_of(graph))
    assert written.image.arena_size <= both + 16 * abs(depth - channels) + 8
    inputs = samples(graph, 3)
    np.testing.assert_array_equal(on_core(written, inputs), expected(graph, inputs))


@pytest.mark.parametrize(
    ("pixels", "depth", "channels"),
    [(125, 64, 64), (144, 64, 60), (36, 128, 128), (576, 16, 32), (21, 30, 20)],
)
def test_prediction(pixels: int, depth: int, channels: int, tmp_path: Path) -> None:
    graph = pointwise(pixels, depth, channels)
    assert KERNEL.cycles(layer_of(graph)) == pytest.approx(
        measured(graph, tmp_path, KERNEL), rel=0.03
    )


@pytest.mark.parametrize(("board", "name"), [("generic-m4", "conv2d.gemm"), (SLOW_FLASH, NAME)])
def test_it_pays_where_flash_makes_reads_wait(board: str, name: str) -> None:
    target = load(board)
    made = plan.make(pointwise(125, 64, 64), target.core, "speed", flash=target.flash_timing)
    assert made.steps[0].kernel.name == name


def test_it_waits_less() -> None:
    layer, flash = layer_of(pointwise(125, 64, 64)), load(SLOW_FLASH).flash_timing
    staged, usual = (candidate(kernel, layer, flash=flash) for kernel in (KERNEL, USUAL))
    assert staged.waits < 0.15 * usual.waits
    assert staged.total < 0.87 * usual.total
