"""Removal of what no output needs."""

from __future__ import annotations

from codegen.ir import Graph
from codegen.rewrite import rebuilt


def dead_code(graph: Graph) -> Graph:
    """1. A node whose result reaches no output is removed, and so are constants that nobody reads."""
    needed = {port.tensor for port in graph.outputs}
    kept = []
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
            kept.append(node)
    return rebuilt(graph, reversed(kept), graph.tensors, {})
