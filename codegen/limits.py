"""How large a model may be: far beyond a microcontroller, and no file may take the host."""

from __future__ import annotations

from math import prod

from codegen.ir import Graph, Node, node_macs
from targets.errors import UnsupportedModel

MAX_FILE = 128 << 20  # bytes, with its external data
MAX_NODES = 10_000
MAX_NAMES = 1 << 18  # of nodes, values, attributes, weights: all that the importer reads
MAX_RANK = 8
MAX_ELEMENTS = 1 << 25  # of a constant, and of all together
MAX_FOLDED = 1 << 22  # of a constant that is computed
MAX_ACTIVATION = 1 << 24  # elements
MAX_ITEM_BITS = 128
MAX_WORK = 10**11  # multiplications, or elements read by windows, of one inference
MAX_ALIVE = 256  # activations that wait to be read at one time


def check_work(graph: Graph) -> None:
    """Raises UnsupportedModel for a graph that would take hours to calibrate, or forever to plan."""
    for node in graph.nodes:
        if _work(graph, node) > MAX_WORK:
            why = f"it takes {_work(graph, node):,} operations; the limit is {MAX_WORK:,}"
            raise UnsupportedModel(f"{node.op.kind} {node.label!r}: {why}", node=node.label)
    alive = _most_alive(graph)
    if alive > MAX_ALIVE:
        raise UnsupportedModel(
            f"{alive} results wait to be read at one time; the limit is {MAX_ALIVE}",
            hint="a network for a microcontroller keeps a few",
        )


def _work(graph: Graph, node: Node) -> int:
    kernel: tuple[int, ...] = getattr(node.op, "kernel", (1,))
    return max(node_macs(graph, node), graph.tensors[node.output].size * prod(kernel))


def _most_alive(graph: Graph) -> int:
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    last |= {port.tensor: len(graph.nodes) for port in graph.outputs}
    ends: dict[int, int] = {}
    most = alive = len(graph.inputs)
    for index, node in enumerate(graph.nodes):
        alive += 1
        most = max(most, alive)
        ends[last.get(node.output, index)] = ends.get(last.get(node.output, index), 0) + 1
        alive -= ends.pop(index, 0)
    return most
