"""Streamed input: rows of the input in a ring, the same bytes everywhere, refusals, negative controls."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen import check_plan, emit, plan, reference
from codegen.chain import Source
from codegen.check_plan import PlanError
from codegen.ir import Array, Graph
from codegen.ops import OPS
from codegen.plan import Plan
from codegen.select import Objective
from emulator.cortex_m import CortexM
from emulator.host import HostModel
from emulator.model import EmulatedModel
from targets import toolchain
from targets.errors import UsageError
from targets.machine import ModelImage
from targets.target import load
from tests.codegen import networks
from tests.codegen.chain_networks import Builder, random_chain, residual
from tests.codegen.firmware import COMPILER
from tests.codegen.test_chain import TARGETS, in_pairs, names, run_everywhere, with_chain
from thumbnet import compiler
from thumbnet.options import CompileOptions

CORE = load("generic-m4").core
OBJECTIVES: tuple[Objective, ...] = ("speed", "sram")
OK, ERR_NULL, ERR_ROWS = 0, -1, -6


def streamed(graph: Graph, target: str = "generic-m4", **kernels: str) -> Plan:
    """The plan with all layers in one chain, fed row by row."""
    core = load(target).core
    return plan.make(graph, core, overrides=kernels, chains=[names(graph)], stream=True)


def source(made: Plan) -> Source:
    found = made.source
    assert found is not None
    return found


def builder(*shape: int) -> Builder:
    return Builder(np.random.default_rng(1), (1, *shape))


def with_ring(made: Plan, pixels: int) -> Plan:
    """The same plan with a ring of so many input pixels."""
    step = made.steps[0]
    assert step.chain is not None
    return with_chain(made, step, replace(step.chain, source=replace(source(made), ring=pixels)))


def test_a_window_needs_as_many_rows_as_it_is_high() -> None:
    b = builder(20, 7, 4)
    made = streamed(b.graph(b.conv("x", 8)))
    assert source(made) == Source("x", 20, 7, 4, 3 * 7)
    # The output, three rows of 28 bytes, and neither the input nor a copy of it.
    assert made.arena == made.bound == 20 * 7 * 8 + 3 * 28
    assert "x" not in made.slots


def test_two_readers_of_the_input_share_its_rows() -> None:
    b = builder(9, 8, 4)
    main = b.conv(b.conv(b.conv("x", 4), 4), 4)
    made = check_plan.check(streamed(b.graph(b.node(OPS["add"](), (main, "x")))))
    # The sum reads a row when three windows, each one row ahead of the next, are done with it.
    assert source(made).ring == 4 * 8


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_replay_accepts_pushed_rows_and_refuses_a_ring_one_row_smaller(seed: int) -> None:
    made = check_plan.check(streamed(random_chain(seed)))
    ring, row = source(made).ring, source(made).columns
    assert ring % row == 0
    with pytest.raises(PlanError, match=r"stale byte|ring"):
        check_plan.check(with_ring(made, ring - row))


@pytest.mark.parametrize(
    ("target", "seed"), [(TARGETS[0], n) for n in range(8)] + [(TARGETS[1], n) for n in range(3)]
)
def test_pushed_rows_give_the_reference_bytes(target: str, seed: int, tmp_path: Path) -> None:
    run_everywhere(streamed(random_chain(seed), target), target, tmp_path)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_network_with_other_steps_gives_the_reference_bytes(
    target: str, objective: Objective, tmp_path: Path
) -> None:
    graph, core = residual(), load(target).core
    made = plan.make(graph, core, objective, stream=True)
    assert "x" not in made.slots
    run_everywhere(made, target, tmp_path)


def test_speed_streams_through_the_shortest_chain() -> None:
    b = builder(12, 12, 4)
    graph = b.graph(b.conv(b.conv("x", 8), 8))
    made = plan.make(graph, CORE, "speed", stream=True)
    assert [step.chain is None for step in made.steps] == [False, True]


def test_pairs_of_pixels_read_pushed_rows(tmp_path: Path) -> None:
    b = builder(8, 8, 3)
    graph = b.graph(b.conv(b.conv("x", 8), 4))
    made = streamed(graph, **in_pairs(graph))
    assert made.steps[0].chain is not None
    assert made.steps[0].chain.stages[0].link.pixel.step == 2
    run_everywhere(made, "generic-m4", tmp_path)


def host(made: Plan, folder: Path) -> Path:
    """The host's library of a plan, unchecked."""
    written = emit.emit(made, load("generic-m4"), "0" * 64)
    for name, text in written.files.items():
        (folder / name).write_text(text)
    toolchain.build_host(folder, written.host_sources, folder / "libnet.so")
    return folder / "libnet.so"


