"""Order of operators: the one with the fewest live bytes, exactly, where the graph is small enough.

A state is the set of operators that have run; what is live follows from it alone, whatever the order was.
So the least peak of a state is the least over its last operator: minimax over sets, as shortest paths
are searched (Dijkstra with max instead of plus). Only sets that are closed under operands exist: a chain of
n operators has n + 1 of them, k chains side by side their product. Beyond the limits the given order stays.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from codegen.ir import Graph

MAX_STATES = 20_000
MAX_TASKS = 200


@dataclass(frozen=True, slots=True)
class Task:
    """An operator as the search sees it: bit sets of operators, numbers of tensors.

    Attributes:
        needs: the operators that must have run.
        reads: the tensors that it reads.
        writes: the tensor that it writes; None when it moves no byte (an alias).
    """

    needs: int
    reads: frozenset[int]
    writes: int | None


@dataclass(frozen=True, slots=True)
class Schedule:
    """The problem of order.

    Attributes:
        tasks: in the given order.
        sizes: bytes of every tensor.
        kept: tensors that live to the end.
        given: tensors that live before the first operator.
    """

    tasks: tuple[Task, ...]
    sizes: tuple[int, ...]
    kept: frozenset[int]
    given: frozenset[int]


def reordered(graph: Graph, max_states: int = MAX_STATES) -> Graph:
    """The graph in an order with fewer live bytes; the graph itself when there is none.

    Args:
        graph: a quantized graph.
        max_states: sets of operators looked at before the search gives up.
    """
    schedule = problem(graph)
    usual = peak(schedule, range(len(schedule.tasks)))
    if len(schedule.tasks) > MAX_TASKS or usual <= floor(schedule):
        return graph
    found = best(schedule, max_states, below=usual)
    return graph if found is None else replace(graph, nodes=tuple(graph.nodes[i] for i in found))


def problem(graph: Graph) -> Schedule:
    """A graph's problem of order; reshaped tensors are their roots."""
    roots = {port.tensor: port.tensor for port in graph.inputs}
    writers: dict[str, int] = {}
    for i, node in enumerate(graph.nodes):
        alias = node.op.kind == "reshape"
        roots[node.output] = roots[node.inputs[0]] if alias else node.output
        writers[node.output] = i
    numbers = {name: i for i, name in enumerate(dict.fromkeys(roots.values()))}
    tasks = []
    for node in graph.nodes:
        operands = [name for name in node.inputs if name in roots]
        needs = sum({1 << writers[name] for name in operands if name in writers})
        reads = frozenset(numbers[roots[name]] for name in operands)
        writes = numbers[node.output] if roots[node.output] == node.output else None
        tasks.append(Task(needs, reads, writes))
    return Schedule(
        tuple(tasks),
        tuple(graph.tensors[name].bytes for name in numbers),
        frozenset(numbers[roots[port.tensor]] for port in graph.outputs),
        frozenset(numbers[roots[port.tensor]] for port in graph.inputs),
    )


def peak(schedule: Schedule, order: Sequence[int]) -> int:
    """Most live bytes of an order; operands and result of an operator live together."""
    search, done, most = _Search(schedule), 0, 0
    for i in order:
        most = max(most, search.bytes_during(done, i))
        done |= 1 << i
    return most


def floor(schedule: Schedule) -> int:
    """Bytes that no order can do without: of the largest operator alone."""
    sizes = schedule.sizes
    alone = [
        sum(sizes[t] for t in {*task.reads, task.writes})
        for task in schedule.tasks
        if task.writes is not None
    ]
    return max(alone, default=0)


def best(
    schedule: Schedule, max_states: int = MAX_STATES, below: int | None = None
) -> tuple[int, ...] | None:
    """An order with the least peak; None when there is none, or the limit of states is reached.

    Among equals the one that follows the given order longest: the search is deterministic.

    Args:
        schedule: the problem.
        max_states: sets of operators looked at before the search gives up.
        below: only orders with fewer bytes than that count.
    """
    search = _Search(schedule)
    goal = (1 << len(schedule.tasks)) - 1
    queue: list[tuple[int, tuple[int, ...], int]] = [(0, (), 0)]
    finished: set[int] = set()
    least: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
    while queue:
        most, order, done = heapq.heappop(queue)
        if done in finished:
            continue
        if done == goal:
            return order
        finished.add(done)
        if len(least) > max_states:
            return None
        for i in search.ready(done):
            reached = (max(most, search.bytes_during(done, i)), (*order, i))
            after = done | 1 << i
            if below is not None and reached[0] >= below:
                continue
            if after not in least or reached < least[after]:
                least[after] = reached
                heapq.heappush(queue, (*reached, after))
    return None


class _Search:
    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.readers = [0] * len(schedule.sizes)
        self.writer: Mapping[int, int] = {
            task.writes: 1 << i for i, task in enumerate(schedule.tasks) if task.writes is not None
        }
        for i, task in enumerate(schedule.tasks):
            for tensor in task.reads:
                self.readers[tensor] |= 1 << i

    def ready(self, done: int) -> list[int]:
        """Operators that may run next, in the given order."""
        return [
            i
            for i, task in enumerate(self.schedule.tasks)
            if not done >> i & 1 and task.needs & ~done == 0
        ]

    def bytes_during(self, done: int, i: int) -> int:
        """Live bytes while operator i runs after the operators in `done`."""
        task, total = self.schedule.tasks[i], 0
        if task.writes is None:
            return 0  # no step: nothing runs
        for tensor, size in enumerate(self.schedule.sizes):
            written = tensor in self.schedule.given or self.writer.get(tensor, 0) & done
            wanted = tensor in self.schedule.kept or self.readers[tensor] & ~done
            if (written and wanted) or tensor == task.writes:
                total += size
        return total
