"""Pools in assembly: which windows they serve, every byte, the price, and the alignment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen import plan
from codegen.ir import Graph, per_tensor
from codegen.kernel import Kernel
from codegen.ops import KERNELS, OPS
from codegen.select import candidate
from codegen.tuned import pools
from emulator import elf
from emulator.cortex_m import CortexM
from emulator.model import EmulatedModel
from targets.target import load
from tests.codegen import networks
from tests.codegen.firmware import every_byte, expected, on_core, write
from tests.codegen.test_small_kernels import layer_of, measured
from tests.codegen.test_winograd import longest_run

NAMES = ("max_pool.dsp", "average_pool.windows")
X, Y = per_tensor(0.1, 5), per_tensor(0.15, 20)


def kernel(name: str) -> Kernel:
    (found,) = (k for k in KERNELS[name.partition(".")[0]] if k.name == name)
    return found


def pool(name: str, shape: tuple[int, ...], window: tuple[int, int], **more: Any) -> Graph:
    kind = name.partition(".")[0]
    return networks.network(OPS[kind](window, **more), [(shape, X)], X if kind == "max_pool" else Y)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("shape", "window", "more", "target", "why"),
    [
        ((1, 6, 6, 8), (2, 2), {}, "generic-m4", ""),
        ((1, 6, 6, 8), (2, 2), {}, "generic-m3", "the core has no SMLAD"),
        ((1, 6, 6, 8), (2, 2), {"pads": (0, 1, 0, 0)}, "generic-m4", pools.PADDED),
        ((1, 6, 6, 6), (2, 2), {}, "generic-m4", pools.NO_WORDS),
        ((1, 9, 9, 4), (8, 9), {}, "generic-m4", pools.TOO_LARGE),
        ((1, 2, 2, 4096), (2, 2), {}, "generic-m4", pools.TOO_LARGE),
    ],
)
def test_which_windows_are_served(
    name: str,
    shape: tuple[int, ...],
    window: tuple[int, int],
    more: dict[str, Any],
    target: str,
    why: str,
) -> None:
    layer, chosen = layer_of(pool(name, shape, window, **more), target), kernel(name)
    assert chosen.refusal is not None
    assert chosen.refusal(layer) == why
    assert chosen.serves(layer) == (not why)
    assert (plan.choose(layer, "speed") is chosen) == (not why)


@st.composite
def windows(draw: st.DrawFn, name: str) -> Graph:
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    more: dict[str, Any] = {"stride": stride}
    dilation = (1, 1)
    if name == "max_pool.dsp":
        dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
        more["dilation"] = dilation
    height = (rows - 1) * dilation[0] + 1 + draw(st.integers(0, 5))
    width = (columns - 1) * dilation[1] + 1 + draw(st.integers(0, 5))
    depth = draw(st.sampled_from([4, 8, 12, 1000]))
    return pool(name, (1, height, width, depth), (rows, columns), **more)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_every_byte_of_any_window(
    name: str, data: st.DataObject, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    graph = data.draw(windows(name))
    if not kernel(name).serves(layer_of(graph)):  # an average of one pixel may have no multiplier
        return
    inputs = networks.samples(graph, np.random.default_rng(seed))
    written = write(graph, "generic-m4", tmp_path_factory.mktemp("pool"), kernel(name))
    every_byte(graph, written, inputs)


@pytest.mark.parametrize("zero_point", [-128, 127])
def test_sums_of_the_largest_window_fit(zero_point: int, tmp_path: Path) -> None:
    grids = per_tensor(0.1, zero_point), per_tensor(0.1, 0)
    graph = networks.network(OPS["average_pool"]((8, 8)), [((1, 8, 9, 4), grids[0])], grids[1])
    inputs = networks.samples(graph, np.random.default_rng(0))
    written = write(graph, "generic-m4", tmp_path, kernel("average_pool.windows"))
    np.testing.assert_array_equal(on_core(written, inputs), expected(graph, inputs))


@pytest.mark.parametrize(
    ("name", "shape", "window", "stride", "each"),
    [
        ("max_pool.dsp", (1, 32, 32, 16), (2, 2), (2, 2), 1.08),
        ("max_pool.dsp", (1, 9, 9, 32), (3, 3), (2, 2), 1.7),
        ("max_pool.dsp", (1, 12, 48, 120), (2, 2), (2, 2), 1.2),
        ("average_pool.windows", (1, 32, 32, 16), (2, 2), (2, 2), 2.3),
        ("average_pool.windows", (1, 12, 48, 120), (2, 2), (2, 2), 2.4),
        ("average_pool.windows", (1, 9, 9, 32), (3, 3), (2, 2), 2.6),
    ],
)
def test_price(
    name: str,
    shape: tuple[int, ...],
    window: tuple[int, int],
    stride: tuple[int, int],
    each: float,
    tmp_path: Path,
) -> None:
    graph = pool(name, shape, window, stride=stride)
    assert measured(graph, tmp_path) <= each * np.prod(shape)
    size = code(tmp_path).size
    assert candidate(kernel(name), layer_of(graph)).code == pytest.approx(size, rel=0.05)


def code(folder: Path) -> elf.Symbol:
    (found,) = (f for f in elf.read(folder / "net.elf").functions if "_pool_" in f.name)
    return found


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("name", NAMES)
def test_wide_instructions_of_loops_are_aligned(name: str, compiler: str, tmp_path: Path) -> None:
    graph = pool(name, (1, 8, 8, 16), (3, 2), stride=(2, 2))
    written = write(graph, "generic-m4", tmp_path, kernel(name))
    inputs = networks.samples(graph, np.random.default_rng(1), 1)
    on_core(written, inputs, compiler)
    function = code(tmp_path)
    machine = CortexM(load("generic-m4"), tmp_path / "net.elf", count=True)
    with EmulatedModel(machine, written.image) as model:
        model.infer(tuple(x[0].tobytes() for x in inputs))
        run = machine.measure("net_run_step", machine.address("app_ctx"), 0)
        first = function.address & ~1
        inside = [b for b in run.blocks if first <= b.address < first + function.size]
        loops = [b for b in inside if b.executions > 1]
        assert sum(b.size for b in loops) > 60
        for block in loops:
            assert longest_run(machine.read(block.address, block.size), block.address) < 3
