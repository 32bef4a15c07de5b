"""Removal of ways to plain numbers and back."""

from __future__ import annotations

from collections.abc import Mapping

from codegen.forms import Reshape, ToFloat, ToGrid
from codegen.ir import Graph, Node
from codegen.rewrite import rebuilt, uses


def drop_round_trips(graph: Graph) -> Graph:
    """1. What becomes plain, is reshaped at most, and becomes real again was real all the time: a Reshape.

    A ToGrid that reads what a ToFloat wrote is such a way, with Reshapes between them.
    """
    producers, kept = uses(graph).producers, []
    for node in graph.nodes:
        source = _origin(node, producers) if isinstance(node.op, ToGrid) else None
        if source is None:
            kept.append(node)
        else:
            shape = graph.tensors[node.output].shape
            kept.append(Node(Reshape(shape), (source,), node.output, node.sources))
    return rebuilt(graph, kept, graph.tensors, {})


def _origin(node: Node, producers: Mapping[str, Node]) -> str | None:
    """The real tensor that a ToGrid gives back; None where something was computed in between."""
    maker = producers.get(node.inputs[0])
    while maker is not None and isinstance(maker.op, Reshape):
        maker = producers.get(maker.inputs[0])
    return maker.inputs[0] if maker is not None and isinstance(maker.op, ToFloat) else None
