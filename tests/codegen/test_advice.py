"""What would lower the peak: every promise is kept by the plan that follows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codegen import advice, plan
from codegen.ir import Graph
from codegen.ops import OPS
from codegen.select import Budget, Objective
from targets.errors import DoesNotFit
from targets.target import Core, load
from tests.codegen import networks, random_graphs
from tests.codegen.chain_networks import Builder, random_chain, residual
from thumbnet import compiler
from thumbnet.options import CompileOptions

DIGITS = Path(__file__).resolve().parents[2] / "examples/digits"


@pytest.mark.parametrize("target", ["generic-m4", "generic-m0plus"])
@pytest.mark.parametrize("seed", [0, 3])
def test_advice_is_kept(seed: int, target: str) -> None:
    graph, core = random_graphs.graph(seed), load(target).core
    made = plan.make(graph, core)
    peak = advice.peak(made)
    assert peak is not None
    assert made.steps[peak.step].name == peak.layer
    assert peak.bytes <= made.size
    for found in peak.advice:
        assert found.saves == made.size - found.size > 0
        if found.kind == "input":
            continue
        if found.kind in ("objective", "stream", "chains"):
            other = followed(graph, core, found)
            assert round(other.predicted_cycles - made.predicted_cycles) == found.cycles
        else:
            pinned = {step.name: step.kernel.name for step in made.steps}
            other = plan.make(graph, core, overrides=pinned | dict(found.kernels))
        assert other.size == found.size


def followed(graph: Graph, core: Core, found: advice.Advice) -> plan.Plan:
    """The plan with the options that a piece of advice names, and its chains."""
    objective: Objective = "sram" if "--optimize sram" in found.text else "balanced"
    stream = "--stream-input" in found.text
    return plan.make(graph, core, objective, chains=found.chains or None, stream=stream)


@pytest.mark.parametrize("seed", range(6))
def test_advice_on_chains_and_rows_is_kept(seed: int) -> None:
    graph, core = random_chain(seed), load("generic-m4").core
    made = plan.make(graph, core)
    peak = advice.peak(made)
    assert peak is not None
    for found in peak.advice:
        if found.kind in ("objective", "stream", "chains"):
            other = followed(graph, core, found)
            assert found.saves == made.size - other.size > 0
            assert found.cycles == round(other.predicted_cycles - made.predicted_cycles)


def test_chains_are_advised_where_they_save() -> None:
    made = plan.make(residual(), load("generic-m4").core, "speed")
    peak = advice.peak(made)
    assert peak is not None
    (found,) = (a for a in peak.advice if a.kind == "chains")
    assert found.text.startswith("fuse layers layer1 .. layer3 and 1 other run")
    assert found.chains[0] == ("layer1", "layer2", "layer3")
    assert found.cycles is not None and found.cycles > 0


def test_rows_are_advised_where_they_save() -> None:
    """A wide middle tensor, which a chain dissolves, under an input that need not exist."""
    b = Builder(np.random.default_rng(1), (1, 24, 24, 8))
    wide = b.conv("x", 32, (1, 1), pads=(0, 0, 0, 0))
    graph = b.graph(b.conv(wide, 8, stride=(2, 2), pads=(0, 0, 1, 1)))
    for objective, text in (
        ("speed", "--optimize sram --stream-input"),
        ("sram", "--stream-input"),
    ):
        peak = advice.peak(plan.make(graph, load("generic-m4").core, objective))  # type: ignore[arg-type]
        assert peak is not None
        (found,) = (a for a in peak.advice if a.kind == "stream")
        assert found.text == text


def test_advice_for_a_streamed_plan_keeps_it_streamed() -> None:
    graph, core = random_chain(3), load("generic-m4").core
    made = plan.make(graph, core, "speed", stream=True)
    peak = advice.peak(made)
    assert peak is not None
    assert all(found.kind != "stream" for found in peak.advice)
    smallest = plan.make(graph, core, "sram", stream=True)
    found = [a.size for a in peak.advice if a.kind == "objective"]
    assert found == [smallest.size] or smallest.size >= made.size


def test_the_peak_is_the_step_with_the_most_bytes() -> None:
    """Disjoint input and output, and scratch: all of it lives in the only step."""
    weights = (8, 3, 3, 4)
    graph = networks.weighted(
        OPS["conv2d"](pads=(1, 1, 1, 1)), (1, 8, 8, 4), weights, np.random.default_rng(0)
    )
    made = plan.make(graph, load("generic-m4").core)
    peak = advice.peak(made)
    assert peak is not None
    assert (peak.step, peak.bytes) == (0, made.size)
    assert set(peak.tensors) == {"x0", "y", "scratch0"}


def test_a_budget_is_missed_with_numbers_and_a_way_out() -> None:
    usual = CompileOptions(data=str(DIGITS / "digits.npz"))
    size = compiler.compile_model(DIGITS / "digits.onnx", usual).plan.size
    small = CompileOptions(data=str(DIGITS / "digits.npz"), optimize="sram")
    least = compiler.compile_model(DIGITS / "digits.onnx", small).plan.size
    assert least < size
    tight = CompileOptions(data=str(DIGITS / "digits.npz"), budget=Budget(sram=size - 1))
    assert compiler.compile_model(DIGITS / "digits.onnx", tight).plan.size < size
    short = CompileOptions(data=str(DIGITS / "digits.npz"), budget=Budget(sram=least - 1))
    with pytest.raises(
        DoesNotFit, match=f"needs {least:,}, --sram allows {least - 1:,}: 1 too"
    ) as e:
        compiler.compile_model(DIGITS / "digits.onnx", short)
    assert "the largest step is" in e.value.message
    none = CompileOptions(data=str(DIGITS / "digits.npz"), budget=Budget(sram=16))
    with pytest.raises(DoesNotFit) as e:
        compiler.compile_model(DIGITS / "digits.onnx", none)
    assert "the largest step is" in e.value.message
