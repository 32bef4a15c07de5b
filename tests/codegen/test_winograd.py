"""Winograd convolution: the algebra, the streams, the proof obligations, every byte, and its price."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen import plan
from codegen.ir import Array, Graph, IntArray
from codegen.kernel import Layer
from codegen.ops import KERNELS, OPS
from codegen.select import candidate
from codegen.tuned import winograd, winograd_small
from emulator import elf
from emulator.cortex_m import CortexM
from emulator.model import EmulatedModel
from targets.target import Core, load
from tests.codegen import networks
from tests.codegen.firmware import every_byte, expected, inferred, on_core, write

NAMES = ("conv2d.winograd", "conv2d.winograd_small")
BOTH = {kernel.name: kernel for kernel in KERNELS["conv2d"] if kernel.name in NAMES}
M4 = load("generic-m4").core
SAME = (1, 1, 1, 1)
WIDE = ((0.05, 3), (3.0, -11))


def layer_of(graph: Graph, core: Core = M4) -> Layer:
    node = graph.nodes[0]
    operands = tuple(graph.tensors[name] for name in node.inputs)
    return Layer(node, operands, graph.tensors[node.output], core)


def convolution(
    size: tuple[int, int, int], channels: int, extreme: int | None = None, **attributes: Any
) -> Graph:
    op = OPS["conv2d"](**({"pads": SAME} | attributes))
    weights = (channels, 3, 3, size[2])
    generator = np.random.default_rng(sum(size) + channels)
    return networks.weighted(op, (1, *size), weights, generator, WIDE, extreme)


def extremes(graph: Graph, seed: int) -> tuple[Array, ...]:
    """Random samples, constant ones, and one that holds nothing but both ends of int8."""
    generator = np.random.default_rng(seed)
    (samples,) = networks.samples(graph, generator, 1)
    ends = generator.choice(np.array([-128, 127], np.int8), (1, *samples.shape[1:]))
    return (np.concatenate([samples, ends]),)


def test_both_variants_are_there() -> None:
    assert set(BOTH) == set(NAMES)


def test_combined_weights_and_inputs_make_four_times_the_sums() -> None:
    """The algebra, from its definition: A' ((G g G') * (B' d B)) A = 4 * (g correlated with d)."""
    g = np.random.default_rng(1)
    weights = g.integers(-128, 128, (3, 3, 3, 5))
    tile = g.integers(-128, 128, (4, 4, 5))
    inward = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    outward = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
    inside = np.einsum("ai,ijk,bj->abk", inward, tile, inward)
    sums = np.einsum("oabk,abk->oab", winograd.transformed(weights), inside)
    found = np.einsum("ra,oab,cb->orc", outward, sums, outward)
    wanted = np.zeros((3, 2, 2), np.int64)
    for row, column in product(range(2), range(2)):
        seen = tile[row : row + 3, column : column + 3]
        wanted[:, row, column] = (weights * seen).sum(axis=(1, 2, 3))
    np.testing.assert_array_equal(found, 4 * wanted)


def drawn(channels: int, depth: int) -> tuple[IntArray, IntArray, IntArray]:
    g = np.random.default_rng(channels + depth)
    weights = g.choice([-128, 127, -1, 0, 5], (channels, 3, 3, depth))
    return weights, g.integers(-(2**28), 2**28, channels), g.integers(2**30, 2**31, channels)


@pytest.mark.parametrize(("channels", "depth"), [(4, 4), (12, 8), (8, 64)])
def test_large_stream(channels: int, depth: int) -> None:
    weights, bias, multipliers = drawn(channels, depth)
    blocks = winograd.pack(weights, bias, multipliers).reshape(channels // 4, -1)
    wanted = winograd.transformed(weights)
    for channel in range(channels):
        block, lane = blocks[channel // 4], channel % 4
        assert block[lane] == multipliers[channel]
        assert block[4 + lane] == 4 * bias[channel]
        words = block[8 + lane :: 4].astype("<i4").view("<i2").reshape(4, 4, depth)
        for at_column, column in enumerate((1, 2, 0, 3)):
            for at_row, row in enumerate((1, 2, 0, 3)):
                kept = wanted[channel, row, column].reshape(-1, 4)[:, [0, 2, 1, 3]].ravel()
                np.testing.assert_array_equal(words[at_column, at_row], kept)


@pytest.mark.parametrize(("channels", "depth"), [(4, 4), (12, 8), (8, 64)])
def test_small_stream(channels: int, depth: int) -> None:
    weights, bias, multipliers = drawn(channels, depth)
    blocks = winograd_small.pack(weights, bias, multipliers).reshape(channels // 4, -1)
    for channel in range(channels):
        block, lane = blocks[channel // 4], channel % 4
        assert block[lane] == multipliers[channel]
        assert block[4 + lane] == 4 * bias[channel]
        mine = block[8:].reshape(4, depth // 4, 9)[lane].astype("<i4").view("i1")
        taps = mine.reshape(depth // 4, 9, 4).transpose(1, 0, 2).reshape(9, depth)
        for tap, (row, column) in zip(taps, winograd_small.TAPS, strict=True):
            np.testing.assert_array_equal(tap, weights[channel, row, column])


@pytest.mark.parametrize(
    ("size", "channels", "attributes"),
    [
        ((8, 8, 8), 8, {"stride": (2, 2)}),
        ((8, 8, 8), 8, {"dilation": (2, 2)}),
        ((8, 8, 6), 8, {}),
        ((8, 8, 8), 6, {}),
        ((8, 8, 68), 8, {}),
        ((1, 8, 8), 8, {}),
        ((8, 3, 8), 8, {}),
    ],
)
def test_other_shapes_are_refused(
    size: tuple[int, int, int], channels: int, attributes: dict[str, Any]
) -> None:
    layer = layer_of(convolution(size, channels, **attributes))
    assert not any(kernel.serves(layer) for kernel in BOTH.values())


@pytest.mark.parametrize(("bias", "served"), [(2**29 - 2**20, True), (2**29 - 2**10, False)])
def test_four_times_every_sum_fits_32_bits(bias: int, served: bool) -> None:
    graph = convolution((4, 4, 4), 4, extreme=127)
    least = 36 * 127 * 131  # of the sums' range, at zero point 3
    assert 2**10 < least < 2**20
    b = graph.tensors["b"]
    graph = graph.with_tensors(replace(b, data=np.array([0, 0, bias, 0], np.int32)))
    layer = layer_of(graph)
    assert [kernel.serves(layer) for kernel in BOTH.values()] == [served, served]
    assert plan.choose(layer, "speed").name.startswith("conv2d.winograd") or not served


def test_no_core_without_smlad() -> None:
    layer = layer_of(convolution((8, 8, 8), 8), load("generic-m0plus").core)
    assert not any(kernel.serves(layer) for kernel in BOTH.values())


@st.composite
def convolutions(draw: st.DrawFn) -> Graph:
    pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
    rows = max(draw(st.integers(2, 7)) + 2 - pads[0] - pads[2], 1)
    columns = max(draw(st.integers(4, 11)) + 2 - pads[1] - pads[3], 2)
    depth, channels = draw(st.sampled_from([4, 8, 12, 16])), draw(st.sampled_from([4, 8, 12]))
    zero_points = draw(st.tuples(st.integers(-128, 127), st.integers(-128, 127)))
    scales = draw(st.tuples(st.floats(1e-3, 0.1), st.floats(0.5, 10.0)))
    clamp = draw(st.sampled_from([None, (0.0, 6.0), (0.0, float("inf"))]))
    extreme = draw(st.sampled_from([None, None, -128, 127]))
    op = OPS["conv2d"](pads=pads, clamp=clamp)
    grids = ((scales[0], zero_points[0]), (scales[1], zero_points[1]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    weights = (channels, 3, 3, depth)
    return networks.weighted(op, (1, rows, columns, depth), weights, generator, grids, extreme)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=convolutions(), seed=st.integers(0, 2**32))
def test_every_byte_of_any_convolution(
    name: str, graph: Graph, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not BOTH[name].serves(layer_of(graph)):
        return
    inputs = extremes(graph, seed)
    written = write(graph, "generic-m4", tmp_path_factory.mktemp("winograd"), BOTH[name])
    every_byte(graph, written, inputs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("extreme", [None, -128, 127])
@pytest.mark.parametrize(
    ("target", "compiler"),
    [("generic-m4", "zig"), ("generic-m7", "gcc"), ("generic-m33", "gcc"), ("generic-m33", "zig")],
)
def test_every_byte_on_other_cores_and_compilers(
    name: str, extreme: int | None, target: str, compiler: str, tmp_path: Path
) -> None:
    graph = convolution((5, 6, 8), 8, extreme)
    written = write(graph, target, tmp_path, BOTH[name])
    inputs = extremes(graph, 7)
    np.testing.assert_array_equal(on_core(written, inputs, compiler), expected(graph, inputs))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(7, 9, 8), (6, 8, 8), (9, 6, 4)])
def test_output_may_run_over_the_input(
    name: str, size: tuple[int, int, int], tmp_path: Path
) -> None:
    """The planner puts both in less than the sum of their sizes, and every byte is right."""
    graph = convolution(size, size[2])
    written = write(graph, "generic-m4", tmp_path, BOTH[name])
    bytes_of_each = size[0] * size[1] * size[2]
    scratch = BOTH[name].scratch(layer_of(graph))
    # Beyond one tensor there is a row, and for an odd height, which makes a row anew, one more.
    rows = 1 + size[0] % 2
    assert written.image.arena_size <= bytes_of_each + rows * size[1] * size[2] + scratch + 4
    inputs = extremes(graph, 3)
    np.testing.assert_array_equal(on_core(written, inputs), expected(graph, inputs))


# Cycles for each of the convolution's products, at most.
LARGE, SMALL = NAMES
GOALS = [
    (LARGE, (32, 32, 16), 16, 0.65),
    (LARGE, (16, 16, 32), 32, 0.55),
    (LARGE, (8, 8, 64), 64, 0.50),
    (SMALL, (32, 32, 16), 16, 0.73),
    (SMALL, (16, 16, 32), 32, 0.69),
    (SMALL, (8, 8, 64), 64, 0.77),
]


def kernel_function(folder: Path) -> elf.Symbol:
    functions = elf.read(folder / "net.elf").functions
    (found,) = (f for f in functions if "conv2d_winograd" in f.name)
    return found


@pytest.mark.parametrize(("name", "size", "channels", "goal"), GOALS)
def test_price_is_the_goal_and_the_prediction(
    name: str, size: tuple[int, int, int], channels: int, goal: float, tmp_path: Path
) -> None:
    graph = convolution(size, channels)
    kernel, layer = BOTH[name], layer_of(graph)
    written = write(graph, "generic-m4", tmp_path, kernel)
    inputs = tuple(x[:1] for x in networks.samples(graph, np.random.default_rng(1), 1))
    np.testing.assert_array_equal(on_core(written, inputs), expected(graph, inputs))
    run = inferred(written, inputs)
    products = size[0] * size[1] * channels * 9 * size[2]
    assert run.steps[0].cycles <= goal * products
    assert kernel.cycles(layer) == pytest.approx(run.steps[0].cycles, rel=0.03)
    constants = sum(c.bytes for c in kernel.instance(layer).constants)
    code = kernel_function(tmp_path).size
    predicted = candidate(kernel, layer)
    assert predicted.constants == constants
    assert predicted.code == pytest.approx(code, rel=0.03)
    # Poison in bytes of scratch that no store reached would show as a lower mark.
    assert run.arena_high_water == written.image.arena_size


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("name", NAMES)
def test_wide_instructions_of_loops_are_aligned(name: str, compiler: str, tmp_path: Path) -> None:
    """A core that fetches words takes longer for runs of wide instructions across their borders."""
    graph = convolution((8, 8, 16), 16)
    written = write(graph, "generic-m4", tmp_path, BOTH[name])
    inputs = networks.samples(graph, np.random.default_rng(1), 1)
    on_core(written, inputs, compiler)
    code = kernel_function(tmp_path)
    machine = CortexM(load("generic-m4"), tmp_path / "net.elf", count=True)
    with EmulatedModel(machine, written.image) as model:
        model.infer(tuple(x[0].tobytes() for x in inputs))
        run = machine.measure("net_run_step", machine.address("app_ctx"), 0)
        first = code.address & ~1
        blocks = [b for b in run.blocks if first <= b.address < first + code.size]
        # More often than once for each of the 8 pairs of tiles.
        loops = [b for b in blocks if b.executions > 8]
        assert sum(b.size for b in loops) > 1000
        for block in loops:
            assert longest_run(machine.read(block.address, block.size), block.address) < 3


def longest_run(code: bytes, address: int) -> int:
    """Most wide instructions in a row that are not on a word's address."""
    at = longest = run = 0
    while at < len(code):
        size = 4 if code[at + 1] >> 3 in (0b11101, 0b11110, 0b11111) else 2
        run = run + 1 if size == 4 and (address + at) % 4 else 0
        longest = max(longest, run)
        at += size
    return longest


def test_objectives_weigh_cycles_against_memory() -> None:
    sizes = (((32, 32, 16), 16), ((16, 16, 32), 32), ((8, 8, 64), 64))
    for size, channels in sizes:
        layer = layer_of(convolution(size, channels))
        assert plan.choose(layer, "speed").name == LARGE
        assert plan.choose(layer, "sram").name not in NAMES
        assert plan.choose(layer, "flash").name not in NAMES
    # The same weights at many places pay for more flash.
    assert plan.choose(layer_of(convolution((96, 96, 16), 16)), "balanced").name == LARGE
