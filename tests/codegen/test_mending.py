"""Layers that round as float32 does, on the fast kernels: sums that a multiplier gets wrong are replaced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codegen import plan
from codegen.ir import Array, Graph, Op, Quant, per_tensor
from codegen.kernel import Kernel
from codegen.ops import KERNELS, OPS
from codegen.quant.fixed import Requant
from codegen.quant.float_rounding import FloatRequant
from codegen.requantize import reach
from codegen.tuned import mending
from tests.codegen import networks
from tests.codegen.firmware import expected, on_core, on_host, write
from tests.codegen.test_small_kernels import counted, layer_of

X, Y = per_tensor(0.5, 3), per_tensor(1.0, -7)
TIES = 0.25  # of weights: a sum is worth an eighth of a step, and every eighth one lies on a tie
NETWORK = {
    "conv2d.gemm": (OPS["conv2d"](rounding="float32"), (1, 5, 3, 6), (7, 1, 1, 6)),
    "conv2d.depthwise_dsp": (
        OPS["conv2d"](pads=(1, 1, 1, 1), groups=6, rounding="float32", clamp=(-6.0, 11.0)),
        (1, 5, 4, 6),
        (6, 3, 3, 1),
    ),
    "dense.dsp": (OPS["dense"](rounding="float32"), (1, 9, 16), (11, 16)),
    "dense.raw": (OPS["dense"](rounding="float32"), (1, 9, 16), (8, 16)),
}


LARGER = {
    "conv2d.gemm": (OPS["conv2d"](rounding="float32"), (1, 8, 8, 24), (16, 1, 1, 24)),
    "conv2d.depthwise_dsp": (
        OPS["conv2d"](pads=(1, 1, 1, 1), groups=16, rounding="float32"),
        (1, 8, 8, 16),
        (16, 3, 3, 1),
    ),
    "dense.dsp": (OPS["dense"](rounding="float32"), (1, 9, 65), (16, 65)),
    "dense.raw": (OPS["dense"](rounding="float32"), (1, 64), (16, 64)),
}


def ties(
    op: Op, x: tuple[int, ...], shape: tuple[int, ...], seed: int = 1, scale: float = TIES
) -> Graph:
    """A layer with one weight of 1 in most channels; every fourth one is like any."""
    generator = np.random.default_rng(seed)
    rows = np.zeros((shape[0], int(np.prod(shape[1:]))), np.int8)
    scales = np.full(shape[0], scale)
    for channel, row in enumerate(rows):
        row[generator.integers(len(row))] = 1
        if channel % 4 == 3:
            row[:] = generator.integers(-127, 128, len(row))
            scales[channel] = generator.uniform(0.001, 0.004)
    bias = generator.integers(-300, 300, shape[0]).astype(np.int32)
    zeros = (0,) * shape[0]
    constants = (
        networks.constant("w", rows.reshape(shape), Quant(tuple(scales.tolist()), zeros, 0)),
        networks.constant("b", bias, Quant(tuple((0.5 * scales).tolist()), zeros, 0, 32)),
    )
    return networks.network(op, [(x, X)], Y, constants)


def kernel(name: str) -> Kernel:
    return next(k for k in KERNELS[name.split(".", maxsplit=1)[0]] if k.name == name)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", NETWORK)
def test_every_byte(name: str, seed: int, tmp_path: Path) -> None:
    graph = ties(*NETWORK[name], seed)
    inputs = networks.samples(graph, np.random.default_rng(seed), 4)
    wanted = expected(graph, inputs)
    written = write(graph, "generic-m4", tmp_path, kernel(name))
    np.testing.assert_array_equal(on_host(written, inputs), wanted)
    np.testing.assert_array_equal(on_core(written, inputs), wanted)


@pytest.mark.parametrize("name", NETWORK)
def test_without_patches_bytes_differ(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The samples do meet sums that need one."""
    graph = ties(*NETWORK[name])
    inputs = networks.samples(graph, np.random.default_rng(1), 4)
    monkeypatch.setattr(mending, "lists", lambda _, starts, *rest: [no_patches()] * len(starts))
    written = write(graph, "generic-m4", tmp_path, kernel(name))
    assert not np.array_equal(on_host(written, inputs), expected(graph, inputs))


def no_patches() -> Array:
    return np.zeros((0, 3), np.int64)


def test_all_sums_in_reach() -> None:
    """The mended rule against ONNX's own, for every sum."""
    graph = ties(*NETWORK["dense.dsp"])
    x, w, b = (graph.tensors[name] for name in graph.nodes[0].inputs)
    scales = tuple(float(s) for s in 0.5 * np.array(w.grid.scales, np.float32))
    own = FloatRequant(scales, "layer")
    lowest, highest = reach(x.grid, w, b)
    assert own.fitted(lowest, highest, Y.zero_point) is None
    mended = own.mended(lowest, highest, Y.zero_point)
    assert mended is not None
    assert all(mended.patches[channel] for channel in (0, 1, 2, 4, 5, 6))
    for channel, patches in enumerate(mended.patches):
        sums = np.arange(lowest[channel], highest[channel] + 1)
        taken = sums.copy()
        for total, instead in patches:
            taken[sums == total] = instead
        one = Requant(mended.requant.multipliers[channel : channel + 1], mended.requant.shift)
        wanted = FloatRequant(scales[channel : channel + 1], "layer")
        given = one.apply(taken[:, None], Y.zero_point)
        np.testing.assert_array_equal(given, wanted.apply(sums[:, None], Y.zero_point))


def test_too_many_ties_are_left_to_the_exact_path() -> None:
    """Half steps: every other sum is a tie, and half of those need a patch."""
    own = FloatRequant((0.5,), "layer")
    assert own.mended(np.array([-500]), np.array([500]), 0) is None


@pytest.mark.parametrize("name", LARGER)
def test_price(name: str, tmp_path: Path) -> None:
    """The planner takes the kernel, and predicts what it costs."""
    graph = ties(*LARGER[name], scale=TIES / 8)
    assert plan.choose(layer_of(graph)).name == name
    counted(graph, tmp_path, within=0.1)
