"""The search for mixed precision: exact against trying everything, front, actor-critic, table."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest

from codegen import plan, recipe
from codegen.code_size import CALLS
from codegen.ir import Graph, Node
from codegen.ops.softmax import Softmax
from codegen.quant import quantize
from codegen.quant.lower import Format
from codegen.tune import actor_critic, costs, front
from codegen.tune.milp import Weights, solve
from codegen.tune.problem import Limits, Option, Problem, Totals, nondominated, totals
from codegen.tune.sensitivity import MEASURES, Outcome, Sensitivity, weighted
from targets.target import load as load_target
from tests.thumbnet.conftest import DATA, MODEL
from thumbnet import compiler
from thumbnet.options import CompileOptions

pytest.importorskip("scipy")
FORMATS = (Format("int8"), Format("int4"), Format("int3"), Format("int2"))
TARGET = load_target("generic-m4")


def random_problem(seed: int, layers: int) -> Problem:
    """Layers whose loss grows fourfold per bit less, in fast and in small kernels that may be shared."""
    generator = np.random.default_rng(seed)
    rows = []
    for layer in range(layers):
        size, loss = int(generator.integers(200, 8000)), generator.uniform(0.0005, 0.004)
        row = []
        for bits in (8, 4, 3, 2):
            harm = loss * 4.0 ** (8 - bits) / 256 * generator.uniform(0.5, 2)
            shape = Option(Format(f"int{bits}"), "", harm, 0, 0, "", 0, size // 4)
            fast = replace(shape, kernel="fast", cycles=size * 110.0, sram=size // 2)
            fast = replace(
                fast, flash=size * max(bits, 4) // 8, part=(bits, layer % 3), part_flash=600
            )
            small = replace(shape, kernel="small", cycles=size * 500.0, flash=size * bits // 8)
            row += [fast, replace(small, part=bits, part_flash=200)]
        rows.append(tuple(row))
    return Problem(tuple(map(str, range(layers))), tuple(rows))


def everything(problem: Problem) -> Iterator[tuple[tuple[int, ...], Totals]]:
    for chosen in itertools.product(*(range(len(row)) for row in problem.options)):
        yield chosen, totals(problem, chosen)


@pytest.mark.parametrize("seed", range(6))
def test_the_search_is_exact(seed: int) -> None:
    problem = random_problem(seed, 4)
    known = [found for _, found in everything(problem)]
    generator = np.random.default_rng(seed)
    for weights in (Weights(loss=1), Weights(flash=1), Weights(loss=1e6, cycles=0.01, flash=1)):
        one = known[int(generator.integers(len(known)))]
        other = known[int(generator.integers(len(known)))]
        for limits in (
            Limits(),
            Limits(flash=one.flash),
            Limits(flash=max(one.flash, other.flash), cycles=max(one.cycles, other.cycles)),
            Limits(sram=one.sram),
            Limits(loss=one.loss, sram=max(one.sram, other.sram)),
        ):
            able = [t for t in known if t.within(limits)]
            least = min((value(weights, t) for t in able), default=inf)
            chosen = solve(problem, weights, limits)
            assert chosen is not None
            found = totals(problem, chosen)
            assert found.within(limits)
            assert value(weights, found) == pytest.approx(least, rel=1e-9)


def value(weights: Weights, found: Totals) -> float:
    return weights.loss * found.loss + weights.cycles * found.cycles + weights.flash * found.flash


def test_what_is_impossible_has_no_choice() -> None:
    problem = random_problem(0, 3)
    assert solve(problem, Weights(loss=1), Limits(flash=100)) is None
    assert front.walk(problem, Limits(flash=100), 5).points == ()


@pytest.mark.parametrize("seed", range(3))
def test_the_front_holds_the_least_loss_for_every_size(seed: int) -> None:
    problem = random_problem(seed, 4)
    points = front.walk(problem, Limits(), 10_000).points
    assert list(points) == nondominated(points)
    known = [found for _, found in everything(problem)]
    reached = {(p.flash, p.loss) for _, p in points}
    least = inf
    for flash in sorted({t.flash for t in known}):
        best = min(t.loss for t in known if t.flash == flash)
        if best < least * (1 - 1e-9):
            least = best
            assert any(f == flash and loss == pytest.approx(best) for f, loss in reached)


def test_the_actor_critic_comes_close_to_the_proved_optimum() -> None:
    ratios = []
    for seed in range(3):
        problem = random_problem(seed, 12)
        limits = middle(problem)
        best, learnt = (
            solve(problem, Weights(loss=1), limits),
            actor_critic.search(problem, limits, seed=0),
        )
        assert best is not None and learnt is not None
        assert totals(problem, learnt).within(limits)
        ratios.append(totals(problem, learnt).loss / totals(problem, best).loss)
        assert learnt == actor_critic.search(problem, limits, seed=0)
    assert min(ratios) >= 1 - 1e-9 and max(ratios) <= 1.15
    assert np.mean(ratios) <= 1.05


def middle(problem: Problem) -> Limits:
    """Flash half way between the least and what the least loss takes."""
    ends = (solve(problem, one, Limits()) for one in (Weights(flash=1), Weights(loss=1)))
    return Limits(flash=sum(totals(problem, end).flash for end in ends if end is not None) / 2)


def test_the_actor_critic_learns_what_drawing_alone_does_not_find() -> None:
    problem = random_problem(0, 12)
    limits, rules = middle(problem), actor_critic.Training()
    learnt = actor_critic.search(problem, limits, 0, rules)
    drawn = actor_critic.search(problem, limits, 0, replace(rules, actor_rate=0.0))
    assert learnt is not None and drawn is not None
    assert totals(problem, learnt).loss < 0.9 * totals(problem, drawn).loss


def test_shared_functions_are_paid_once() -> None:
    one = Option(Format("int8"), "k", 0.0, 1.0, 10, "p", 100, 4)
    problem = Problem(("a", "b"), ((one,), (one,)))
    assert totals(problem, (0, 0)).flash == CALLS + 20 + 100


@pytest.fixture(scope="module")
def digits() -> compiler.Calibrated:
    return compiler.calibrated(MODEL, CompileOptions(data=str(DATA)))


@pytest.fixture(scope="module")
def measured(digits: compiler.Calibrated) -> Sensitivity:
    grids = quantize.activation_grids(digits.graph, digits.ranges)
    found = Sensitivity(digits.graph, grids, digits.samples)
    found.measure_all(weighted(digits.graph), FORMATS)
    return found


def test_fewer_bits_lose_more_in_every_layer(measured: Sensitivity) -> None:
    for output in weighted(measured.graph):
        losses = [measured.table[output, chosen].loss for chosen in FORMATS]
        assert losses == sorted(losses) and losses[0] < 0.1 * losses[-1]


def test_a_single_layer_has_its_own_loss_and_sums_foretell_the_loss_of_all(
    measured: Sensitivity,
) -> None:
    outputs = weighted(measured.graph)
    for chosen in FORMATS[1:]:
        alone = measured.combined({outputs[0]: chosen}).loss
        assert alone == pytest.approx(measured.table[outputs[0], chosen].loss, rel=1e-5)
    for chosen in FORMATS[:3]:
        whole = measured.combined(dict.fromkeys(outputs, chosen)).loss
        single = sum(measured.table[output, chosen].loss for output in outputs)
        assert whole == pytest.approx(single, rel=0.5)


def test_layers_that_make_up_for_each_other_lose_less(measured: Sensitivity) -> None:
    outputs = weighted(measured.graph)
    for chosen in (Format("int8"), Format("int3")):
        alike = dict.fromkeys(outputs, chosen)
        assert measured.joint(alike).loss < measured.combined(alike).loss
    mixed = dict.fromkeys(outputs, Format("int8")) | {outputs[1]: Format("int3")}
    few = dict.fromkeys(outputs, Format("int3"))
    assert measured.joint(mixed).loss < measured.joint(few).loss


def test_better_is_more_than_the_error_of_the_sample() -> None:
    generator = np.random.default_rng(0)
    losses = generator.uniform(1, 2, 100)
    one = Outcome(losses, 0.0)
    assert one.clearly_better(Outcome(losses + generator.normal(0.2, 0.5, 100), 0.0))
    assert not one.clearly_better(Outcome(losses + generator.normal(0.01, 0.5, 100), 0.0))
    assert not one.clearly_better(one)


def with_softmax(graph: Graph) -> Graph:
    """The graph with probabilities as its output."""
    (port,) = graph.outputs
    logits = graph.tensors[port.tensor]
    node = Node(Softmax(), (port.tensor,), "probabilities")
    return replace(
        graph,
        tensors={**graph.tensors, "probabilities": replace(logits, name="probabilities")},
        nodes=(*graph.nodes, node),
        outputs=(replace(port, tensor="probabilities"),),
    )


def test_the_divergence_of_classes_is_a_measure_too(
    digits: compiler.Calibrated, measured: Sensitivity
) -> None:
    grids = quantize.activation_grids(digits.graph, digits.ranges)
    graph = with_softmax(digits.graph)
    output = weighted(graph)[-1]
    losses = {}
    for measure in MEASURES:
        found = Sensitivity(graph, grids, digits.samples, measure=measure)
        found.measure_all([output], FORMATS)
        losses[measure] = [found.table[output, chosen].loss for chosen in FORMATS]
        assert losses[measure] == sorted(losses[measure])
        assert found.has_classes and not measured.has_classes
    # Squared error is that of the logits: the softmax changes nothing.
    logits = [measured.table[output, chosen].loss for chosen in FORMATS]
    assert losses["mse"] == pytest.approx(logits, rel=1e-6)
    assert losses["kl"] != pytest.approx(logits, rel=0.1)


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_the_table_predicts_what_the_planner_predicts(
    digits: compiler.Calibrated, measured: Sensitivity, weights: str, tmp_path: Path
) -> None:
    chosen = Format(weights)
    found = costs.costs(digits.graph, digits.ranges, FORMATS, weighted(digits.graph), TARGET.core)
    whole = costs.problem(found, measured.table)
    rows = tuple(tuple(o for o in row if o.format in (None, chosen)) for row in whole.options)
    problem = Problem(whole.names, rows)
    fastest = solve(problem, Weights(cycles=1), Limits())
    assert fastest is not None
    kernels = {
        name: option.kernel
        for name, option in zip(problem.names, problem.picked(fastest), strict=True)
    }
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.of_layers(dict.fromkeys(found.outputs, chosen), kernels, False))
    options = CompileOptions(data=str(DATA), recipe=path, rounding="nearest", clip="minmax")
    quantized = compiler.prepare(MODEL, options, recipe.load(path)).quantized
    planned = plan.make(quantized, TARGET.core, overrides=kernels)
    sums = totals(problem, fastest)
    assert planned.predicted_cycles == pytest.approx(sums.cycles)
    assert planned.predicted_flash == pytest.approx(sums.flash, rel=0.01)
