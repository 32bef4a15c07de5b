"""Weights of one and two bits on cores with SMLAD: words, proofs, every byte, the price."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen.ir import Graph
from codegen.kernel import Kernel, Layer
from codegen.ops import KERNELS, OPS
from codegen.tuned import bit_lanes
from codegen.tuned.bit_lanes import Packing
from targets.target import load
from tests.codegen import networks
from tests.codegen.firmware import every_byte, expected, inferred, on_core, write

BY_NAME = {k.name: k for kind in ("conv2d", "dense") for k in KERNELS[kind]}
CONV, DENSE = BY_NAME["conv2d.bits"], BY_NAME["dense.bits"]
M4 = load("generic-m4").core
PACKINGS = (Packing(1, 14, 1), Packing(1, 15, 1), Packing(2, 14, 1), Packing(2, 14, 2))


def layer_of(graph: Graph) -> Layer:
    node = graph.nodes[0]
    operands = tuple(graph.tensors[name] for name in node.inputs)
    return Layer(node, operands, graph.tensors[node.output], M4)


def with_codes(graph: Graph, codes: np.ndarray) -> Graph:
    """The network with other codes of its weights."""
    w = graph.tensors["w"]
    assert w.storage is not None
    storage = replace(w.storage, codes=codes.astype(np.uint8))
    data = storage.expanded().reshape(w.shape).astype(np.int8)
    return graph.with_tensors(replace(w, storage=storage, data=data))


@pytest.mark.parametrize("packing", PACKINGS, ids=str)
def test_a_rotated_and_masked_word_sums_two_channels(packing: Packing) -> None:
    generator = np.random.default_rng(0)
    lowest = -packing.offset if packing.bits == 2 else -1
    values = [-1, 1] if packing.bits == 1 else list(range(lowest, 2))
    elements, lanes = 2 * len(packing.turns), len(packing.turns)
    upper, lower = generator.choice(values, (2, elements))
    x = generator.integers(-128, 128, elements)
    halves = packing.halves(upper, lower)
    word = int(packing.words((halves[0::2] | halves[1::2] << 16)[None])[0]) & 0xFFFFFFFF
    total = 0
    for lane in range(lanes):
        turn = packing.turns[lane]
        masked = (word >> turn | word << (32 - turn)) & packing.mask
        for half in (0, 1):
            signed = ((masked >> 16 * half & 0xFFFF) ^ 0x8000) - 0x8000
            total += signed * int(x[2 * lane + half])
    bound = 1 << (packing.split - 1)
    low = (total + bound) % (2 * bound) - bound
    high = (low - total if packing.negative else total - low) >> packing.split
    sigma = int(x.sum())
    if packing.bits == 1:
        assert (2 * high - sigma, 2 * low - sigma) == (int(upper @ x), int(lower @ x))
    else:
        assert (high, low - packing.offset * sigma) == (int(upper @ x), int(lower @ x))


def test_a_chunk_is_as_long_as_its_codes_allow() -> None:
    codes = np.array([[2, 2, 0, 0, 2, 2, 2, 2]])
    assert bit_lanes.longest_chunk(codes, 8, 2, 9) == 3
    assert bit_lanes.longest_chunk(codes, 12, 2, 9) == 4
    assert bit_lanes.longest_chunk(codes, 7, 2, 9) == 1
    assert bit_lanes.longest_chunk(codes, 12, 2, 3) == 3
    assert bit_lanes.longest_chunk(codes, 3, 2, 9) == 0


@pytest.mark.parametrize(
    ("weights", "length", "values"), [("ternary", 256, (0, 1)), ("binary", 600, (1, 1))]
)
def test_a_channel_of_large_codes_is_stored_negated(
    weights: str, length: int, values: tuple[int, int], tmp_path: Path
) -> None:
    """All weights are 1 but for the first, which makes ternary ones of two bits."""
    generator = np.random.default_rng(2)
    lower = np.full((2, length), values[1])
    lower[:, 0] = values[0]
    held = bit_lanes.packing(lower)
    assert held is not None
    step = len(held.turns)
    straight = bit_lanes.longest_chunk(held.lower(lower), held.most, step, 14)
    chunk, signs = bit_lanes.longest_signed(lower, held, length, step, 14)
    assert straight < chunk == 14
    np.testing.assert_array_equal(signs, [-1, -1])

    shape = (5, 1, 1, length)
    graph = networks.stored(OPS["conv2d"](), (1, 3, 4, length), shape, generator, weights, weights)
    codes = np.full((5, length), values[1] + (2 if weights == "ternary" else 0))
    codes[:, 0] -= values[1] - values[0]
    graph = with_codes(graph, codes)
    inputs = networks.samples(graph, generator, 2)
    every_byte(graph, write(graph, "generic-m4", tmp_path, CONV), inputs)


def test_weights_of_minus_two_are_not_negated() -> None:
    lower = np.array([[1, -2] * 32])
    held = bit_lanes.packing(lower)
    assert held is not None and held.offset == 2
    _, signs = bit_lanes.longest_signed(lower, held, 64, 4, 14)
    np.testing.assert_array_equal(signs, [1])


def test_what_is_served() -> None:
    generator = np.random.default_rng(1)
    conv, dense = OPS["conv2d"](), OPS["dense"]()

    def one(weights: str, scheme: str, code: int | None = None, length: int = 16) -> Graph:
        shape = (8, 1, 1, length)
        x = (1, 3, 3, length)
        return networks.stored(conv, x, shape, generator, weights, scheme, code)

    for weights, scheme in (("binary", "binary"), ("ternary", "ternary"), ("int2", "uniform")):
        assert CONV.serves(layer_of(one(weights, scheme)))
    for weights, scheme in (("int4", "uniform"), ("ternary", "ttq"), ("int2", "codebook4")):
        assert not CONV.serves(layer_of(one(weights, scheme)))
    assert CONV.serves(layer_of(one("binary", "binary", 1, 1000)))
    assert not CONV.serves(layer_of(one("binary", "binary", 1, 1100)))  # 128 * 1100 is over 2**17
    pixels = networks.stored(conv, (1, 1, 2, 16), (8, 1, 1, 16), generator, "binary", "binary")
    assert "pixels" in CONV.refusal(layer_of(pixels))  # type: ignore[misc]
    row = networks.stored(dense, (1, 40), (9, 40), generator, "ternary", "ternary")
    assert DENSE.serves(layer_of(row))
    gain = networks.stored(dense, (1, 40), (9, 40), generator, "binary", "binary", None, 1e9)
    assert not DENSE.serves(layer_of(gain))


@st.composite
def layers(draw: st.DrawFn) -> tuple[Graph, Kernel]:
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    weights, scheme = draw(
        st.sampled_from([("binary", "binary"), ("ternary", "ternary"), ("int2", "uniform")])
    )
    code = draw(st.sampled_from([None, None, None, 0, 1, 3]))
    clamp = draw(st.sampled_from([None, (0.0, 6.0), (0.0, inf)]))
    channels = draw(st.integers(1, 21))
    gain = draw(st.sampled_from([1.0, 100.0, 300.0, 900.0, 4000.0]))
    rest: tuple[str, str, int | None, float] = (weights, scheme, code, gain)
    if draw(st.booleans()):
        shape: tuple[int, ...]
        length, rows = draw(st.integers(1, 700)), draw(st.sampled_from([(), (3,)]))
        op, x, shape = OPS["dense"](clamp), (1, *rows, length), (channels, length)
        graph, kernel = networks.stored(op, x, shape, generator, *rest), DENSE
    else:
        window = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
        depth = draw(st.one_of(st.integers(1, 40), st.just(300)))
        size = (draw(st.integers(3, 7)), draw(st.integers(3, 7)), depth)
        stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
        op, shape = OPS["conv2d"](stride, pads, clamp=clamp), (channels, *window, depth)
        graph, kernel = networks.stored(op, (1, *size), shape, generator, *rest), CONV
    if code is None and weights == "ternary":
        codes = generator.integers(1, 4, (channels, int(np.prod(shape[1:]))))
        graph = with_codes(graph, codes)
    return graph, kernel


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=layers(), seed=st.integers(0, 2**32))
def test_any_layer(
    made: tuple[Graph, Kernel], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    graph, kernel = made
    if not kernel.serves(layer_of(graph)):
        return
    inputs = networks.samples(graph, np.random.default_rng(seed), 2)
    written = write(graph, "generic-m4", tmp_path_factory.mktemp("bits"), kernel)
    every_byte(graph, written, inputs)


GOALS = [
    ("conv2d.bits", "binary", (1, 6, 6, 256), (64, 1, 1, 256), 0.63),
    ("conv2d.bits", "ternary", (1, 6, 6, 256), (64, 1, 1, 256), 0.66),
    ("conv2d.bits", "binary", (1, 16, 16, 32), (32, 3, 3, 32), 0.69),
    ("conv2d.bits", "ternary", (1, 16, 16, 32), (32, 3, 3, 32), 0.73),
    ("conv2d.bits", "ternary", (1, 25, 5, 64), (64, 1, 1, 64), 0.77),
    ("dense.bits", "binary", (1, 640), (128, 640), 0.73),
    ("dense.bits", "ternary", (1, 640), (128, 640), 0.78),
]


@pytest.mark.parametrize(("name", "weights", "size", "shape", "goal"), GOALS)
def test_price_is_the_goal_and_the_prediction(
    name: str,
    weights: str,
    size: tuple[int, ...],
    shape: tuple[int, ...],
    goal: float,
    tmp_path: Path,
) -> None:
    generator = np.random.default_rng(3)
    op = OPS["dense"]() if len(shape) == 2 else OPS["conv2d"](pads=(shape[1] // 2,) * 4)
    graph = networks.stored(op, size, shape, generator, weights, weights)
    if weights == "ternary":
        length = int(np.prod(shape[1:]))
        # Rounding Gaussian weights with the least squared error leaves 46 % zeros.
        codes = generator.choice([1, 2, 3], (shape[0], length), p=(0.27, 0.46, 0.27))
        graph = with_codes(graph, codes)
    kernel, layer = BY_NAME[name], layer_of(graph)
    written = write(graph, "generic-m4", tmp_path, kernel)
    inputs = tuple(x[:1] for x in networks.samples(graph, np.random.default_rng(1), 1))
    np.testing.assert_array_equal(on_core(written, inputs), expected(graph, inputs))
    run = inferred(written, inputs)
    products = layer.output.size * np.prod(shape[1:])
    print(f"\n{name} {weights} {shape} {run.steps[0].cycles / products:.4f} cycles per product")
    assert run.steps[0].cycles <= goal * products
    assert kernel.cycles(layer) == pytest.approx(run.steps[0].cycles, rel=0.03)
    bits = 8 * kernel.instance(layer).constants[0].weight_bytes / np.prod(shape)
    assert bits == (1 if weights == "binary" else 2)
