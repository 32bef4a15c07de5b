"""Pruning keeps every output byte, and removes what it should."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen import reference
from codegen.intervals import analyse
from codegen.ir import Graph, Node, Op, Port, Quant, Tensor, macs, per_tensor, verify_quantized
from codegen.ops import OPS
from codegen.prune import prune
from tests.codegen import cases, networks
from tests.golden.network import network


class Chain:
    """A network built layer by layer, some of whose channels are dead."""

    def __init__(self, seed: int, shape: tuple[int, ...], zero_point: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.tensors = {"x": Tensor("x", shape, per_tensor(0.1, zero_point))}
        self.nodes: list[Node] = []
        self.last = "x"

    def layer(self, op: Op, weights: tuple[int, ...], out: Quant, dead: float) -> Chain:
        """Dead channels have a bias far below what their weights could lift."""
        g, channels, name = self.generator, weights[0], f"t{len(self.nodes)}"
        w = g.integers(-127, 128, weights).astype(np.int8)
        b = g.integers(-3000, 3000, channels).astype(np.int32)
        killed = g.random(channels) < dead
        b[killed] = g.choice([-(2**24), 2**24], int(killed.sum()))
        scales = tuple(float(s) for s in g.uniform(1e-4, 5e-3, channels))
        zeros = (0,) * channels
        grid = Quant(tuple(s * self.tensors[self.last].grid.scale for s in scales), zeros, 0, 32)
        self.tensors[f"{name}w"] = Tensor(f"{name}w", weights, Quant(scales, zeros, 0), w)
        self.tensors[f"{name}b"] = Tensor(f"{name}b", b.shape, grid, b)
        return self.node(op, (self.last, f"{name}w", f"{name}b"), out)

    def node(self, op: Op, inputs: tuple[str, ...], out: Quant) -> Chain:
        name = f"t{len(self.nodes)}"
        shape = op.infer(tuple(self.tensors[i].shape for i in inputs))
        self.tensors[name] = Tensor(name, shape, out)
        self.nodes.append(Node(op, inputs, name, (name,)))
        self.last = name
        return self

    def graph(self) -> Graph:
        ports = [Port(n, n, self.tensors[n].shape, ()) for n in ("x", self.last)]
        ports = [replace(p, perm=tuple(range(len(p.shape)))) for p in ports]
        made = Graph("chain", self.tensors, tuple(self.nodes), (ports[0],), (ports[1],))
        return verify_quantized(made)


@st.composite
def chains(draw: st.DrawFn) -> Graph:
    dead = draw(st.sampled_from([0.3, 0.7, 1.0]))
    relu = draw(st.sampled_from([None, (0.0, inf), (0.0, 6.0)]))
    zero_points = [draw(st.sampled_from([-128, -128, 5, 127])) for _ in range(5)]
    grids = [per_tensor(0.05, z) for z in zero_points]
    chain = Chain(draw(st.integers(0, 2**32)), (1, 6, 5, 3), draw(st.integers(-128, 127)))
    conv = OPS["conv2d"]
    chain.layer(conv(pads=(1, 1, 1, 1), clamp=relu), (8, 3, 3, 3), grids[0], dead)
    chain.layer(conv(pads=(1, 1, 1, 1), groups=8, clamp=relu), (8, 3, 3, 1), grids[1], dead)
    skip = chain.last
    chain.layer(conv(clamp=relu), (8, 1, 1, 8), grids[2], dead)
    if draw(st.booleans()):
        chain.node(OPS["add"](), (skip, chain.last), grids[3])
    if draw(st.booleans()):
        chain.layer(conv(pads=(1, 1, 1, 1), stride=(2, 2)), (6, 3, 3, 8), grids[4], dead)
    chain.node(OPS["lookup"]("hard_swish"), (chain.last,), grids[3])
    shape = chain.tensors[chain.last].shape
    if draw(st.booleans()):
        pool = OPS["average_pool"](shape[1:3])
        chain.node(pool, (chain.last,), grids[4])
    size = chain.tensors[chain.last].size
    chain.node(OPS["reshape"]((1, size)), (chain.last,), chain.tensors[chain.last].grid)
    chain.layer(OPS["dense"](), (4, size), per_tensor(0.3, 0), 0.0)
    return chain.graph()


@settings(max_examples=120, deadline=None)
@given(graph=chains(), seed=st.integers(0, 2**32))
def test_every_byte_stays(graph: Graph, seed: int) -> None:
    inputs = networks.samples(graph, np.random.default_rng(seed), 12)
    wanted = reference.run(graph, inputs)[0]
    small = prune(graph)
    np.testing.assert_array_equal(reference.run(small, inputs)[0], wanted)
    assert macs(small) <= macs(graph)


@settings(max_examples=60, deadline=None)
@given(graph=chains(), seed=st.integers(0, 2**32))
def test_intervals_hold(graph: Graph, seed: int) -> None:
    inputs = networks.samples(graph, np.random.default_rng(seed), 12)
    found = analyse(graph)

    def inside(name: str, value: reference.Stored) -> None:
        assert (value >= found[name].low.astype(np.int8)).all()
        assert (value <= found[name].high.astype(np.int8)).all()

    reference.run(graph, inputs, inside)


@pytest.mark.parametrize("case", list(cases.cases()), ids=str)
def test_every_operator_passes_through(case: cases.Case) -> None:
    inputs = networks.samples(case.graph, np.random.default_rng(1))
    wanted = reference.run(case.graph, inputs)[0]
    found = reference.run(prune(case.graph), inputs)[0]
    np.testing.assert_array_equal(found, wanted)


def test_dead_channels_disappear() -> None:
    chain = Chain(1, (1, 4, 4, 3), -128)
    grid = per_tensor(0.05, -128)
    chain.layer(OPS["conv2d"](clamp=(0.0, inf)), (16, 1, 1, 3), grid, 0.5)
    chain.layer(OPS["conv2d"](), (5, 1, 1, 16), grid, 0.0)
    alive = 16 - len(analyse(chain.graph())["t0"].channel_constants())
    assert 0 < alive < 16
    small = prune(chain.graph())
    assert small.tensors["t0"].shape == (1, 4, 4, alive)
    assert small.tensors[small.nodes[1].inputs[1]].shape == (5, 1, 1, alive)


def test_a_constant_seen_through_padding_stays_unless_it_is_the_zero_point() -> None:
    for sign, removed in ((-1, True), (1, False)):  # saturated low is the zero point, high is not
        chain = Chain(2, (1, 4, 4, 3), 0)
        grid = per_tensor(0.05, -128)
        chain.layer(OPS["conv2d"](), (4, 1, 1, 3), grid, 0.0)
        bias = chain.tensors["t0b"].values.copy()
        bias[1] = sign * 2**24
        chain.tensors["t0b"] = replace(chain.tensors["t0b"], data=bias)
        chain.layer(OPS["conv2d"](pads=(1, 1, 1, 1)), (2, 3, 3, 4), grid, 0.0)
        small = prune(chain.graph())
        assert small.tensors["t0"].shape[-1] == (3 if removed else 4)


def test_a_network_without_dead_channels_is_left_alone() -> None:
    graph = network()
    assert prune(graph) is graph
