"""Winograd transforms of 4-bit weights: the stream, every byte, the price."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen import plan
from codegen.ir import Graph
from codegen.ops import KERNELS
from codegen.select import candidate
from codegen.tuned import winograd_small
from tests.codegen import networks
from tests.codegen.firmware import every_byte, expected, inferred, on_core, write
from tests.codegen.test_winograd import (
    convolution,
    convolutions,
    extremes,
    kernel_function,
    layer_of,
)

NAME = "conv2d.winograd_int4"
KERNEL = next(kernel for kernel in KERNELS["conv2d"] if kernel.name == NAME)


@pytest.mark.parametrize(("channels", "depth"), [(4, 8), (8, 64)])
def test_a_word_holds_elements_of_both_halves_of_the_depth(channels: int, depth: int) -> None:
    g = np.random.default_rng(depth)
    weights = g.integers(-8, 8, (channels, 3, 3, depth))
    stream = winograd_small.pack_nibbles(
        16 * weights, np.zeros(channels, int), np.ones(channels, int)
    )
    blocks = stream.reshape(channels // 4, -1)[:, 8:].astype("<i4")
    words = blocks.reshape(channels, depth // 8, 9, 1).view(np.uint8)
    for channel in range(channels):
        for tap, (row, column) in enumerate(winograd_small.TAPS):
            upper = (words[channel, :, tap] & 0xF0).view(np.int8).ravel() // 16
            lower = (words[channel, :, tap] << 4).view(np.int8).ravel() // 16
            np.testing.assert_array_equal(
                np.concatenate([upper, lower]), weights[channel, row, column]
            )


def test_what_is_served() -> None:
    plain = convolution((8, 8, 16), 8)
    assert not KERNEL.serves(layer_of(plain))
    assert KERNEL.serves(layer_of(networks.in_nibbles(plain, 1)))
    assert plan.choose(layer_of(networks.in_nibbles(plain, 1)), "speed").name == NAME
    for graph in (convolution((8, 8, 12), 8), convolution((8, 8, 16), 8, stride=(2, 2))):
        assert not KERNEL.serves(layer_of(networks.in_nibbles(graph, 1)))


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=convolutions(), seed=st.integers(0, 2**32), code=st.sampled_from([None, None, 0, 15]))
def test_every_byte_of_any_convolution(
    graph: Graph, seed: int, code: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    graph = networks.in_nibbles(graph, seed, code)
    if not KERNEL.serves(layer_of(graph)):
        return
    inputs = extremes(graph, seed)
    written = write(graph, "generic-m4", tmp_path_factory.mktemp("winograd"), KERNEL)
    every_byte(graph, written, inputs)


GOALS = [((32, 32, 16), 16, 0.75), ((16, 16, 32), 32, 0.73), ((8, 8, 64), 64, 0.85)]


@pytest.mark.parametrize(("size", "channels", "goal"), GOALS)
def test_price_is_the_goal_and_the_prediction(
    size: tuple[int, int, int], channels: int, goal: float, tmp_path: Path
) -> None:
    graph = networks.in_nibbles(convolution(size, channels), 1)
    layer = layer_of(graph)
    written = write(graph, "generic-m4", tmp_path, KERNEL)
    inputs = tuple(x[:1] for x in extremes(graph, 1))
    np.testing.assert_array_equal(on_core(written, inputs), expected(graph, inputs))
    run = inferred(written, inputs)
    products = size[0] * size[1] * channels * 9 * size[2]
    print(f"\n{size} {run.steps[0].cycles / products:.4f} cycles per product")
    assert run.steps[0].cycles <= goal * products
    assert KERNEL.cycles(layer) == pytest.approx(run.steps[0].cycles, rel=0.03)
    weights = KERNEL.instance(layer).constants[0].weight_bytes
    assert 16 * weights == 9 * 8 * size[2] * channels
    assert candidate(KERNEL, layer).code == pytest.approx(kernel_function(tmp_path).size, rel=0.03)
