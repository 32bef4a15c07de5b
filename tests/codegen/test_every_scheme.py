"""Every way to store weights and activations x operator x place: no byte differs from the reference.

An example of a property is a firmware of several layers; each layer is there once for every kernel that
serves it. A few examples are of the default suite, many of the sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from codegen.ir import Graph, Op, per_tensor
from codegen.ops import OPS
from codegen.quant import few_levels
from codegen.quant.clipping import Range
from codegen.quant.schemes import SCHEMES
from tests.codegen import networks
from tests.codegen.side_by_side import every_byte_together, serving

Format = tuple[str, str | None]
PLAIN: Format = ("int8", None)  # weights as they are
FORMATS: list[Format] = [PLAIN, *((w, s.name) for s in SCHEMES.values() for w in s.weights)]
SOME: list[Format] = [PLAIN, ("int4", "uniform"), ("ternary", "ternary"), ("binary", "binary")]
SOME += [("int4", "vsq16"), ("int4", "codebook16")]  # one for each family of kernels
OPERATORS = ("conv", "depthwise", "dense")
TARGETS = ("generic-m4", "generic-m0plus")
GAINS = (1.0, 30.0, 300.0, 4000.0)
DEPTHS = st.one_of(
    st.sampled_from([1, 2, 3, 4, 15, 16, 17, 31, 32, 33, 64, 70]), st.integers(1, 70)
)
LENGTHS = st.one_of(DEPTHS, st.sampled_from([127, 128, 255, 256, 257, 520]))
PADS = st.tuples(*[st.integers(0, 2)] * 4)
STRIDES = st.tuples(st.integers(1, 2), st.integers(1, 2))
CLAMPS = st.sampled_from([None, (0.0, 6.0), (0.0, inf)])


@st.composite
def shapes(draw: st.DrawFn, operator: str) -> tuple[Op, tuple[int, ...], tuple[int, ...]]:
    """An operator, the shape of its input, and that of its weights."""
    clamp = draw(CLAMPS)
    if operator == "dense":
        length, rows = draw(LENGTHS), draw(st.sampled_from([(), (), (2,), (5,)]))
        return OPS["dense"](clamp), (1, *rows, length), (draw(st.integers(1, 17)), length)
    window = draw(st.sampled_from([(1, 1), (1, 1), (3, 3), (3, 3), (1, 2), (2, 3), (4, 4)]))
    pads, stride = draw(PADS), draw(STRIDES)
    least = tuple(max(1, window[i] - pads[i] - pads[i + 2]) for i in (0, 1))
    size = tuple(draw(st.integers(low, low + 6)) for low in least)
    if operator == "depthwise":
        depth = draw(st.integers(2, 17))
        conv = OPS["conv2d"](stride, pads, groups=depth, clamp=clamp)
        return conv, (1, *size, depth), (depth, *window, 1)
    depth = draw(DEPTHS) if window == (1, 1) else draw(st.sampled_from([1, 3, 4, 5, 16, 24]))
    conv = OPS["conv2d"](stride, pads, clamp=clamp)
    return conv, (1, *size, depth), (draw(st.integers(1, 17)), *window, depth)


@st.composite
def layers(draw: st.DrawFn, weights: str, scheme: str | None, operator: str, levels: int) -> Graph:
    """A layer with any weights or all at one code, any zero points, gains and large biases."""
    op, x, shape = draw(shapes(operator))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    if scheme is None:
        extreme = draw(st.sampled_from([None, None, -127, 127]))
        graph = networks.weighted(op, x, shape, generator, extreme=extreme)
    else:
        code = draw(st.sampled_from([None, None, 0, 1, -1]))
        gain = draw(st.sampled_from(GAINS))
        graph = networks.stored(op, x, shape, generator, weights, scheme, code, gain)
    graph = _on_grids(graph, draw(st.integers(-128, 127)), draw(st.integers(-128, 127)), levels)
    reach = draw(st.sampled_from([0, 5_000, 100_000, 1 << 22]))
    b = graph.tensors["b"]
    biases = generator.integers(-reach, reach + 1, b.size).astype(np.int32)
    return graph.with_tensors(replace(b, data=biases))


def _on_grids(graph: Graph, x_zero: int, y_zero: int, levels: int) -> Graph:
    """The layer with other zero points, and results on 16 levels if so many are asked for."""
    x, y = graph.tensors["x0"], graph.tensors["y"]
    graph = graph.with_tensors(replace(x, quant=per_tensor(x.grid.scale, x_zero)))
    if levels == 256:
        return graph.with_tensors(replace(y, quant=per_tensor(y.grid.scale, y_zero)))
    share = (y_zero + 128) / 255
    width = few_levels.STEPS * y.grid.scale
    coarse = few_levels.grid(Range(-share * width, (1 - share) * width))
    low = few_levels.LEAST - coarse.zero_point
    clamp = (low * coarse.scale, (low + few_levels.STEPS) * coarse.scale)
    (node,) = graph.nodes
    graph = replace(graph, nodes=(replace(node, op=replace(node.op, clamp=clamp)),))  # type: ignore[type-var]
    return graph.with_tensors(replace(y, quant=coarse))


@st.composite
def of_signs(draw: st.DrawFn, each: int) -> list[Graph]:
    """Layers of signs with signs, to signs and to int8; a dense layer is a convolution of one pixel."""
    found = []
    for kind in ("conv", "dense") * each:
        generator = np.random.default_rng(draw(st.integers(0, 2**32)))
        extreme = draw(st.sampled_from([None, None, "ones", "zeros"]))
        depth, channels = draw(LENGTHS), draw(st.integers(1, 40))
        window, pads, size = (1, 1), (0,) * 4, (1, 1)
        if kind == "conv":
            window = draw(st.sampled_from([(1, 1), (3, 3), (2, 3)]))
            pads = draw(st.tuples(*[st.integers(0, 1)] * 4))
            size = draw(st.tuples(st.integers(3, 6), st.integers(3, 6)))
        op = OPS["binary_conv2d"](
            (1, 1), pads, pad_value=draw(st.sampled_from([-1, 0, 1])), binary=draw(st.booleans())
        )
        shape = (channels, *window, depth)
        found.append(networks.binary(op, (1, *size, depth), shape, generator, extreme))
    return found


def each(formats: Sequence[Format], operators: Sequence[str], levels: int = 256) -> Any:
    """A layer of every operator in every format."""
    return st.tuples(*[layers(*f, operator, levels) for f in formats for operator in operators])


def check(
    graphs: Any, examples: int, folders: pytest.TempPathFactory, fastest: bool = False
) -> None:
    """Runs the property; `fastest` keeps but one kernel for each layer."""

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # An example takes seconds: one that fails is reported as it is.
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
    )
    @given(graphs=graphs, seed=st.integers(0, 2**32))
    def no_byte_differs(graphs: Sequence[Graph], seed: int) -> None:
        every_byte_together(graphs, TARGETS, folders.mktemp("layers"), seed, fastest)

    no_byte_differs()


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_format(operator: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    check(each(FORMATS, [operator]), 1, tmp_path_factory, fastest=True)


def test_activations_of_few_bits(tmp_path_factory: pytest.TempPathFactory) -> None:
    check(each(SOME, OPERATORS, 16), 1, tmp_path_factory, fastest=True)
    check(of_signs(2), 1, tmp_path_factory, fastest=True)


@pytest.mark.sweep
@pytest.mark.parametrize(("weights", "scheme"), FORMATS)
def test_every_kernel_in_every_format(
    weights: str, scheme: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check(each([(weights, scheme)] * 2, OPERATORS), 3, tmp_path_factory)


@pytest.mark.sweep
@pytest.mark.parametrize("operator", OPERATORS)
def test_every_kernel_with_activations_of_four_bits(
    operator: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check(each(SOME, [operator], 16), 1, tmp_path_factory)


@pytest.mark.sweep
def test_every_kernel_with_activations_of_one_bit(tmp_path_factory: pytest.TempPathFactory) -> None:
    check(of_signs(4), 4, tmp_path_factory)


def test_every_cell_has_a_kernel_on_every_core() -> None:
    """The table of docs/low-bit.md has no hole: where nothing faster serves, rows are expanded in C."""
    generator = np.random.default_rng(0)
    conv, dense = OPS["conv2d"], OPS["dense"]()
    cells = (
        (conv(pads=(1, 1, 1, 1)), (1, 4, 4, 8), (8, 3, 3, 8)),
        (conv(pads=(1, 1, 1, 1), groups=8), (1, 4, 4, 8), (8, 3, 3, 1)),
        (dense, (1, 32), (8, 32)),
    )
    for weights, scheme in FORMATS:
        for op, x, shape in cells:
            for target in TARGETS:
                if scheme is None:
                    graph = networks.weighted(op, x, shape, generator)
                else:
                    graph = networks.stored(op, x, shape, generator, weights, scheme)
                assert serving(graph, target), (weights, scheme, op.kind, target)
