"""Chains: ring sizes, overlap, replay with negative controls, and the same bytes on every machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen import check_chain, check_plan, emit, fused, plan, reference
from codegen.check_chain import ChainError, Outside
from codegen.fused import Chain
from codegen.ir import Array, Graph
from codegen.ops import OPS
from codegen.plan import Plan, Step
from emulator.cortex_m import CortexM
from emulator.host import HostModel
from emulator.model import EmulatedModel
from emulator.shadow import ArenaMap
from targets import toolchain
from targets.errors import UsageError
from targets.machine import ModelImage
from targets.target import load
from tests.codegen.chain_networks import Builder, random_chain, residual
from tests.codegen.firmware import COMPILER
from tests.codegen.networks import samples
from thumbnet import memory_map

TARGETS = ("generic-m4", "generic-m0plus")


def names(graph: Graph) -> list[str]:
    return [node.label for node in graph.nodes]


def whole(graph: Graph, target: str = "generic-m4", **options: Any) -> Plan:
    """The plan with all layers in one chain."""
    return plan.make(graph, load(target).core, chains=[names(graph)], **options)


def chain_of(made: Plan) -> tuple[Step, Chain]:
    (step,) = (step for step in made.steps if step.chain is not None)
    assert step.chain is not None
    return step, step.chain


def rings(graph: Graph) -> list[int]:
    return [stage.ring for stage in chain_of(whole(graph))[1].stages]


def builder(*shape: int) -> Builder:
    return Builder(np.random.default_rng(1), (1, *shape))


def test_a_window_needs_two_rows_and_three_pixels() -> None:
    b = builder(25, 5, 4)
    first = b.conv("x", 8, (1, 1), pads=(0, 0, 0, 0))
    b.conv(b.conv(b.depthwise(first), 8, (1, 1), pads=(0, 0, 0, 0)), 4)
    assert rings(b.graph("t3")) == [2 * 5 + 3, 1, 2 * 5 + 3, 0]


def test_the_slowest_reader_sets_the_ring_of_a_skip_connection() -> None:
    b = builder(32, 32, 3)
    first = b.conv("x", 4)
    main = b.conv(b.conv(first, 4), 4)
    graph = b.graph(b.node(OPS["add"](), (first, main)))
    # Two convolutions later: the second one's window, then the first one's, less the rows they share.
    assert rings(graph) == [2 * 32 + 3, 2 * 32 + 3, 1, 0]


def test_a_growing_and_a_shrinking_layer_overlap_as_in_the_worked_example() -> None:
    """docs/memory.md: 48x48x8 -> 48x48x16 -> 24x24x16 needs 20,016 bytes."""
    b = builder(48, 48, 8)
    wide = b.conv("x", 16, (1, 1), pads=(0, 0, 0, 0))
    graph = b.graph(b.conv(wide, 16, stride=(2, 2), pads=(0, 0, 1, 1), groups=16))
    made = whole(graph)
    _, chain = chain_of(made)
    assert [stage.ring for stage in chain.stages] == [99, 0]
    (traffic,) = chain.traffic.values()
    assert fused.footprint(traffic, 8, 16).ascending_distance() == -768
    assert (made.arena, made.bound) == (20_016, 20_016)
    unfused = plan.make(graph, load("generic-m4").core, "sram", chains=[])
    assert unfused.arena == 36_880
    assert plan.make(graph, load("generic-m4").core, "sram").arena == 20_016


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_replay_accepts_every_chain_and_refuses_smaller_rings(seed: int) -> None:
    made = check_plan.check(whole(random_chain(seed)))
    step, chain = chain_of(made)
    refuses_smaller_rings(made, step, chain)


def refuses_smaller_rings(made: Plan, step: Step, chain: Chain) -> None:
    for index, stage in enumerate(chain.stages[:-1]):
        smaller = list(chain.stages)
        smaller[index] = replace(stage, ring=stage.ring - stage.link.pixel.step)
        with pytest.raises(check_plan.PlanError, match=r"stale byte|ring"):
            check_plan.check(with_chain(made, step, replace(chain, stages=tuple(smaller))))


def with_chain(made: Plan, step: Step, chain: Chain) -> Plan:
    layer = replace(step.layer, node=replace(step.layer.node, op=chain))
    steps = tuple(replace(s, layer=layer) if s is step else s for s in made.steps)
    return replace(made, steps=steps)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_one_byte_closer_than_the_distance_is_refused(seed: int) -> None:
    _, chain = chain_of(whole(random_chain(seed)))
    ((name, traffic),) = chain.traffic.items()
    last = chain.stages[-1].link.pixel.layer.output
    image = chain.stages[0].link.pixel.layer.activations[0]
    events = fused.footprint(traffic, image.shape[-1], last.shape[-1])
    distance = events.ascending_distance()
    limit = max(image.size, last.size)
    replay(chain, name, image.size, max(distance, -limit))
    if distance > -min(image.size, limit):
        with pytest.raises(ChainError):
            replay(chain, name, image.size, distance - 1)


def replay(chain: Chain, name: str, size: int, distance: int) -> None:
    """Replays with the input so many bytes above the output, and the rings out of the way."""
    base = 1 << 14
    tags = np.full(1 << 16, -1, np.int64)
    tags[base + distance : base + distance + size] = np.arange(size)
    inputs = {name: Outside(0, base + distance)}
    check_chain.replay(chain, tags, inputs, Outside(1, base), 1 << 15)


def run_everywhere(made: Plan, target: str, folder: Path) -> None:
    """Reference == C on the host == C on an emulated core that checks every access by its tags."""
    graph = made.graph
    inputs = samples(graph, np.random.default_rng(3))
    wanted = reference.run(graph, inputs)[0]
    wanted = wanted.reshape(len(wanted), -1)
    written = emit.emit(check_plan.check(made), load(target), "0" * 64)
    for name, text in written.files.items():
        (folder / name).write_text(text)
    sizes = [
        tuple(graph.tensors[p.tensor].size for p in ports)
        for ports in (graph.inputs, graph.outputs)
    ]
    row = 0 if made.source is None else made.source.row_bytes
    image = ModelImage("net", len(made.steps), sizes[0], sizes[1], max(made.size, 4), row=row)
    library, elf = folder / "libnet.so", folder / "net.elf"
    toolchain.build_host(folder, written.host_sources, library)
    found = HostModel(library, image).run(inputs)[0]  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)
    sources = ("startup.c", "main.c", *written.sources)
    chosen = toolchain.find(COMPILER)
    toolchain.build_firmware(chosen, load(target), folder, sources, "link.ld", elf)
    core = CortexM(load(target), elf, count=True, watch=True)
    with EmulatedModel(core, image, arena=arena_map(made)) as model:
        for index, expected in enumerate(wanted):
            (got,) = model.infer(_bytes(inputs, index)).outputs
            np.testing.assert_array_equal(np.frombuffer(got, np.int8), expected)


def arena_map(made: Plan) -> ArenaMap:
    """What the emulator is to check, as a project's manifest tells it."""
    ports = {"inputs": made.graph.inputs, "outputs": made.graph.outputs}
    areas = {
        key: [{"area": memory_map.area_of(made, port.tensor)} for port in found]
        for key, found in ports.items()
    }
    layers = [memory_map.accesses(made, step) for step in made.steps]
    return memory_map.arena_map({"memory_map": memory_map.entries(made), "layers": layers, **areas})