def image(made: Plan) -> ModelImage:
    graph = made.graph
    sizes = [
        tuple(graph.tensors[p.tensor].size for p in ports)
        for ports in (graph.inputs, graph.outputs)
    ]
    row = source(made).row_bytes
    return ModelImage("net", len(made.steps), sizes[0], sizes[1], max(made.size, 4), row=row)


def small() -> tuple[Plan, Array, Array]:
    """A plan, an input and the output that it must give."""
    b = builder(9, 7, 3)
    graph = b.graph(b.conv(b.conv("x", 8), 4, stride=(2, 2)))
    (x,) = networks.samples(graph, np.random.default_rng(3))
    (y,) = reference.run(graph, (x,))
    return streamed(graph), x, y.reshape(len(y), -1)


def test_a_ring_one_row_smaller_gives_other_bytes(tmp_path: Path) -> None:
    made, x, y = small()
    short = with_ring(made, source(made).ring - source(made).columns)
    for planned, folder in ((made, tmp_path / "right"), (short, tmp_path / "wrong")):
        folder.mkdir()
        (found,) = HostModel(host(planned, folder), image(made)).run((x,))  # type: ignore[arg-type]
        assert np.array_equal(found, y) == (planned is made)


def test_run_and_predict_push_the_rows_themselves(tmp_path: Path) -> None:
    made, x, y = small()
    library = ctypes.CDLL(str(host(made, tmp_path)))
    found = (ctypes.c_int8 * y.shape[1])()
    library.net_predict(x[0].tobytes(), found)
    np.testing.assert_array_equal(np.array(found[:]), y[0])
    context, arena = context_of(library, made)
    assert library.net_run(context, None) == ERR_NULL
    assert library.net_run(context, x[1].tobytes()) == OK
    library.net_output.restype = ctypes.c_void_p
    np.testing.assert_array_equal(
        np.frombuffer(ctypes.string_at(library.net_output(context, 0), y.shape[1]), np.int8), y[1]
    )
    assert len(arena) == made.size


def context_of(library: ctypes.CDLL, made: Plan) -> tuple[ctypes.Array[ctypes.c_void_p], bytearray]:
    """An instance, and the memory that it lives in."""
    context, memory = (ctypes.c_void_p * 2)(), bytearray(made.size)
    arena = (ctypes.c_int8 * made.size).from_buffer(memory)
    assert library.net_init(context, arena, ctypes.c_size_t(made.size)) == OK
    return context, memory


def test_rows_out_of_turn_are_refused(tmp_path: Path) -> None:
    made, x, _ = small()
    library = ctypes.CDLL(str(host(made, tmp_path)))
    context, memory = context_of(library, made)
    row = x[0].tobytes()[: source(made).row_bytes]
    assert library.net_push_row(context, row) == ERR_ROWS
    assert library.net_finish(context) == ERR_ROWS
    assert library.net_begin(context) == OK
    assert library.net_push_row(context, None) == ERR_NULL
    assert library.net_finish(context) == ERR_ROWS
    assert [library.net_push_row(context, row) for _ in range(9)] == list(range(8, -1, -1))
    before = bytes(memory)
    assert library.net_push_row(context, row) == ERR_ROWS
    assert library.net_finish(context) == OK
    assert library.net_finish(context) == ERR_ROWS
    assert bytes(memory) == before  # the chain is all of this network


