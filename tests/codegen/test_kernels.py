"""NumPy reference == C on the host == C on an emulated core, for every operator and variant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen import plan
from codegen.ir import Graph
from codegen.kernel import Kernel, Layer, Order
from codegen.ops import KERNELS, OPS
from targets.target import Core, load
from tests.codegen import cases, networks, side_by_side
from tests.codegen.firmware import expected, on_core, on_host, write

CASES = list(cases.cases())
FEW = 2  # cases of each kind in the default suite
IN_ONE = 12  # cases side by side in one firmware


def _layer(case: cases.Case, core: Core) -> Layer:
    node = case.graph.nodes[0]
    operands = tuple(case.graph.tensors[name] for name in node.inputs)
    return Layer(node, operands, case.graph.tensors[node.output], core)


TARGETS = ("generic-m4", "generic-m0plus")


def _few_first(found: Sequence[tuple[Any, ...]], key: Callable[[Any], object]) -> list[Any]:
    """The first few of every kind for the default suite, the rest for the sweep."""
    seen: Counter[object] = Counter()
    marked = []
    for each in found:
        seen[key(each)] += 1
        rest = (pytest.mark.sweep,) if seen[key(each)] > FEW else ()
        marked.append(pytest.param(*each, marks=rest))
    return marked


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("first", range(0, len(CASES), IN_ONE))
def test_every_kernel_on_every_case(first: int, target: str, tmp_path: Path) -> None:
    """Side by side, on the host and on the core."""
    layers = [case.graph for case in CASES[first : first + IN_ONE] if _has_code(case)]
    side_by_side.every_byte_together(layers, [target], tmp_path, seed=4)


@pytest.mark.parametrize(
    ("case", "target"),
    _few_first(
        list(product(CASES, TARGETS)), lambda found: (found[0].graph.nodes[0].op.kind, found[1])
    ),
    ids=str,
)
def test_a_case_alone(case: cases.Case, target: str, tmp_path: Path) -> None:
    """Whose output lies over its input, where its kernel allows that."""
    inputs = networks.samples(case.graph, np.random.default_rng(3))
    wanted = expected(case.graph, inputs)
    written = write(case.graph, target, tmp_path)
    np.testing.assert_array_equal(on_host(written, inputs), wanted)
    np.testing.assert_array_equal(on_core(written, inputs), wanted)


def _both_orders() -> list[tuple[cases.Case, Kernel]]:
    core = load("generic-m0plus").core
    served = [(case, k) for case in CASES for k in KERNELS[case.graph.nodes[0].op.kind]]
    return [
        (case, kernel)
        for case, kernel in served
        if "descending" in kernel.orders and kernel.serves(_layer(case, core))
    ]


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize(
    ("case", "kernel"),
    _few_first(_both_orders(), lambda found: found[1].name),
    ids=lambda x: getattr(x, "name", str(x)),
)
def test_both_orders_agree(case: cases.Case, kernel: Kernel, order: Order, tmp_path: Path) -> None:
    inputs = networks.samples(case.graph, np.random.default_rng(6))
    written = write(case.graph, "generic-m0plus", tmp_path, kernel, order)
    wanted = expected(case.graph, inputs)
    np.testing.assert_array_equal(on_host(written, inputs), wanted)
    if kernel.assembly is not None:
        np.testing.assert_array_equal(on_core(written, inputs), wanted)


def _has_code(case: cases.Case) -> bool:
    return case.graph.nodes[0].op.kind != "reshape"


def _largest(graph: Graph) -> int:
    return max(tensor.size for tensor in graph.tensors.values() if tensor.data is None)


ELSEWHERE = {
    "generic-m4": [
        ("generic-m4", "zig"),
        ("generic-m7", "gcc"),
        ("generic-m33", "gcc"),
        ("generic-m33", "zig"),
    ],
    "generic-m0plus": [("generic-m0plus", "zig"), ("microbit", "gcc"), ("microbit", "zig")],
    "generic-m3": [("generic-m3", "gcc"), ("generic-m3", "zig")],
}
LITTLE_RAM = 32 << 10


def _elsewhere() -> list[tuple[str, str, list[cases.Case]]]:
    """Targets and compilers that the other tests leave out, with the cases that run in assembly there."""
    found = []
    for like, places in ELSEWHERE.items():
        core = load(like).core
        tuned = [
            case
            for case in CASES
            if _has_code(case) and plan.choose(_layer(case, core), "speed").assembly is not None
        ]
        for target, compiler in places:
            found += [(target, compiler, some) for some in _groups(tuned, load(target).total_ram)]
    return found


def _groups(some: list[cases.Case], ram: int) -> Iterator[list[cases.Case]]:
    """Cases that go into one firmware; the smallest board has little room beside a large tensor."""
    if ram > LITTLE_RAM:
        small, large, at_once = some, [], IN_ONE
    else:
        small = [case for case in some if _largest(case.graph) < ram // 12]
        large = [case for case in some if ram // 12 <= _largest(case.graph) < ram // 3]
        at_once = IN_ONE // 4
    yield from (small[first : first + at_once] for first in range(0, len(small), at_once))
    yield from ([case] for case in large)


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("target", "compiler", "some"),
    [pytest.param(*each, id=f"{each[0]}-{each[1]}-{each[2][0]}") for each in _elsewhere()],
)
def test_assembly_on_other_cores_and_compilers(
    target: str, compiler: str, some: list[cases.Case], tmp_path: Path
) -> None:
    layers = [case.graph for case in some]
    side_by_side.every_byte_together(
        layers, [target], tmp_path, seed=5, fastest=True, compiler=compiler
    )


def test_every_kernel_has_a_case() -> None:
    layers = [_layer(case, load(t).core) for case in CASES if _has_code(case) for t in TARGETS]
    tested = {k.name for layer in layers for k in KERNELS[layer.node.op.kind] if k.serves(layer)}
    # Kernels that read plain numbers have their own tests: tests/codegen/plain, test_tables_of_indices.py.
    known = {kernel.name for kernels in KERNELS.values() for kernel in kernels}
    assert tested == {k for k in known if not k.endswith(".plain")} - {
        "gather.portable",
        "to_grid.portable",
    }


@st.composite
def convolutions(draw: st.DrawFn) -> Graph:
    size = draw(st.tuples(st.integers(1, 8), st.integers(1, 8)))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    pads = draw(st.tuples(*[st.integers(0, 3)] * 4))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    depth = groups * draw(st.integers(1, 3))
    channels = groups * draw(st.integers(1, 3))
    if draw(st.booleans()):  # depthwise
        groups = depth = channels = draw(st.integers(1, 9))
    zero_points = draw(st.tuples(st.integers(-128, 127), st.integers(-128, 127)))
    scales = draw(st.tuples(st.floats(1e-3, 1.0), st.floats(1e-3, 10.0)))
    clamp = draw(st.sampled_from([None, (0.0, 6.0), (0.0, float("inf"))]))
    for axis in (0, 1):  # the window must fit
        while size[axis] + pads[axis] + pads[axis + 2] < (kernel[axis] - 1) * dilation[axis] + 1:
            size = tuple(n + 1 if a == axis else n for a, n in enumerate(size))  # type: ignore[assignment]
    op = OPS["conv2d"](stride, pads, dilation, groups, clamp)
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    extreme = draw(st.sampled_from([None, None, -128, 127]))
    weights = (channels, *kernel, depth // groups)
    grids = ((scales[0], zero_points[0]), (scales[1], zero_points[1]))
    return networks.weighted(op, (1, *size, depth), weights, generator, grids, extreme)


@st.composite
def dense_layers(draw: st.DrawFn) -> Graph:
    length, channels = draw(st.integers(1, 80)), draw(st.integers(1, 13))
    x = (1, *draw(st.sampled_from([(), (3,)])), length)
    zero_points = draw(st.tuples(st.integers(-128, 127), st.integers(-128, 127)))
    scales = draw(st.tuples(st.floats(1e-3, 1.0), st.floats(1e-3, 10.0)))
    op = OPS["dense"](draw(st.sampled_from([None, (0.0, 6.0), (0.0, float("inf"))])))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    grids = ((scales[0], zero_points[0]), (scales[1], zero_points[1]))
    extreme = draw(st.sampled_from([None, None, -128, 127]))
    return networks.weighted(op, x, (channels, length), generator, grids, extreme)


def _agrees(graph: Graph, seed: int, target: str, folder: Path) -> None:
    inputs = networks.samples(graph, np.random.default_rng(seed), 3)
    written = write(graph, target, folder)
    wanted = expected(graph, inputs)
    np.testing.assert_array_equal(on_host(written, inputs), wanted)
    if any(name.endswith(".S") for name in written.sources):
        np.testing.assert_array_equal(on_core(written, inputs), wanted)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=convolutions(), seed=st.integers(0, 2**32))
def test_any_convolution(
    graph: Graph, seed: int, target: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _agrees(graph, seed, target, tmp_path_factory.mktemp("conv"))


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=dense_layers(), seed=st.integers(0, 2**32))
def test_any_dense_layer(
    graph: Graph, seed: int, target: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _agrees(graph, seed, target, tmp_path_factory.mktemp("dense"))
