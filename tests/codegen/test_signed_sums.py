"""Ternary and binary weights on Armv6-M: tables of signed sums, every byte, the price."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen.ir import Graph
from codegen.kernel import Layer
from codegen.ops import KERNELS, OPS
from codegen.tuned.signed_sums import BINARY, ENTRY_BYTES, TERNARY, Table
from targets.target import load
from tests.codegen import networks
from tests.codegen.firmware import every_byte, expected, inferred, on_core, on_host, write

BY_NAME = {k.name: k for kind in ("conv2d", "dense") for k in KERNELS[kind]}
TABLES = BY_NAME["conv2d.signed_sums"]


def layer_of(graph: Graph, target: str = "generic-m0plus") -> Layer:
    node = graph.nodes[0]
    operands = tuple(graph.tensors[name] for name in node.inputs)
    return Layer(node, operands, graph.tensors[node.output], load(target).core)


def ternary_codes(graph: Graph, generator: np.random.Generator) -> Graph:
    """The network with weights -1, 0 and 1 (a code of two bits could be -2)."""
    w = graph.tensors["w"]
    assert w.storage is not None
    codes = generator.integers(1, 4, w.storage.codes.shape).astype(np.uint8)
    storage = replace(w.storage, codes=codes)
    data = storage.expanded().reshape(w.shape).astype(np.int8)
    return graph.with_tensors(replace(w, storage=storage, data=data))


@pytest.mark.parametrize("table", [BINARY, TERNARY], ids=("binary", "ternary"))
def test_a_table_is_built_entry_by_entry_and_found_by_code(table: Table) -> None:
    generator = np.random.default_rng(0)
    x = generator.integers(-128, 128, table.size)
    step = 2 if table.radix == 2 else 1
    entries = [-int(x.sum())]
    for one in table.steps():
        entries.append(entries[-1] + (1 if one.plus else -1) * step * int(x[one.element]))
    assert ENTRY_BYTES * len(entries) == table.bytes
    # The last element of ternary tables is only ever added.
    assert table.radix == 2 or all(one.plus for one in table.steps() if one.element == 2)
    values = [-1, 1] if table.radix == 2 else [-1, 0, 1]
    groups = generator.choice(values, (200, table.size))
    codes = table.codes(groups)
    assert codes.max() < 256
    np.testing.assert_array_equal(np.array(entries)[codes // ENTRY_BYTES], groups @ x)


def test_what_is_served() -> None:
    generator = np.random.default_rng(1)
    conv = OPS["conv2d"]()

    def one(weights: str, scheme: str, code: int | None = None) -> Graph:
        return networks.stored(conv, (1, 3, 3, 16), (8, 1, 1, 16), generator, weights, scheme, code)

    assert TABLES.serves(layer_of(one("binary", "binary")))
    assert TABLES.serves(layer_of(one("ternary", "ternary", 1)))
    assert not TABLES.serves(layer_of(one("ternary", "ternary", 0)))  # -2
    assert not TABLES.serves(layer_of(one("int4", "uniform")))
    assert not TABLES.serves(layer_of(one("int8", "mx6", 0)))  # -128, whose magnitude is no int8
    assert not TABLES.serves(layer_of(one("binary", "binary"), "generic-m4"))


@pytest.mark.parametrize("name", ["conv2d.pairs", "dense.pairs"])
def test_kernels_for_int8_take_few_bits_too(name: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    op = OPS["conv2d"]() if name == "conv2d.pairs" else OPS["dense"]()
    middle = (3, 3) if name == "conv2d.pairs" else ()
    shape = (9, *(1 for _ in middle), 40)
    for number, (weights, scheme) in enumerate((("int4", "uniform"), ("ternary", "ttq"))):
        graph = networks.stored(op, (1, *middle, 40), shape, generator, weights, scheme)
        layer = layer_of(graph)
        expanding = BY_NAME[name.replace("pairs", "expand")]
        assert BY_NAME[name].serves(layer)
        assert BY_NAME[name].cycles(layer) < 0.7 * expanding.cycles(layer)
        folder = tmp_path / str(number)
        folder.mkdir()
        inputs = networks.samples(graph, generator, 2)
        written, wanted = (
            write(graph, "generic-m0plus", folder, BY_NAME[name]),
            expected(graph, inputs),
        )
        np.testing.assert_array_equal(on_host(written, inputs), wanted)
        np.testing.assert_array_equal(on_core(written, inputs), wanted)
    wide = networks.stored(op, (1, *middle, 40), shape, generator, "int8", "mx9")
    assert BY_NAME[name].serves(layer_of(wide)) == (wide.tensors["w"].grid.width == 8)


@st.composite
def layers(draw: st.DrawFn) -> Graph:
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    weights = draw(st.sampled_from(["binary", "ternary"]))
    code = draw(st.sampled_from([None, None, 1, 3]))
    clamp = draw(st.sampled_from([None, (0.0, 6.0), (0.0, inf)]))
    channels = draw(st.integers(1, 11))
    gain = draw(st.sampled_from([1.0, 100.0, 900.0]))
    window = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
    depth = draw(st.one_of(st.integers(1, 40), st.just(300)))
    size = (draw(st.integers(3, 6)), draw(st.integers(3, 6)), depth)
    stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    op, shape = OPS["conv2d"](stride, pads, clamp=clamp), (channels, *window, depth)
    graph = networks.stored(op, (1, *size), shape, generator, weights, weights, code, gain)
    return ternary_codes(graph, generator) if (weights, code) == ("ternary", None) else graph


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    graph=layers(),
    seed=st.integers(0, 2**32),
    target=st.sampled_from(["generic-m0plus", "generic-m0plus", "generic-m3"]),
)
def test_any_layer(
    graph: Graph, seed: int, target: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not TABLES.serves(layer_of(graph, target)):
        return
    inputs = networks.samples(graph, np.random.default_rng(seed), 2)
    written = write(graph, target, tmp_path_factory.mktemp("tables"), TABLES)
    every_byte(graph, written, inputs)


GOALS = [
    ("binary", (1, 6, 6, 256), (64, 1, 1, 256), 0.63, 2),
    ("ternary", (1, 6, 6, 256), (64, 1, 1, 256), 0.80, 8 / 3),
    ("binary", (1, 16, 16, 32), (32, 3, 3, 32), 0.74, 2),
    ("ternary", (1, 16, 16, 32), (32, 3, 3, 32), 0.95, 8 / 3),
]


@pytest.mark.parametrize(("weights", "size", "shape", "goal", "bits"), GOALS)
def test_price_is_the_goal_and_the_prediction(
    weights: str,
    size: tuple[int, ...],
    shape: tuple[int, ...],
    goal: float,
    bits: float,
    tmp_path: Path,
) -> None:
    generator = np.random.default_rng(3)
    op = OPS["conv2d"](pads=(shape[1] // 2,) * 4)
    graph = networks.stored(op, size, shape, generator, weights, weights)
    graph = ternary_codes(graph, generator) if weights == "ternary" else graph
    layer = layer_of(graph)
    written = write(graph, "generic-m0plus", tmp_path, TABLES)
    inputs = tuple(x[:1] for x in networks.samples(graph, np.random.default_rng(1), 1))
    np.testing.assert_array_equal(on_core(written, inputs), expected(graph, inputs))
    run = inferred(written, inputs)
    products = layer.output.size * np.prod(shape[1:])
    print(
        f"\n{weights} {shape} {run.steps[0].instructions / products:.4f} instructions per product"
    )
    assert run.steps[0].instructions <= goal * products
    assert TABLES.cycles(layer) == pytest.approx(run.steps[0].cycles, rel=0.05)
    held = 8 * TABLES.instance(layer).constants[0].weight_bytes / np.prod(shape)
    assert held == pytest.approx(bits, rel=0.04)
