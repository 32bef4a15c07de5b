"""Objectives, budgets, waits: what the choice of kernels promises."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from codegen import check_plan, plan
from codegen.ir import Graph, per_tensor
from codegen.ops import OPS
from codegen.select import PRICES, Budget, Objective, waits
from targets.errors import DoesNotFit
from targets.target import load
from tests.codegen.test_prune import Chain

GRID = per_tensor(0.05, -128)
CORE = load("generic-m4").core
L4 = load("nucleo-l4r5zi")


def network() -> Graph:
    """A small residual network: Winograd, product, depthwise, addition, dense."""
    conv, same = OPS["conv2d"], (1, 1, 1, 1)
    chain = Chain(11, (1, 12, 12, 4), 0)
    chain.layer(conv(pads=same), (16, 3, 3, 4), GRID, 0.0)
    skip = chain.last
    chain.layer(conv(pads=same), (16, 3, 3, 16), GRID, 0.0)
    chain.node(OPS["add"](), (skip, chain.last), per_tensor(0.1, -128))
    chain.layer(conv(pads=same, groups=16), (16, 3, 3, 1), GRID, 0.0)
    chain.layer(conv(), (24, 1, 1, 16), GRID, 0.0)
    chain.layer(conv(stride=(2, 2)), (24, 1, 1, 24), GRID, 0.0)
    size = chain.tensors[chain.last].size
    chain.node(OPS["reshape"]((1, size)), (chain.last,), GRID)
    chain.layer(OPS["dense"](), (4, size), per_tensor(0.3, 0), 0.0)
    return chain.graph()


def made(
    objective: Objective = "speed", budget: Budget | None = None, board: str = "generic-m4"
) -> plan.Plan:
    target = load(board)
    found = plan.make(network(), target.core, objective, None, None, budget, target.flash_timing)
    return check_plan.check(found)


def test_each_objective_is_the_best_at_what_it_saves() -> None:
    plans = {objective: made(objective) for objective in PRICES}
    assert plans["speed"].predicted_cycles == min(p.predicted_cycles for p in plans.values())
    assert plans["flash"].predicted_flash == min(p.predicted_flash for p in plans.values())
    assert plans["sram"].size == min(p.size for p in plans.values())
    most = PRICES["balanced"].cycles_share * plans["speed"].predicted_cycles
    assert plans["balanced"].predicted_cycles <= most


def test_balanced_prices_memory() -> None:
    def cost(one: plan.Plan) -> float:
        price = PRICES["balanced"]
        code = {s.predicted.function: max(0, s.predicted.code - price.usual) for s in one.steps}
        flash = sum(s.predicted.constants for s in one.steps) + sum(code.values())
        return one.predicted_cycles + price.flash * flash + price.sram * one.size

    assert cost(made("balanced")) <= cost(made("speed"))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_budgets_are_kept_with_the_fewest_cycles(share: float) -> None:
    fast, lean, small = made(), made("flash"), made("sram")
    flash = round(lean.predicted_flash + share * (fast.predicted_flash - lean.predicted_flash))
    within = made(budget=Budget(flash=flash))
    assert within.predicted_flash <= flash
    assert fast.predicted_cycles <= within.predicted_cycles
    sram = round(small.size + share * (fast.size - small.size))
    assert made(budget=Budget(sram=sram)).size <= sram
    cycles = round(fast.predicted_cycles * (1 + share))
    assert made("flash", Budget(cycles=cycles)).predicted_cycles <= cycles


def test_a_larger_budget_is_no_slower() -> None:
    fast, lean = made().predicted_flash, made("flash").predicted_flash
    budgets = np.linspace(lean, fast, 6).astype(int)
    cycles = [made(budget=Budget(flash=int(b))).predicted_cycles for b in budgets]
    assert cycles == sorted(cycles, reverse=True)


def test_what_a_budget_misses_is_said() -> None:
    for name, unit in (("flash", "flash"), ("sram", "SRAM"), ("cycles", "cycles")):
        tight = {"flash": None, "sram": None, "cycles": None} | {name: 1_000}
        budget = Budget(sram=tight["sram"], flash=tight["flash"], cycles=tight["cycles"])
        with pytest.raises(DoesNotFit, match=f"^{unit}: needs [0-9,]+, --{name} allows 1,000") as e:
            made(budget=budget)
        assert "too many" in e.value.message
        assert e.value.hint


def test_budgets_that_exclude_each_other_name_both() -> None:
    fast, lean = made(), made("flash")
    budget = Budget(flash=lean.predicted_flash, cycles=round(fast.predicted_cycles) + 1)
    with pytest.raises(DoesNotFit) as error:
        made(budget=budget)
    assert "--flash" in error.value.message
    assert "--cycles" in error.value.message


def test_waits() -> None:
    assert L4.flash_timing is not None
    cached = L4.flash_timing.data_lines * L4.flash_timing.line
    sector = 0.8 * 5 / 8
    assert waits(1_000, 3, None) == 0
    assert waits(cached, 100, L4.flash_timing) == pytest.approx(cached * sector)
    assert waits(2 * cached, 100, L4.flash_timing) == pytest.approx(200 * cached * sector)


def test_a_layer_that_reads_its_weights_often_is_slower_behind_wait_states() -> None:
    near, far = made(), made(board="nucleo-l4r5zi")
    assert far.predicted_cycles > near.predicted_cycles

    def cheapest(p: plan.Plan, prefix: str) -> float:
        costs = (
            one.total - one.cycles
            for row in p.candidates
            for one in row
            if one.kernel.name == prefix
        )
        return min(costs, default=inf)

    # Combined weights are read for every two tiles, small ones for every row of tiles.
    assert cheapest(far, "conv2d.winograd") > 2 * cheapest(far, "conv2d.winograd_small")
    assert cheapest(near, "conv2d.winograd") == 0


def test_functions_that_layers_share_count_once() -> None:
    conv = OPS["conv2d"]
    chain = Chain(3, (1, 6, 6, 8), 0)
    for _ in range(3):
        chain.layer(conv(pads=(1, 1, 1, 1), groups=8), (8, 3, 3, 1), GRID, 0.0)
    planned = plan.make(chain.graph(), CORE, "balanced")
    assert len(planned.functions) < 3
    apart = sum(step.predicted.code for step in planned.steps)
    constants = sum(step.predicted.constants for step in planned.steps)
    assert planned.predicted_flash < constants + apart
