"""Depthwise 3x3 with a function per shape: folded rounding, the layers it serves, every byte, its price."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen import plan
from codegen.ir import Graph, IntArray
from codegen.kernel import Kernel, Order
from codegen.ops import KERNELS
from codegen.quant.fixed import requantization, template_params
from codegen.requantize import Scaling
from codegen.tuned import depthwise_rows
from codegen.tuned.depthwise import starts
from codegen.tuned.folded import fold
from emulator import elf
from emulator.cortex_m import CortexM
from emulator.model import EmulatedModel
from targets.target import load
from tests.codegen import networks, test_depthwise_strips
from tests.codegen.firmware import every_byte, expected, on_core, write
from tests.codegen.test_depthwise_strips import (
    LOW,
    ORDERS,
    SAME,
    Size,
    convolution,
    convolutions,
    layer_of,
    measured,
    samples,
)
from tests.codegen.test_winograd import longest_run

STRIPS = test_depthwise_strips.KERNEL
NAME = "conv2d.depthwise_rows"
BY_NAME = {kernel.name: kernel for kernel in KERNELS["conv2d"]}
KERNEL, BYTES, INT4 = (
    BY_NAME[name] for name in (NAME, "conv2d.depthwise_bytes", "conv2d.depthwise_int4")
)


def rule(real: list[float], zero_point: int, limits: tuple[int, int], bound: int) -> Scaling:
    own = requantization(real, "layer")
    return Scaling(np.array(own.multipliers), None, template_params(own, bound, zero_point, limits))


def by_definition(scaling: Scaling, sums: IntArray) -> IntArray:
    """Results of sums (channels, n), by the rule itself."""
    q: dict[str, Any] = scaling.q
    shift = 32 + q["shift"]
    products = sums * scaling.multipliers[:, None] + (1 << (shift - 1))
    result: IntArray = np.clip((products >> shift) + q["zero_point"], q["low"], q["high"])
    return result


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    zero_point=st.integers(-128, 127),
    limits=st.sampled_from([(-128, 127), (-128, 90), (-7, 127), (3, 20)]),
    spread=st.floats(1.0, 100.0),
)
def test_folded_rounding_is_the_rule(
    seed: int, zero_point: int, limits: tuple[int, int], spread: float
) -> None:
    """On every sum around a threshold, at both ends of the range, and at random."""
    g = np.random.default_rng(seed)
    real = [float(2.0 ** g.uniform(-13, -6)) for _ in range(6)]
    reach = np.array([min(int(spread * 128 / one), (1 << 22) - 1) for one in real])
    scaling = rule(real, zero_point, limits, int(reach.max()))
    form = fold(scaling, 8, (-reach, reach))
    if form is None:
        assert scaling.multipliers.min() < 1 << 28  # scales too far apart for one shift
        return
    around = np.arange(-300, 300)[None, :] / np.array(real)[:, None]
    near = (around.astype(np.int64)[..., None] + np.arange(-3, 4)).reshape(len(real), -1)
    ends = np.stack([-reach, reach], axis=1)
    sums = np.concatenate([near, ends, g.integers(-reach[:, None], reach[:, None], (6, 4000))], 1)
    sums = np.clip(sums, -reach[:, None], reach[:, None])
    scaled = (sums << 8) + form.addends[:, None]
    assert np.abs(scaled).max() < 1 << 31
    steps = ((scaled * form.multipliers[:, None]) >> 32) >> form.shift
    np.testing.assert_array_equal(np.clip(steps, *limits), by_definition(scaling, sums))


def test_all_usual_channels_have_a_form() -> None:
    g = np.random.default_rng(1)
    real = (2.0 ** g.uniform(-12, -7, 400)).tolist()
    reach = np.full(400, 150_000)
    assert fold(rule(real, 11, (-128, 127), 150_000), 8, (-reach, reach)) is not None


def test_a_sum_that_would_wrap_has_none() -> None:
    scaling = rule([2.0**-9], 0, (-128, 127), 1 << 22)
    reach = np.array([1 << 23])
    assert fold(scaling, 8, (-reach, reach)) is None


@pytest.mark.parametrize(
    ("size", "attributes"),
    [
        ((8, 8, 8), {"kernel": (5, 5)}),
        ((8, 8, 8), {"stride": (3, 3)}),
        ((8, 8, 3), {}),
        ((1, 8, 8), {}),  # one row of results
        ((8, 8, 256), {}),
        ((4, 40, 120), {}),  # the second row is out of a store's reach
    ],
)
def test_other_layers_are_refused(size: Size, attributes: dict[str, Any]) -> None:
    assert not KERNEL.serves(layer_of(convolution(size, **attributes)))


@pytest.mark.parametrize("target", ["generic-m0plus", "generic-m3"])
def test_no_core_without_smlad(target: str) -> None:
    assert not KERNEL.serves(layer_of(convolution((8, 8, 8)), load(target).core))


@pytest.mark.parametrize("order", ORDERS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=convolutions(), seed=st.integers(0, 2**32))
def test_every_byte_of_any_convolution(
    order: Order, graph: Graph, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not KERNEL.serves(layer_of(graph)):
        return
    inputs = samples(graph, seed)
    written = write(graph, "generic-m4", tmp_path_factory.mktemp("rows"), KERNEL, order)
    every_byte(graph, written, inputs)


@pytest.mark.parametrize(
    "packing", [depthwise_rows.WIDE, depthwise_rows.BYTES, depthwise_rows.INT4]
)
@pytest.mark.parametrize("channels", [4, 7])
def test_channels_in_the_stream(packing: depthwise_rows.Packing, channels: int) -> None:
    g = np.random.default_rng(channels)
    bits = min(packing.bits, 8)
    weights = g.integers(-(1 << (bits - 1)), 1 << (bits - 1), (channels, 3, 3))
    biases, multipliers = (
        g.integers(-(2**31), 2**31, (channels, 2)),
        g.integers(2**30, 2**31, channels),
    )
    count = packing.words + 4
    words = depthwise_rows.pack(packing, weights, biases, multipliers, 3).reshape(-1, count)
    order = [c for start in starts(channels) for c in range(start, start + 4)]
    for word, channel in zip(words, order, strict=True):
        mask = int(packing.params()["mask"])  # type: ignore[call-overload]
        pairs = []
        for register, shift in packing.params()["pairs"]:  # type: ignore[attr-defined]
            value = int(word[register - (5 - packing.words)]) << shift & mask * 65537
            pairs.append(np.array([value], np.uint32).view(np.int16).tolist())
        scaled = weights[channel] << packing.scale
        assert pairs == [*scaled[[0, 2]].T.tolist(), scaled[1, :2].tolist()]
        last = np.array([word[packing.words]]).astype(np.int32).view(np.int16)
        assert last.tolist() == [scaled[1, 2], 3]
        assert word[-3] == multipliers[channel]
        np.testing.assert_array_equal(word[-2:], biases[channel])


@pytest.mark.parametrize("order", ORDERS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    graph=convolutions(),
    seed=st.integers(0, 2**32),
    nibbles=st.booleans(),
    code=st.sampled_from([None, None, 0, 15]),
)
def test_every_byte_with_weights_in_bytes_and_nibbles(
    order: Order,
    graph: Graph,
    seed: int,
    nibbles: bool,
    code: int | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    kernel = INT4 if nibbles else BYTES
    if len(graph.tensors["w"].values[0].ravel()) != 9:
        return
    graph = networks.in_nibbles(graph, seed, code) if nibbles else graph
    if not kernel.serves(layer_of(graph)):
        return
    inputs = samples(graph, seed)
    written = write(graph, "generic-m4", tmp_path_factory.mktemp("rows"), kernel, order)
    every_byte(graph, written, inputs)


@pytest.mark.parametrize("kernel", [BYTES, INT4], ids=lambda k: str(k.name))
@pytest.mark.parametrize(("size", "stride"), [((25, 5, 64), 1), ((48, 48, 16), 2)])
def test_narrow_weights_cost_three_cycles_per_channel_and_strip(
    kernel: Kernel, size: Size, stride: int, tmp_path: Path
) -> None:
    graph = convolution(size, stride=(stride, stride))
    wide = KERNEL.cycles(layer_of(graph))
    graph = networks.in_nibbles(graph, 1) if kernel is INT4 else graph
    layer = layer_of(graph)
    cycles = measured(graph, tmp_path, kernel)
    assert kernel.cycles(layer) == pytest.approx(cycles, rel=0.03)
    strips = -(-layer.output.shape[1] // 2)
    assert kernel.cycles(layer) - wide <= 3 * strips * size[2]
    each = kernel.instance(layer).constants[0].weight_bytes / size[2]
    assert each == (6 if kernel is INT4 else 10)


@pytest.mark.sweep
@pytest.mark.parametrize("kernel", [KERNEL, STRIPS], ids=lambda kernel: str(kernel.name))
@pytest.mark.parametrize("extreme", [None, -128, 127])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("columns", [5, 15])
@pytest.mark.parametrize(
    ("target", "compiler"),
    [("generic-m4", "zig"), ("generic-m7", "gcc"), ("generic-m33", "gcc"), ("generic-m33", "zig")],
)
def test_every_byte_on_other_cores_and_compilers(
    kernel: Kernel,
    stride: int,
    columns: int,
    extreme: int | None,
    target: str,
    compiler: str,
    tmp_path: Path,
) -> None:
    graph = convolution((5, columns, 6), extreme, stride=(stride, stride))
    written = write(graph, target, tmp_path, kernel)
    inputs = samples(graph, 7)
    np.testing.assert_array_equal(on_core(written, inputs, compiler), expected(graph, inputs))


@pytest.mark.parametrize("kernel", [KERNEL, STRIPS], ids=lambda kernel: str(kernel.name))
@pytest.mark.parametrize("size", [(7, 9, 8), (6, 8, 7), (5, 5, 4), (2, 5, 4)])
def test_output_may_run_over_the_input(kernel: Kernel, size: Size, tmp_path: Path) -> None:
    """Both lie within the size of one and three rows, and every byte is right."""
    graph = convolution(size)
    written = write(graph, "generic-m4", tmp_path, kernel)
    rows, columns, channels = size
    most = (rows + min(rows, 3)) * columns * channels + kernel.scratch(layer_of(graph))
    assert written.image.arena_size <= most + 8
    inputs = samples(graph, 3)
    np.testing.assert_array_equal(on_core(written, inputs), expected(graph, inputs))


# Cycles for each product of an input and a weight, at most.
PRICES = [
    ((48, 48, 16), 1, SAME, 1.64),
    ((24, 24, 32), 1, SAME, 1.67),
    ((12, 12, 64), 1, SAME, 1.75),
    ((25, 5, 64), 1, SAME, 1.80),
    ((6, 6, 128), 1, SAME, 1.93),
    ((48, 48, 16), 2, LOW, 2.55),
    ((24, 24, 32), 2, LOW, 2.62),
]


@pytest.mark.parametrize(("size", "stride", "pads", "most"), PRICES)
def test_price_is_the_goal_and_the_prediction(
    size: Size, stride: int, pads: tuple[int, int, int, int], most: float, tmp_path: Path
) -> None:
    graph = convolution(size, pads=pads, stride=(stride, stride))
    layer = layer_of(graph)
    assert plan.choose(layer, "speed").name == NAME
    cycles = measured(graph, tmp_path, KERNEL)
    assert cycles <= most * 9 * layer.output.size
    assert KERNEL.cycles(layer) == pytest.approx(cycles, rel=0.03)


@pytest.mark.parametrize(
    ("size", "attributes"),
    [
        ((3, 3, 5), {}),
        ((7, 9, 6), {"pads": (0, 0, 0, 0)}),
        ((9, 14, 4), {"clamp": (0.0, 6.0), "grids": ((0.05, 3), (0.2, -100))}),
        ((5, 8, 9), {"pads": (2, 2, 0, 0)}),
        ((9, 13, 4), {"pads": (0, 1, 2, 1), "stride": (2, 2)}),
        ((9, 4, 8), {"pads": LOW, "stride": (2, 2)}),
    ],
)
def test_odd_sizes_are_predicted_as_well(
    size: Size, attributes: dict[str, Any], tmp_path: Path
) -> None:
    graph = convolution(size, **attributes)
    counted = measured(graph, tmp_path, KERNEL)
    assert KERNEL.cycles(layer_of(graph)) == pytest.approx(counted, rel=0.05)


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize(("columns", "stride"), [(5, 1), (31, 1), (31, 2)])
def test_loops_are_aligned(columns: int, stride: int, compiler: str, tmp_path: Path) -> None:
    """Wide instructions on words; and no load of the inner loops crosses one."""
    graph = convolution((9, columns, 4), stride=(stride, stride))
    written = write(graph, "generic-m4", tmp_path, KERNEL)
    on_core(written, samples(graph, 1), compiler)
    (code,) = (f for f in elf.read(tmp_path / "net.elf").functions if "depthwise_rows" in f.name)
    machine = CortexM(load("generic-m4"), tmp_path / "net.elf", count=True)
    with EmulatedModel(machine, written.image) as model:
        model.infer(tuple(x[0].tobytes() for x in samples(graph, 1)))
        run = machine.measure("net_run_step", machine.address("app_ctx"), 0)
        first = code.address & ~1
        blocks = [b for b in run.blocks if first <= b.address < first + code.size]
        loops = [b for b in blocks if b.executions >= 8]  # for each pair of channels of a strip
        assert sum(b.size for b in loops) > 500
        for block in loops:
            assert longest_run(machine.read(block.address, block.size), block.address) < 3
