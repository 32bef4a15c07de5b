"""4-bit weights on cores with SMLAD, with and without factors: words, proofs, every byte, the price."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen import plan
from codegen.ir import Graph
from codegen.kernel import Kernel, Layer
from codegen.ops import KERNELS, OPS
from codegen.tuned import dense_int4, int4
from targets.target import load
from tests.codegen import networks
from tests.codegen.firmware import every_byte, expected, inferred, on_core, on_host, write

BY_NAME = {k.name: k for kind in ("conv2d", "dense") for k in KERNELS[kind]}
CONV, DENSE = BY_NAME["conv2d.int4"], BY_NAME["dense.int4"]
FACTORS = BY_NAME["conv2d.factors"]
M4 = load("generic-m4").core


def layer_of(graph: Graph) -> Layer:
    node = graph.nodes[0]
    operands = tuple(graph.tensors[name] for name in node.inputs)
    return Layer(node, operands, graph.tensors[node.output], M4)


def test_a_word_holds_two_weights_of_four_channels() -> None:
    generator = np.random.default_rng(0)
    weights = generator.integers(-8, 8, (8, 10))
    bias = generator.integers(-1000, 1000, 8)
    x = generator.integers(-128, 128, 10)
    first, words = int4.blocks(weights, bias)
    halves = words.astype(np.int32)[..., None].view(np.int16).reshape(2, 10).astype(np.int64)
    eights = 8 * int(x.sum())
    views = {0: halves & 0xF, 1: halves & 0xFF, 2: halves & 0xF00, 3: halves}
    held = {0: 1, 1: 17, 2: 256, 3: 273}  # times the eights
    sums = {n: first[:, n] + view @ x - held[n] * eights for n, view in views.items()}
    sums[3] -= sums[2] + sums[1]
    sums[1] -= sums[0]
    wanted = (weights @ x + bias).reshape(2, 4)
    for n in range(4):
        np.testing.assert_array_equal(sums[n], wanted[:, n] << 4 * n)


def serves(graph: Graph, kernel: Kernel) -> bool:
    return kernel.serves(layer_of(graph))


def test_what_is_served() -> None:
    generator = np.random.default_rng(1)
    conv, dense = OPS["conv2d"](), OPS["dense"]()

    def one(weights: str, scheme: str) -> Graph:
        return networks.stored(conv, (1, 3, 3, 16), (8, 1, 1, 16), generator, weights, scheme)

    for weights in ("int4", "int3", "int2"):
        assert serves(one(weights, "uniform"), CONV)
    assert serves(one("ternary", "ternary"), CONV)
    for scheme in ("vsq16", "mx4", "mxfp4", "codebook16"):
        assert not serves(one("int4", scheme), CONV)
    plain = networks.weighted(conv, (1, 3, 3, 16), (8, 1, 1, 16), generator)
    assert not serves(plain, CONV)
    long = networks.stored(dense, (1, 640), (8, 640), generator, "int4", "uniform", 15)
    assert not serves(long, DENSE)  # 2**12 times 640 * 7 * 255 leaves 32 bits
    large = networks.stored(dense, (1, 16), (5, 16), generator, "int4", "uniform", 15)
    assert serves(large, DENSE)
    b = large.tensors["b"]
    beyond = replace(b, data=np.array([0, 2**20, 0, 0, 0], np.int32))
    # Channel 1 is the second of the first block, and the first one of the other: 2**24 fits.
    assert dense_int4.blocks(5).starts == (0,)
    assert serves(large.with_tensors(beyond), DENSE)
    beyond = replace(b, data=np.array([0, 0, 0, 2**20, 0], np.int32))
    assert not serves(large.with_tensors(beyond), DENSE)


def test_flash_is_taken_at_its_word() -> None:
    graph = networks.stored(
        OPS["conv2d"](),
        (1, 3, 3, 16),
        (8, 1, 1, 16),
        np.random.default_rng(2),
        "ternary",
        "ternary",
    )
    assert plan.choose(layer_of(graph), "speed").name == "conv2d.bits"
    assert plan.choose(layer_of(graph), "flash").name == "conv2d.expand"


@st.composite
def layers(draw: st.DrawFn) -> tuple[Graph, Kernel]:
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    code = draw(st.sampled_from([None, None, None, 0, 15]))
    clamp = draw(st.sampled_from([None, (0.0, 6.0), (0.0, inf)]))
    channels = draw(st.integers(1, 21))
    gain = draw(st.sampled_from([1.0, 100.0, 300.0, 900.0]))
    rest: tuple[str, str, int | None, float] = ("int4", "uniform", code, gain)
    if draw(st.booleans()):
        length, rows = draw(st.integers(1, 150)), draw(st.sampled_from([(), (3,)]))
        op, x, shape = OPS["dense"](clamp), (1, *rows, length), (channels, length)
        return networks.stored(op, x, shape, generator, *rest), DENSE
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
    size = (draw(st.integers(3, 7)), draw(st.integers(3, 7)), draw(st.integers(1, 40)))
    stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    conv = OPS["conv2d"](stride, pads, clamp=clamp)
    window = (channels, *kernel, size[2])
    return networks.stored(conv, (1, *size), window, generator, *rest), CONV


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=layers(), seed=st.integers(0, 2**32))
def test_any_layer(
    made: tuple[Graph, Kernel], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    graph, kernel = made
    if not kernel.serves(layer_of(graph)):
        return
    inputs = networks.samples(graph, np.random.default_rng(seed), 2)
    written = write(graph, "generic-m4", tmp_path_factory.mktemp("int4"), kernel)
    every_byte(graph, written, inputs)


@pytest.mark.parametrize("kernel", [CONV, DENSE], ids=lambda k: str(k.name))
def test_multipliers_that_shift_sums_left(kernel: Kernel, tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    served = []
    for pre, gain in enumerate((100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0)):
        middle = (3, 3) if kernel is CONV else ()
        op = OPS["conv2d" if kernel is CONV else "dense"]()
        x, shape = (1, *middle, 16), (9, *(1 for _ in middle), 16)
        graph = networks.stored(op, x, shape, generator, "int4", "uniform", None, gain)
        if not serves(graph, kernel):
            continue
        served.append(kernel.instance(layer_of(graph)).params["lift"])
        folder = tmp_path / str(pre)
        folder.mkdir()
        inputs = networks.samples(graph, generator, 2)
        written, wanted = write(graph, "generic-m4", folder, kernel), expected(graph, inputs)
        np.testing.assert_array_equal(on_host(written, inputs), wanted)
        np.testing.assert_array_equal(on_core(written, inputs), wanted)
    assert served[:1] == [0] and served.count(4) >= 3


GOALS = [
    ("conv2d.int4", (1, 25, 5, 64), (64, 1, 1, 64), 1.14),
    ("conv2d.int4", (1, 16, 16, 32), (32, 3, 3, 32), 1.12),
    ("conv2d.factors", (1, 25, 5, 64), (64, 1, 1, 64), 1.12),
    ("dense.int4", (1, 640), (128, 640), 1.25),
    ("dense.int4", (1, 128), (128, 128), 1.31),
]


@pytest.mark.parametrize(("name", "size", "shape", "goal"), GOALS)
def test_price_is_the_goal_and_the_prediction(
    name: str,
    size: tuple[int, ...],
    shape: tuple[int, ...],
    goal: float,
    tmp_path: Path,
) -> None:
    scheme = "vsq16" if name == "conv2d.factors" else "uniform"
    op = OPS["dense"]() if len(shape) == 2 else OPS["conv2d"](pads=(shape[1] // 2,) * 4)
    graph = networks.stored(op, size, shape, np.random.default_rng(3), "int4", scheme)
    kernel, layer = BY_NAME[name], layer_of(graph)
    written = write(graph, "generic-m4", tmp_path, kernel)
    inputs = tuple(x[:1] for x in networks.samples(graph, np.random.default_rng(1), 1))
    np.testing.assert_array_equal(on_core(written, inputs), expected(graph, inputs))
    run = inferred(written, inputs)
    products = layer.output.size * np.prod(shape[1:])
    print(f"\n{name} {shape} {run.steps[0].cycles / products:.4f} cycles per product")
    print(f"predicted {kernel.cycles(layer) / run.steps[0].cycles - 1:+.2%}")
    assert run.steps[0].cycles <= goal * products
    assert kernel.cycles(layer) == pytest.approx(run.steps[0].cycles, rel=0.03)
    bits = 8 * kernel.instance(layer).constants[0].weight_bytes / np.prod(shape)
    assert bits == (4.25 if scheme == "vsq16" else 4)


@st.composite
def factored(draw: st.DrawFn) -> Graph:
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    code = draw(st.sampled_from([None, None, 0, 7]))
    scheme = draw(st.sampled_from([("int4", "vsq16"), ("int3", "vsq16"), ("int4", "group32")]))
    channels, depth = draw(st.integers(1, 13)), draw(st.integers(1, 70))
    if draw(st.booleans()):
        x = draw(st.sampled_from([(1, depth), (1, 2, depth), (1, 5, depth)]))
        dense = OPS["dense"](draw(st.sampled_from([None, (0.0, 6.0)])))
        return networks.stored(dense, x, (channels, depth), generator, *scheme, code)
    side = draw(st.sampled_from([1, 1, 3]))
    depth = depth if side == 1 else draw(st.sampled_from([4, 16, 20]))
    clamp = draw(st.sampled_from([None, (0.0, 6.0)]))
    conv = OPS["conv2d"](pads=(side // 2,) * 4, clamp=clamp)
    shape = (channels, side, side, depth)
    size = draw(st.sampled_from([(3, 5), (1, 1), (1, 2)]))
    return networks.stored(conv, (1, *size, depth), shape, generator, *scheme, code)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=factored(), seed=st.integers(0, 2**32))
def test_any_layer_with_factors(
    graph: Graph, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kernel = FACTORS if graph.nodes[0].op.kind == "conv2d" else BY_NAME["dense.factors"]
    assert serves(graph, kernel)
    inputs = networks.samples(graph, np.random.default_rng(seed), 2)
    written = write(graph, "generic-m4", tmp_path_factory.mktemp("factors"), kernel)
    every_byte(graph, written, inputs)


def test_blocks_that_a_window_tears_apart_are_not_expanded() -> None:
    """Elements that whole words leave over wait for the next row: they leave their block."""
    generator = np.random.default_rng(0)
    for depth, served in ((16, True), (5, False)):
        conv, shape = OPS["conv2d"](), (4, 3, 3, depth)
        graph = networks.stored(conv, (1, 4, 4, depth), shape, generator, "int4", "vsq16")
        assert serves(graph, FACTORS) == served
    graph = networks.stored(
        OPS["conv2d"](), (1, 1, 1, 512), (64, 1, 1, 512), generator, "int4", "vsq16"
    )
    assert serves(graph, FACTORS)  # of a pixel, four channels at a time are expanded
    graph = networks.stored(
        OPS["conv2d"](), (1, 1, 3, 512), (64, 1, 1, 512), generator, "int4", "vsq16"
    )
    assert not serves(graph, FACTORS)  # 64 * 512 weights would take too much scratch
