"""The same choice by reinforcement learning: an actor-critic in the manner of HAQ (Wang et al., CVPR 2019).

Layer after layer the actor draws an option from a distribution of its own per layer; the critic predicts the
reward from what is spent so far. A choice over a limit is brought within it as HAQ does, by cheaper
options; the reward is minus the logarithm of the loss. It proves nothing: `milp.solve` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codegen.tune.problem import Chosen, Limits, Option, Problem, Totals, totals, without_beaten

Row = npt.NDArray[np.float64]
FEATURES = 4


@dataclass(frozen=True, slots=True)
class Training:
    """How long and how fast to learn.

    Attributes:
        updates: of actor and critic.
        episodes: choices drawn for each.
        actor_rate: step of the actor.
        critic_rate: step of the critic.
        entropy: what a nat of entropy is worth at the start; falls to none.
    """

    updates: int = 60
    episodes: int = 16
    actor_rate: float = 0.5
    critic_rate: float = 0.1
    entropy: float = 0.05


@dataclass(slots=True)
class _Agent:
    """Preferences of the actor per layer, weights of the critic per layer."""

    actor: list[Row]
    critic: Row


def search(
    problem: Problem,
    limits: Limits,
    seed: int = 0,
    training: Training | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Chosen | None:
    """The best choice seen within the limits; None where none was.

    Args:
        problem: the options.
        limits: that the choice must keep.
        seed: of the draws: equal seeds give equal choices.
        training: how long and how fast.
        progress: called with 1 after every update.
    """
    rules = training or Training()
    small, left = without_beaten(problem)
    fits = tuple(tuple(o for o in row if o.sram <= limits.sram) or row for row in small.options)
    places = [[row.index(o) for o in kept] for row, kept in zip(small.options, fits, strict=True)]
    small = Problem(small.names, fits)
    generator = np.random.default_rng(seed)
    agent = _Agent([np.zeros(len(row)) for row in fits], np.zeros((len(fits), FEATURES)))
    best: tuple[float, Chosen] | None = None
    for update in range(rules.updates):
        entropy = rules.entropy * (1 - update / rules.updates)
        for _ in range(rules.episodes):
            drawn = _drawn(agent, generator)
            kept, found = _within(small, drawn, limits)
            if found is not None and (best is None or found.loss < best[0]):
                best = found.loss, kept
            _learn(agent, small, kept, _reward(found, problem), rules, entropy)
        progress(1)
    if best is None:
        return None
    return tuple(left[layer][places[layer][index]] for layer, index in enumerate(best[1]))


def _drawn(agent: _Agent, generator: np.random.Generator) -> list[int]:
    return [int(generator.choice(len(row), p=_softmax(row))) for row in agent.actor]


def _softmax(row: Row) -> Row:
    shifted: Row = np.exp(row - row.max())
    found: Row = shifted / shifted.sum()
    return found


def _reward(found: Totals | None, problem: Problem) -> float:
    """Decades of loss below that of the worst choice; below 0 where the limits are missed."""
    worst = sum(max(option.loss for option in row) for row in problem.options)
    if found is None or worst <= 0:
        return -1.0
    return float(np.log10(worst / max(found.loss, 1e-9 * worst)))


def _within(problem: Problem, drawn: list[int], limits: Limits) -> tuple[Chosen, Totals | None]:
    """A choice brought within its limits: step by step the option that saves the most for its loss."""
    chosen = list(drawn)
    for _ in range(4 * sum(map(len, problem.options))):
        now = totals(problem, tuple(chosen))
        if now.within(limits):
            return tuple(chosen), now
        step = _cheaper(problem, chosen, now, limits)
        if step is None:
            break
        chosen[step[0]] = step[1]
    return tuple(chosen), None


def _cheaper(
    problem: Problem, chosen: list[int], now: Totals, limits: Limits
) -> tuple[int, int] | None:
    """The layer and option that bring the totals towards the limits for the least loss."""
    best, found = 0.0, None
    users: dict[object, int] = {}
    for row, index in zip(problem.options, chosen, strict=True):
        users[row[index].part] = users.get(row[index].part, 0) + 1
    for layer, row in enumerate(problem.options):
        old = row[chosen[layer]]
        for index, new in enumerate(row):
            saved = _saved(old, new, users, now, limits)
            if saved <= 0:
                continue
            worth = saved / (max(new.loss - old.loss, 0.0) + 1e-9)
            if worth > best:
                best, found = worth, (layer, index)
    return found


def _saved(
    old: Option, new: Option, users: dict[object, int], now: Totals, limits: Limits
) -> float:
    """How much of what is over the limits an exchange saves, as shares of them."""
    alone = users[old.part] == 1 and new.part != old.part
    flash = old.flash - new.flash + alone * old.part_flash
    flash -= 0 if users.get(new.part) else new.part_flash
    cycles = old.cycles - new.cycles
    total = 0.0
    for saving, amount, limit in (
        (flash, now.flash, limits.flash),
        (cycles, now.cycles, limits.cycles),
    ):
        if np.isfinite(limit):
            over = max(amount - limit, 0) / limit
            # What it saves counts up to the limit, what it costs beyond it.
            after = max(amount - saving - limit, 0) / limit
            total += over - after
    return float(total)


def _features(problem: Problem, chosen: Chosen) -> Row:
    """What the critic sees before every layer: shares of loss, flash and cycles that are spent."""
    picked = problem.picked(chosen)
    spent = np.array([[o.loss, o.flash, o.cycles] for o in picked], np.float64)
    most = np.array(
        [
            [max(o.loss for o in row), max(o.flash for o in row), max(o.cycles for o in row)]
            for row in problem.options
        ]
    ).sum(axis=0)
    before = np.cumsum(spent, axis=0) - spent
    ones = np.ones((len(picked), 1))
    return np.hstack([ones, before / np.maximum(most, 1e-30)])


def _learn(
    agent: _Agent, problem: Problem, chosen: Chosen, reward: float, rules: Training, entropy: float
) -> None:
    """One step along the policy gradient; the critic's error is the advantage."""
    features = _features(problem, chosen)
    advantages = reward - (agent.critic * features).sum(axis=1)
    agent.critic += rules.critic_rate * advantages[:, None] * features
    for layer, index in enumerate(chosen):
        policy = _softmax(agent.actor[layer])
        gradient = -policy
        gradient[index] += 1.0
        spread = -policy * (np.log(policy + 1e-12) + _entropy(policy))
        agent.actor[layer] += rules.actor_rate * (
            float(np.clip(advantages[layer], -1, 1)) * gradient + entropy * spread
        )


def _entropy(policy: Row) -> float:
    return float(-(policy * np.log(policy + 1e-12)).sum())
