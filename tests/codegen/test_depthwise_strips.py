"""Depthwise 3x3 in strips of two rows: the stream, the layers it serves, every byte, its price."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen.ir import Array, Graph
from codegen.kernel import Kernel, Layer, Order
from codegen.ops import KERNELS, OPS
from codegen.tuned import depthwise_strips
from codegen.tuned.depthwise import starts
from codegen.tuned.lanes import folded_bias
from emulator import elf
from emulator.cortex_m import CortexM
from emulator.model import EmulatedModel
from targets.target import Core, load
from tests.codegen import networks
from tests.codegen.firmware import every_byte, expected, inferred, on_core, on_host, write
from tests.codegen.test_winograd import longest_run

NAME = "conv2d.depthwise_strips"
KERNEL = next(kernel for kernel in KERNELS["conv2d"] if kernel.name == NAME)
M4 = load("generic-m4").core
SAME, LOW = (1, 1, 1, 1), (0, 0, 1, 1)
WIDE = ((0.05, 3), (3.0, -11))
ORDERS: tuple[Order, ...] = ("ascending", "descending")
Size = tuple[int, int, int]


def layer_of(graph: Graph, core: Core = M4) -> Layer:
    node = graph.nodes[0]
    operands = tuple(graph.tensors[name] for name in node.inputs)
    return Layer(node, operands, graph.tensors[node.output], core)


def convolution(
    size: Size,
    extreme: int | None = None,
    kernel: tuple[int, int] = (3, 3),
    grids: Any = WIDE,
    **attributes: Any,
) -> Graph:
    op = OPS["conv2d"](**({"pads": SAME, "groups": size[2]} | attributes))
    generator = np.random.default_rng(sum(size))
    return networks.weighted(op, (1, *size), (size[2], *kernel, 1), generator, grids, extreme)


def samples(graph: Graph, seed: int) -> tuple[Array, ...]:
    """Random samples, constant ones, and one that holds nothing but both ends of int8."""
    generator = np.random.default_rng(seed)
    (some,) = networks.samples(graph, generator, 1)
    ends = generator.choice(np.array([-128, 127], np.int8), (1, *some.shape[1:]))
    return (np.concatenate([some, ends]),)


@pytest.mark.parametrize("channels", [4, 7, 8])
def test_stream(channels: int) -> None:
    g = np.random.default_rng(channels)
    weights = g.choice([-128, 127, -1, 0, 5], (channels, 3, 3)) << 8
    bias = g.integers(-(2**31), 2**31, channels)
    multipliers = g.integers(2**30, 2**31, channels)
    words = depthwise_strips.pack(weights, bias, multipliers, 3).reshape(-1, 7)
    order = [c for start in starts(channels) for c in range(start, start + 4)]
    for word, channel in zip(words, order, strict=True):
        halves = word[:5].astype("<i4").view("<i2").reshape(5, 2)
        np.testing.assert_array_equal(halves[:3], weights[channel, [0, 2]].T)
        np.testing.assert_array_equal(halves[3:].ravel(), [*weights[channel, 1], 3])
        assert word[5] == multipliers[channel]
        assert word[6] == bias[channel]


@pytest.mark.parametrize(
    ("size", "attributes"),
    [
        ((8, 8, 8), {"kernel": (5, 5)}),
        ((8, 8, 8), {"kernel": (3, 1)}),
        ((8, 8, 8), {"dilation": (2, 2)}),
        ((8, 8, 8), {"stride": (1, 2)}),
        ((8, 8, 8), {"stride": (3, 3)}),
        ((8, 8, 3), {}),
        ((8, 1, 8), {}),
        ((8, 8, 8), {"pads": (1, 3, 1, 1)}),
        ((8, 8, 8), {"pads": (1, 1, 1, 2)}),  # the last results would lie in the border
        ((8, 8, 8), {"groups": 1, "kernel": (3, 3)}),
    ],
)
def test_other_layers_are_refused(size: Size, attributes: dict[str, Any]) -> None:
    if attributes.get("groups") == 1:
        op = OPS["conv2d"](pads=SAME)
        graph = networks.weighted(op, (1, *size), (8, 3, 3, 8), np.random.default_rng(1), WIDE)
    else:
        graph = convolution(size, **attributes)
    assert not KERNEL.serves(layer_of(graph))


@pytest.mark.parametrize("target", ["generic-m0plus", "generic-m3"])
def test_no_core_without_smlad(target: str) -> None:
    assert not KERNEL.serves(layer_of(convolution((8, 8, 8)), load(target).core))


@pytest.mark.parametrize(
    ("bias", "scale"), [(0, 3), (2**27, 3), (2**28, 2), (2**29, 1), (2**31 - 2**18, 0)]
)
def test_scale_leaves_room_for_every_sum(bias: int, scale: int, tmp_path: Path) -> None:
    graph = convolution((4, 4, 4), grids=((0.05, 3), (1.0, -11)))
    b = graph.tensors["b"]
    graph = graph.with_tensors(replace(b, data=np.array([0, 0, bias, 0], np.int32)))
    words = KERNEL.instance(layer_of(graph)).constants[0].data
    folded = folded_bias(*layer_of(graph).inputs)
    assert words[11 + 7 * 2 + 6] >> scale == folded[2]
    assert words[11 + 7 * 2 + 6] % 2**scale == 0
    written = write(graph, "generic-m4", tmp_path, KERNEL)
    inputs = samples(graph, 5)
    np.testing.assert_array_equal(on_host(written, inputs), expected(graph, inputs))
    np.testing.assert_array_equal(on_core(written, inputs), expected(graph, inputs))


@st.composite
def convolutions(draw: st.DrawFn) -> Graph:
    stride = draw(st.sampled_from([1, 2]))
    pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
    size = (draw(st.integers(3, 7)), draw(st.integers(3, 17)), draw(st.integers(4, 11)))
    points = draw(st.tuples(st.integers(-128, 127), st.integers(-128, 127)))
    scales = draw(st.tuples(st.floats(1e-3, 0.1), st.floats(0.01, 10.0)))
    clamp = draw(st.sampled_from([None, (0.0, 6.0), (0.0, float("inf"))]))
    extreme = draw(st.sampled_from([None, None, -128, 127]))
    grids = ((scales[0], points[0]), (scales[1], points[1]))
    return convolution(size, extreme, grids=grids, pads=pads, stride=(stride, stride), clamp=clamp)


@pytest.mark.sweep  # depthwise_rows has the same in every run
@pytest.mark.parametrize("order", ORDERS)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=convolutions(), seed=st.integers(0, 2**32))
def test_every_byte_of_any_convolution(
    order: Order, graph: Graph, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not KERNEL.serves(layer_of(graph)):
        return
    inputs = samples(graph, seed)
    written = write(graph, "generic-m4", tmp_path_factory.mktemp("strips"), KERNEL, order)
    every_byte(graph, written, inputs)


# Cycles for each product of an input and a weight, at most.
PRICES = [
    ((48, 48, 16), 1, SAME, 1.80),
    ((24, 24, 32), 1, SAME, 1.85),
    ((25, 5, 64), 1, SAME, 2.14),
    ((6, 6, 128), 1, SAME, 2.15),
    ((48, 48, 16), 2, LOW, 2.70),
    ((24, 24, 32), 2, LOW, 2.80),
]


def kernel_function(folder: Path) -> elf.Symbol:
    functions = elf.read(folder / "net.elf").functions
    (found,) = (f for f in functions if "depthwise_strips" in f.name)
    return found


@pytest.mark.parametrize(("size", "stride", "pads", "most"), PRICES)
def test_price_is_the_goal_and_the_prediction(
    size: Size, stride: int, pads: tuple[int, int, int, int], most: float, tmp_path: Path
) -> None:
    graph = convolution(size, pads=pads, stride=(stride, stride))
    layer = layer_of(graph)
    cycles = measured(graph, tmp_path, KERNEL)
    assert cycles <= most * 9 * layer.output.size
    assert KERNEL.cycles(layer) == pytest.approx(cycles, rel=0.03)


def measured(graph: Graph, folder: Path, kernel: Kernel) -> int:
    """Cycles of a kernel, which gives every byte."""
    written = write(graph, "generic-m4", folder, kernel)
    inputs = tuple(x[:1] for x in networks.samples(graph, np.random.default_rng(1), 1))
    np.testing.assert_array_equal(on_core(written, inputs), expected(graph, inputs))
    run = inferred(written, inputs)
    # Poison in bytes of scratch that no store reached would show as a lower mark.
    assert 0 <= written.image.arena_size - run.arena_high_water < 4  # sizes are whole words
    return run.steps[0].cycles


@pytest.mark.parametrize(
    ("size", "attributes"),
    [
        ((3, 3, 5), {}),
        ((7, 9, 6), {"pads": (0, 0, 0, 0)}),
        ((9, 14, 4), {"clamp": (0.0, 6.0), "grids": ((0.05, 3), (0.2, -100))}),
        ((5, 8, 9), {"pads": (2, 2, 0, 0)}),
        ((9, 13, 4), {"pads": (0, 1, 2, 1), "stride": (2, 2)}),
    ],
)
def test_odd_sizes_are_predicted_as_well(
    size: Size, attributes: dict[str, Any], tmp_path: Path
) -> None:
    graph = convolution(size, **attributes)
    assert KERNEL.cycles(layer_of(graph)) == pytest.approx(
        measured(graph, tmp_path, KERNEL), rel=0.05
    )


def test_layers_share_a_function() -> None:
    """Rows, channels, zero points, and columns that differ by whole turns of the loop, lie in the stream."""
    sizes = ((6, 6, 15), (7, 6, 106), (24, 24, 32), (48, 48, 8))
    found = [KERNEL.instance(layer_of(convolution(size))) for size in sizes]
    other = KERNEL.instance(layer_of(convolution((6, 6, 15), grids=((0.02, 7), (3.0, -128)))))
    assert all(instance.params == found[0].params for instance in (*found, other))


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize(("columns", "stride"), [(5, 1), (31, 1), (31, 2)])
def test_wide_instructions_of_loops_are_aligned(
    columns: int, stride: int, compiler: str, tmp_path: Path
) -> None:
    """A core that fetches words takes longer for runs of wide instructions across their borders."""
    graph = convolution((9, columns, 4), stride=(stride, stride))
    written = write(graph, "generic-m4", tmp_path, KERNEL)
    inputs = samples(graph, 1)
    on_core(written, inputs, compiler)
    code = kernel_function(tmp_path)
    machine = CortexM(load("generic-m4"), tmp_path / "net.elf", count=True)
    with EmulatedModel(machine, written.image) as model:
        model.infer(tuple(x[0].tobytes() for x in inputs))
        run = machine.measure("net_run_step", machine.address("app_ctx"), 0)
        first = code.address & ~1
        blocks = [b for b in run.blocks if first <= b.address < first + code.size]
        loops = [b for b in blocks if b.executions >= 12]  # for each channel of a strip
        assert sum(b.size for b in loops) > 500
        for block in loops:
            assert longest_run(machine.read(block.address, block.size), block.address) < 3
