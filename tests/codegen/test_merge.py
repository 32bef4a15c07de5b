"""Equal channels are read once and removed; every output byte stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen import reference
from codegen.ir import Graph, Tensor, macs, per_tensor
from codegen.merge import merge, numbered
from codegen.ops import OPS
from codegen.prune import prune
from tests.codegen import networks
from tests.codegen.test_prune import Chain

GRID = per_tensor(0.05, -128)
SMALL = 20  # weights of consumers: sums of a few stay int8


def planted(chain: Chain, generator: np.random.Generator, share: float) -> None:
    """Makes some rows of the last layer copies of its first row."""
    node = chain.nodes[-1]
    copied = np.flatnonzero(generator.random(chain.tensors[chain.last].shape[-1]) < share)
    for name in node.inputs[1:]:
        tensor = chain.tensors[name]
        data = tensor.values.copy()
        data[copied] = data[0]
        scales = list(tensor.grid.scales)
        for row in copied:
            scales[row] = scales[0]
        chain.tensors[name] = replace(
            tensor, data=data, quant=replace(tensor.grid, scales=tuple(scales))
        )


def quiet(chain: Chain) -> None:
    """Makes the last layer's weights small."""
    tensor = chain.tensors[chain.nodes[-1].inputs[1]]
    data = np.clip(tensor.values, -SMALL, SMALL)
    chain.tensors[tensor.name] = replace(tensor, data=data)


@st.composite
def chains(draw: st.DrawFn) -> Graph:
    seed, share = draw(st.integers(0, 2**32)), draw(st.sampled_from([0.3, 0.7, 1.0]))
    generator = np.random.default_rng(seed)
    chain = Chain(seed, (1, 5, 4, 3), draw(st.sampled_from([-128, 0, 9])))
    conv = OPS["conv2d"]
    chain.layer(conv(pads=(1, 1, 1, 1)), (8, 3, 3, 3), GRID, 0.0)
    planted(chain, generator, share)
    skip = chain.last
    if draw(st.booleans()):
        chain.layer(conv(pads=(1, 1, 1, 1), groups=8), (8, 3, 3, 1), GRID, 0.0)
        planted(chain, generator, share)
    if draw(st.booleans()):
        chain.node(OPS["add"](), (skip, chain.last), per_tensor(0.1, -128))
    if draw(st.booleans()):
        chain.node(OPS["lookup"]("hard_swish"), (chain.last,), GRID)
    chain.layer(conv(), (6, 1, 1, 8), GRID, 0.0)
    if draw(st.booleans()):
        quiet(chain)
    planted(chain, generator, share)
    size = chain.tensors[chain.last].size
    chain.node(OPS["reshape"]((1, size)), (chain.last,), GRID)
    chain.layer(OPS["dense"](), (4, size), per_tensor(0.3, 0), 0.0)
    if draw(st.booleans()):
        quiet(chain)
    return chain.graph()


@settings(max_examples=150, deadline=None)
@given(graph=chains(), seed=st.integers(0, 2**32))
def test_every_byte_stays(graph: Graph, seed: int) -> None:
    inputs = networks.samples(graph, np.random.default_rng(seed), 8)
    wanted = reference.run(graph, inputs)[0]
    for smaller in (merge(graph), prune(graph)):
        found = reference.run(smaller, inputs)[0]
        np.testing.assert_array_equal(found, wanted)
        assert macs(smaller) <= macs(graph)


@settings(max_examples=60, deadline=None)
@given(graph=chains(), seed=st.integers(0, 2**32))
def test_equal_numbers_are_equal_values(graph: Graph, seed: int) -> None:
    inputs = networks.samples(graph, np.random.default_rng(seed), 4)
    numbers = numbered(graph)

    def same(name: str, value: reference.Stored) -> None:
        for channel, number in enumerate(numbers[name]):
            np.testing.assert_array_equal(value[..., channel], value[..., number])

    reference.run(graph, inputs, same)


def pair(first: int, second: int) -> Graph:
    """Two equal channels, which the next layer weighs with these numbers."""
    chain = Chain(3, (1, 4, 4, 2), 0)
    chain.layer(OPS["conv2d"](), (2, 1, 1, 2), GRID, 0.0)
    for name in chain.nodes[-1].inputs[1:]:
        tensor = chain.tensors[name]
        data = tensor.values.copy()
        data[1] = data[0]
        scales = (tensor.grid.scales[0],) * 2
        chain.tensors[name] = replace(tensor, data=data, quant=replace(tensor.grid, scales=scales))
    chain.layer(OPS["conv2d"](), (3, 1, 1, 2), GRID, 0.0)
    weights: Tensor = chain.tensors[chain.nodes[-1].inputs[1]]
    data = np.array([[first, second]] * 3, np.int8).reshape(weights.shape)
    chain.tensors[weights.name] = replace(weights, data=data)
    return chain.graph()


def test_columns_are_added() -> None:
    small = prune(pair(100, -40))
    assert small.tensors["t0"].shape[-1] == 1
    assert (small.tensors[small.nodes[1].inputs[1]].values == 60).all()


def test_columns_whose_sum_leaves_int8_stay() -> None:
    graph = pair(100, 40)
    assert merge(graph) is graph
    assert prune(graph) is graph


def test_equal_channels_of_a_depthwise_layer_disappear_with_their_inputs() -> None:
    chain = Chain(5, (1, 6, 6, 3), 0)
    everything = np.random.default_rng(0)
    chain.layer(OPS["conv2d"](pads=(1, 1, 1, 1)), (8, 3, 3, 3), GRID, 0.0)
    planted(chain, everything, 2.0)
    chain.layer(OPS["conv2d"](pads=(1, 1, 1, 1), groups=8), (8, 3, 3, 1), GRID, 0.0)
    planted(chain, everything, 2.0)
    chain.layer(OPS["conv2d"](), (4, 1, 1, 8), GRID, 0.0)
    name = chain.nodes[-1].inputs[1]
    ones = np.ones(chain.tensors[name].shape, np.int8)
    chain.tensors[name] = replace(chain.tensors[name], data=ones)
    small = prune(chain.graph())
    assert [small.tensors[f"t{i}"].shape[-1] for i in (0, 1)] == [1, 1]
    assert (small.tensors[name].values == 8).all()


def test_rows_of_zeros_become_a_bias() -> None:
    chain = Chain(7, (1, 4, 4, 3), 0)
    chain.layer(OPS["conv2d"](), (5, 1, 1, 3), GRID, 0.0)
    weights = chain.tensors["t0w"]
    data = weights.values.copy()
    data[2] = 0
    chain.tensors["t0w"] = replace(weights, data=data)
    chain.layer(OPS["conv2d"](), (4, 1, 1, 5), GRID, 0.0)
    assert prune(chain.graph()).tensors["t0"].shape[-1] == 4
