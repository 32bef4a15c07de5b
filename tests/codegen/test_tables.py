"""Weights that are places in a table: what is read, what is served, every byte, the price."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen import plan
from codegen.ir import Graph, Storage
from codegen.kernel import Kernel
from codegen.ops import KERNELS, OPS
from codegen.quant.scheme import BITS
from codegen.quant.schemes import SCHEMES
from codegen.tuned import coded
from tests.codegen import networks
from tests.codegen.firmware import every_byte, expected, inferred, on_core, write
from tests.codegen.test_int4 import layer_of, serves

TABLED = ("codebook16", "codebook4", "apot", "log2", "mxfp4", "mx4", "ttq")
FACTORED = ("vsq16", "group32", "mx6")
CONV, DENSE = (
    next(k for k in KERNELS[kind] if k.name == f"{kind}.tables") for kind in ("conv2d", "dense")
)


def storage(scheme: str, seed: int = 0) -> Storage:
    rows = np.random.default_rng(seed).normal(size=(6, 50))
    found = SCHEMES[scheme]
    return found.quantize(rows, np.zeros(6), found.weights[0]).storage


@pytest.mark.parametrize("scheme", [*TABLED, *FACTORED])
def test_codes_and_tables_stand_for_the_weights(scheme: str) -> None:
    stored = storage(scheme)
    code = coded.read(stored)
    assert code is not None
    numbers = code.codes
    if code.table is not None:
        tables = np.broadcast_to(code.table, (len(code.codes), code.table.shape[1]))
        numbers = np.take_along_axis(tables, code.codes, axis=1)
    weights = numbers - code.offset
    if code.factors is not None:
        weights = weights * code.factors.expanded(weights.shape[1])
    np.testing.assert_array_equal(weights, stored.expanded())
    assert (code.table is None) == (scheme in FACTORED)
    assert code.bits == {"codebook4": 2, "ttq": 2, "mx6": 6}.get(scheme, 4)
    assert code.own_tables == (scheme == "ttq")
    assert code.zero is not None or scheme.startswith("codebook")


@pytest.mark.parametrize("scheme", ["mx9", "mxint8"])
def test_what_expands_to_more_than_a_byte_is_not_read(scheme: str) -> None:
    assert coded.read(storage(scheme)) is None


def test_every_second_place_is_the_next_input_of_a_channel() -> None:
    codes = np.arange(4 * 6).reshape(4, 6) % 16
    words = coded.units(codes, 4)
    for pair in range(3):
        nibbles = [int(words[0, pair]) >> 4 * n & 15 for n in range(8)]
        assert nibbles == codes[:, 2 * pair : 2 * pair + 2].ravel().tolist()
    words = coded.units(codes % 4, 2)
    assert words.shape == (1, 2)
    last = [int(words[0, 1]) >> 2 * n & 3 for n in range(8)]
    assert last == (codes % 4)[:, 4:].ravel().tolist()
    assert words[0, 1] >> 16 == 0


@st.composite
def layers(draw: st.DrawFn) -> tuple[Graph, Kernel]:
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    scheme = draw(st.sampled_from(TABLED))
    rest = (SCHEMES[scheme].weights[0], scheme, draw(st.sampled_from([None, None, 0, 7])))
    clamp = draw(st.sampled_from([None, (0.0, 6.0)]))
    channels, depth = draw(st.integers(1, 13)), draw(st.integers(1, 70))
    if draw(st.booleans()):
        x = draw(st.sampled_from([(1, depth), (1, 2, depth), (1, 5, depth)]))
        op = OPS["dense"](clamp)
        return networks.stored(op, x, (channels, depth), generator, *rest), DENSE
    side = draw(st.sampled_from([1, 1, 3]))
    depth = depth if side == 1 else draw(st.sampled_from([3, 4, 16]))
    size = draw(st.sampled_from([(3, 5), (1, 1), (1, 2)]))
    conv = OPS["conv2d"](pads=(side // 2,) * 4, clamp=clamp)
    shape = (channels, side, side, depth)
    return networks.stored(conv, (1, *size, depth), shape, generator, *rest), CONV


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=layers(), seed=st.integers(0, 2**32))
def test_any_layer(
    made: tuple[Graph, Kernel], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    graph, kernel = made
    if not kernel.serves(layer_of(graph)):
        return
    inputs = networks.samples(graph, np.random.default_rng(seed), 2)
    written = write(graph, "generic-m4", tmp_path_factory.mktemp("tables"), kernel)
    every_byte(graph, written, inputs)


def test_where_no_code_is_zero_windows_are_whole_pairs() -> None:
    for depth, served in ((16, True), (15, False)):
        generator = np.random.default_rng(1)
        conv, shape = OPS["conv2d"](), (4, 1, 1, depth)
        graph = networks.stored(conv, (1, 3, 5, depth), shape, generator, "int4", "codebook16")
        assert serves(graph, CONV) == served


PRICES = [
    ("codebook16", (1, 25, 5, 64), (64, 1, 1, 64), 1.16, 4),
    ("codebook4", (1, 25, 5, 64), (64, 1, 1, 64), 1.16, 2),
    ("ttq", (1, 25, 5, 64), (64, 1, 1, 64), 1.10, 2.5),
    ("mxfp4", (1, 25, 5, 64), (64, 1, 1, 64), 1.17, 4.125),
    ("mx4", (1, 16, 16, 32), (32, 3, 3, 32), 1.11, 4.25),
    ("apot", (1, 128), (128, 128), 4.45, 4),
    ("vsq16", (1, 128), (128, 128), 4.1, 4.25),
    ("mx6", (1, 25, 5, 64), (64, 1, 1, 64), 1.13, 6.25),
    ("mx6", (1, 16, 16, 32), (32, 3, 3, 32), 1.11, 6.25),
]


@pytest.mark.parametrize(("scheme", "size", "shape", "goal", "bits"), PRICES)
def test_price_is_the_goal_and_the_prediction(
    scheme: str,
    size: tuple[int, ...],
    shape: tuple[int, ...],
    goal: float,
    bits: float,
    tmp_path: Path,
) -> None:
    op = OPS["dense"]() if len(shape) == 2 else OPS["conv2d"](pads=(shape[1] // 2,) * 4)
    weights = SCHEMES[scheme].weights[0]
    graph = networks.stored(op, size, shape, np.random.default_rng(3), weights, scheme)
    layer = layer_of(graph)
    kernel = plan.choose(layer, "speed")
    assert kernel.name.endswith(".factors" if scheme in FACTORED else ".tables")
    written = write(graph, "generic-m4", tmp_path, kernel)
    inputs = tuple(x[:1] for x in networks.samples(graph, np.random.default_rng(1), 1))
    np.testing.assert_array_equal(on_core(written, inputs), expected(graph, inputs))
    run = inferred(written, inputs)
    products = layer.output.size * np.prod(shape[1:])
    print(f"\n{scheme} {shape} {run.steps[0].cycles / products:.4f} cycles per product")
    print(f"predicted {kernel.cycles(layer) / run.steps[0].cycles - 1:+.2%}")
    assert run.steps[0].cycles <= goal * products
    assert kernel.cycles(layer) == pytest.approx(run.steps[0].cycles, rel=0.03)
    table = 0 if scheme in (*FACTORED, "ttq") else 1 << BITS[weights]  # what all channels share
    held = kernel.instance(layer).constants[0].weight_bytes - table
    assert held * 8 / np.prod(shape) == bits