def _bytes(inputs: tuple[Array, ...], index: int) -> tuple[bytes, ...]:
    return tuple(x[index].tobytes() for x in inputs)


@pytest.mark.parametrize(
    ("target", "seed"), [(TARGETS[0], n) for n in range(10)] + [(TARGETS[1], n) for n in range(5)]
)
def test_random_chains_give_the_reference_bytes(target: str, seed: int, tmp_path: Path) -> None:
    run_everywhere(whole(random_chain(seed), target), target, tmp_path)


def in_pairs(graph: Graph) -> dict[str, str]:
    """A kernel that every core has and that makes pairs of pixels, for the convolutions that can."""
    return {
        node.label: "conv2d.window"
        for node in graph.nodes[:-1]
        if node.op.kind == "conv2d"
        and graph.tensors[node.inputs[1]].shape[1:3] != (1, 1)
        and graph.tensors[node.output].shape[2] % 2 == 0
        and getattr(node.op, "groups", 1) == 1
        and getattr(node.op, "dilation", (1, 1))[1] == 1
    }


PAIRED = [seed for seed in range(30) if in_pairs(random_chain(seed))]


@settings(max_examples=20, deadline=None)
@given(seed=st.sampled_from(PAIRED))
def test_replay_accepts_pairs_of_pixels_and_refuses_smaller_rings(seed: int) -> None:
    graph = random_chain(seed)
    made = check_plan.check(whole(graph, overrides=in_pairs(graph)))
    step, chain = chain_of(made)
    assert any(stage.link.pixel.step == 2 for stage in chain.stages)
    refuses_smaller_rings(made, step, chain)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", PAIRED[:4])
def test_pairs_of_pixels_give_the_reference_bytes(seed: int, target: str, tmp_path: Path) -> None:
    graph = random_chain(seed)
    run_everywhere(whole(graph, target, overrides=in_pairs(graph)), target, tmp_path)


