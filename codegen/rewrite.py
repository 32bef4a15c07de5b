"""What passes share: who reads what, and putting a changed graph together again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from codegen.ir import Graph, Node, Tensor


@dataclass(frozen=True, slots=True)
class Uses:
    """An index of a graph, for passes that would else search it at every node."""

    producers: Mapping[str, Node]
    readers: Mapping[str, Sequence[Node]]
    reads: Mapping[str, int]

    def sole_reader(self, name: str) -> bool:
        """Whether exactly one node reads a tensor, and it is no output of the network."""
        return self.reads.get(name, 0) == 1


def uses(graph: Graph) -> Uses:
    """The index. An output of the network counts as two reads."""
    reads = Counter(name for node in graph.nodes for name in node.inputs)
    for port in graph.outputs:
        reads[port.tensor] += 2
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in dict.fromkeys(node.inputs):
            readers.setdefault(name, []).append(node)
    return Uses({node.output: node for node in graph.nodes}, readers, reads)


def rebuilt(
    graph: Graph, nodes: Iterable[Node], tensors: Mapping[str, Tensor], alias: Mapping[str, str]
) -> Graph:
    """The graph with these nodes; aliased names are replaced, tensors that nobody names are gone."""

    def resolve(name: str) -> str:
        while name in alias:
            name = alias[name]
        return name

    kept = tuple(
        replace(node, inputs=tuple(resolve(name) for name in node.inputs)) for node in nodes
    )
    outputs = tuple(replace(port, tensor=resolve(port.tensor)) for port in graph.outputs)
    named = {port.tensor for port in (*graph.inputs, *outputs)}
    for node in kept:
        named.update((*node.inputs, node.output))
    remaining = {name: tensor for name, tensor in tensors.items() if name in named}
    return replace(graph, tensors=remaining, nodes=kept, outputs=outputs)


def fresh(hint: str, tensors: Mapping[str, Tensor]) -> str:
    """A name that no tensor has."""
    name = hint
    while name in tensors:
        name += "'"
    return name


def merged_sources(first: Node, second: Node) -> tuple[str, ...]:
    """The ONNX nodes that two merged nodes stand for."""
    return tuple(dict.fromkeys((*first.sources, *second.sources)))
