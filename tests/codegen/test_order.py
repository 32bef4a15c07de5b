"""The order of operators, against all orders of small graphs, and a network where it gains."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from random import Random

import numpy as np
import pytest

from codegen import check_plan, order, plan, reference
from codegen.ir import Graph, Node, Port, Tensor, per_tensor, verify_quantized
from codegen.ops import OPS
from codegen.order import Schedule, Task
from targets.target import load

GRID = per_tensor(0.05, -128)


def random_schedule(random: Random, count: int) -> Schedule:
    """Operators that read one to three earlier tensors; tensor 0 is the input."""
    tasks = []
    for i in range(count):
        reads = frozenset(random.randrange(i + 1) for _ in range(random.randint(1, 3)))
        needs = sum(1 << (t - 1) for t in reads if t)
        tasks.append(Task(needs, reads, i + 1))
    sizes = tuple(random.randint(1, 50) for _ in range(count + 1))
    return Schedule(tuple(tasks), sizes, frozenset({count}), frozenset({0}))


def valid(schedule: Schedule, found: tuple[int, ...]) -> bool:
    done = 0
    for i in found:
        if schedule.tasks[i].needs & ~done:
            return False
        done |= 1 << i
    return sorted(found) == list(range(len(schedule.tasks)))


@pytest.mark.parametrize("seed", range(30))
def test_no_order_has_a_lower_peak(seed: int) -> None:
    schedule = random_schedule(Random(seed), 7)
    found = order.best(schedule)
    assert found is not None and valid(schedule, found)
    orders = (p for p in permutations(range(7)) if valid(schedule, p))
    least = min(order.peak(schedule, p) for p in orders)
    assert order.peak(schedule, found) == least >= order.floor(schedule)
    assert order.best(schedule, below=least) is None
    assert order.best(schedule, below=least + 1) == found


def test_a_limit_of_states_ends_the_search() -> None:
    assert order.best(random_schedule(Random(1), 12), max_states=3) is None


def branchy() -> Graph:
    """Two branches that grow and shrink again, written down side by side: the worst order of all."""
    tensors = {"x": Tensor("x", (1, 8, 8, 4), GRID)}
    nodes: list[Node] = []

    def add(kind: str, inputs: tuple[str, ...], name: str, *arguments: object) -> None:
        op = OPS[kind](*arguments)
        shape = op.infer(tuple(tensors[i].shape for i in inputs))
        nodes.append(Node(op, inputs, name, (name,)))
        tensors[name] = Tensor(name, shape, GRID)

    for branch in "abc":
        add("concat", ("x", "x", "x"), f"{branch}_wide", 3)
    for branch in "abc":
        add("max_pool", (f"{branch}_wide",), f"{branch}_small", (4, 4), (4, 4))
    add("concat", ("a_small", "b_small", "c_small"), "y", 3)
    ports = [(Port(name, name, tensors[name].shape, tuple(range(4))),) for name in ("x", "y")]
    return verify_quantized(Graph("branchy", tensors, tuple(nodes), ports[0], ports[1]))


def test_a_branchy_network_gains() -> None:
    graph, core = branchy(), load("generic-m4").core
    moved = order.reordered(graph)
    assert [node.output for node in moved.nodes] != [node.output for node in graph.nodes]
    verify_quantized(moved)
    made = check_plan.check(plan.make(graph, core))
    given = plan._make(graph, core, plan.Wishes())  # what it would be in the given order
    assert made.size < given.size
    assert made.arena == made.bound == 256 + 768 + 2 * 48
    assert plan.make(graph, core).graph.nodes == made.graph.nodes
    x = np.random.default_rng(0).integers(-128, 128, (1, 8, 8, 4)).astype(np.int8)
    (before,), (after,) = reference.run(graph, (x,)), reference.run(made.graph, (x,))
    assert (before == after).all()


def test_a_chain_is_left_alone() -> None:
    graph = branchy()
    chain = replace(graph, nodes=(graph.nodes[0],), outputs=graph.inputs)
    assert order.reordered(chain) is chain