def test_the_compiler_makes_pairs_of_pixels_where_rings_allow_it() -> None:
    b = builder(32, 32, 4)
    graph = b.graph(b.conv(b.conv(b.conv("x", 16), 16), 16, stride=(2, 2)))
    core = load("generic-m4").core
    made = plan.make(graph, core, "sram")
    _, chain = chain_of(made)
    pairs = [stage.link.name for stage in chain.stages if stage.link.pixel.step == 2]
    assert pairs
    single = whole(graph)
    assert single.arena < made.arena <= single.arena * 17 / 16
    cycles = [sum(stage.cycles for stage in chain_of(p)[1].stages) for p in (made, single)]
    assert cycles[0] < cycles[1]


def test_a_shortcut_runs_early_where_that_makes_rings_smaller() -> None:
    b = builder(32, 32, 4)
    first = b.conv("x", 16)
    main = b.conv(b.conv(first, 32, stride=(2, 2), pads=(0, 0, 1, 1)), 32)
    short = b.conv(first, 32, (1, 1), (2, 2), (0, 0, 0, 0))
    graph = b.graph(b.node(OPS["add"](), (main, short)))
    _, chain = chain_of(check_plan.check(whole(graph)))
    strided = chain.stages[1]
    assert strided.asks == (chain.stages[3].link.output,)
    # The strided window alone: without the shortcut's lag of two convolutions it would be 131.
    assert chain.stages[0].ring == 2 * 32 + 3


@pytest.mark.parametrize("target", TARGETS)
def test_residual_blocks_give_the_reference_bytes(target: str, tmp_path: Path) -> None:
    graph = residual()
    core = load(target).core
    made = plan.make(graph, core, "sram")
    unfused = plan.make(graph, core, "sram", chains=[])
    assert any(step.chain is not None for step in made.steps)
    assert made.size < unfused.size
    run_everywhere(made, target, tmp_path)


def test_a_member_keeps_the_weights_and_grids_of_its_layer() -> None:
    graph = residual()
    _, chain = chain_of(whole(graph))
    for stage in chain.stages:
        form = stage.link.pixel
        for narrow, tensor in zip(form.one.inputs, form.layer.inputs, strict=True):
            assert narrow.grid == tensor.grid
            if tensor.data is not None:
                assert narrow.values.tobytes() == tensor.values.tobytes()


def test_the_float_meaning_of_a_chain_is_that_of_its_members() -> None:
    graph = residual()
    _, chain = chain_of(whole(graph))
    x = np.random.default_rng(0).integers(-9, 9, (2, 12, 12, 3)).astype(np.float32)
    values: dict[str, Any] = {"x": x}
    for node in graph.nodes:
        data = (graph.tensors[n].data for n in node.inputs)
        operands = (
            d if d is not None else values[n] for n, d in zip(node.inputs, data, strict=True)
        )
        values[node.output] = node.op.evaluate(tuple(operands))
    np.testing.assert_array_equal(chain.evaluate((x,)), values[graph.outputs[0].tensor])
    assert chain.infer(((1, 12, 12, 3),)) == (1, 1, 1, 12)


def test_a_recipe_chooses_chains_and_the_kernels_of_their_members() -> None:
    graph = residual()
    core = load("generic-m4").core
    labels = names(graph)
    made = plan.make(graph, core, "speed", {labels[1]: "dense.portable"}, [labels[:4]])
    _, chain = chain_of(made)
    assert [stage.link.name for stage in chain.stages] == labels[:4]
    assert chain.stages[1].kernels[0].name == "dense.portable"
    assert all(step.chain is None for step in plan.make(graph, core, "sram", chains=[]).steps)


@pytest.mark.parametrize(
    ("chains", "kernels", "says"),
    [
        ([["layer1", "nowhere"]], {}, "no layer 'nowhere'"),
        ([["layer0", "layer2"]], {}, "cannot be a chain"),
        ([["layer0"]], {}, "cannot be a chain"),
        ([["layer0", "layer1"]], {}, "cannot be a chain"),  # layer 3 reads layer 0 as well
        ([["layer0", "layer1", "layer2", "layer3"]] * 2, {}, "one chain only"),
        ([["layer0", "layer1", "layer2", "layer3"]], {"layer1": "conv2d.depthwise"}, "cannot"),
    ],
)
def test_wrong_chains_are_refused(
    chains: list[list[str]], kernels: dict[str, str], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        plan.make(residual(), load("generic-m4").core, "speed", kernels, chains)


def test_a_wanted_kernel_keeps_its_layer_out_of_chains() -> None:
    graph = residual()
    wanted = {label: "conv2d.direct" for label in names(graph) if graph_is_conv(graph, label)}
    made = plan.make(graph, load("generic-m4").core, "sram", wanted)
    assert all(step.chain is None for step in made.steps)


def graph_is_conv(graph: Graph, label: str) -> bool:
    return any(node.label == label and node.op.kind == "conv2d" for node in graph.nodes)