def test_rows_below_the_last_window_are_taken_and_left_out(tmp_path: Path) -> None:
    b = builder(11, 5, 4)
    graph = b.graph(b.conv("x", 4, (2, 2), (3, 3), (0, 0, 0, 0)))
    made = streamed(graph)
    assert made.graph.tensors[graph.outputs[0].tensor].shape == (1, 4, 2, 4)
    run_everywhere(made, "generic-m4", tmp_path)


def test_an_uncounted_run_pushes_rows_and_finishes(tmp_path: Path) -> None:
    graph = residual()
    made = plan.make(graph, CORE, "speed", stream=True)
    written = emit.emit(made, load("generic-m4"), "0" * 64)
    for name, text in written.files.items():
        (tmp_path / name).write_text(text)
    elf = tmp_path / "net.elf"
    sources = ("startup.c", "main.c", *written.sources)
    found = toolchain.find(COMPILER)
    toolchain.build_firmware(found, load("generic-m4"), tmp_path, sources, "link.ld", elf)
    (x,) = networks.samples(graph, np.random.default_rng(3))
    (y,) = reference.run(graph, (x,))
    with EmulatedModel(CortexM(load("generic-m4"), elf), image(made)) as model:
        assert model.infer((x[0].tobytes(),)).outputs == (y[0].tobytes(),)
        arenas = list(model.trace((x[1].tobytes(),)))
    assert len(arenas) == len(made.steps)
    output = made.slots[graph.outputs[0].tensor]
    assert arenas[-1][output.offset : output.end] == y[1].tobytes()


def dense() -> Graph:
    return networks.weighted(OPS["dense"](), (1, 16), (4, 16), np.random.default_rng(0))


def test_a_network_that_no_chain_can_start_is_refused() -> None:
    for objective in OBJECTIVES:
        with pytest.raises(UsageError, match="no chain of layers can start at the input"):
            plan.make(dense(), CORE, objective, stream=True)


def test_several_inputs_are_refused() -> None:
    graph = residual()
    twice = replace(graph, inputs=(*graph.inputs, *graph.inputs))
    with pytest.raises(UsageError, match="the model has 2 inputs"):
        plan.make(twice, CORE, stream=True)


def test_an_input_that_is_an_output_is_refused() -> None:
    b = builder(8, 8, 3)
    with pytest.raises(UsageError, match="no chain"):
        plan.make(b.graph(b.conv("x", 4), "x"), CORE, stream=True)


def test_chains_of_a_recipe_must_start_at_the_input() -> None:
    graph = residual()
    first, *rest = names(graph)
    with pytest.raises(UsageError, match="must start at the first layer"):
        plan.make(graph, CORE, chains=[], stream=True)
    made = plan.make(graph, CORE, chains=[[first]], stream=True)
    assert [stage.link.name for stage in made.steps[0].chain.stages] == [first]  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="cannot be a chain"):
        plan.make(graph, CORE, chains=[[first]])
    with pytest.raises(UsageError, match="cannot be a chain"):
        plan.make(graph, CORE, chains=[[first], [rest[0]]], stream=True)


def test_the_manifest_tells_rows_and_ring() -> None:
    folder = Path(__file__).resolve().parents[2] / "examples/digits"
    options = CompileOptions(data=str(folder / "digits.npz"), stream_input=True, optimize="sram")
    found = compiler.compile_model(folder / "digits.onnx", options).manifest
    rows = found["stream_input"]
    assert rows["rows"] * rows["row_bytes"] == found["inputs"][0]["size"] == found["sram"]["input"]
    assert rows["ring_bytes"] == rows["ring_rows"] * rows["row_bytes"]
    assert found["inputs"][0]["area"] is None
    assert found["sram"]["input_counted"] is False
    whole = CompileOptions(data=str(folder / "digits.npz"), optimize="sram")
    other = compiler.compile_model(folder / "digits.onnx", whole).manifest
    assert other["stream_input"] is None
    assert other["sram"]["input_counted"] is True
