"""Copies of plain numbers that were reals before become copies of reals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from codegen.copies import Move
from codegen.forms import Reshape, ToFloat
from codegen.ir import Graph, Node, Tensor
from codegen.rewrite import fresh, rebuilt


def lift_moves(graph: Graph) -> Graph:
    """1. A Move that only picks elements of tensors that a ToFloat wrote picks them before it.

    The reals are quantized then, and a byte is moved instead of a float. Reshapes may stand in between.
    """
    origins: dict[str, str] = {}  # plain tensors that hold the elements of a real one, in its order
    tensors, kept = dict(graph.tensors), list[Node]()
    for node in graph.nodes:
        x = node.inputs[0] if node.inputs else ""
        if isinstance(node.op, ToFloat):
            origins[node.output] = x
        elif isinstance(node.op, Reshape) and x in origins:
            origins[node.output] = origins[x]
        elif _picks(node, origins):
            kept += _lifted(node, origins, tensors)
            origins[node.output] = kept[-1].inputs[0]
            continue
        kept.append(node)
    return rebuilt(graph, kept, tensors, {})


def _picks(node: Node, origins: Mapping[str, str]) -> bool:
    if not isinstance(node.op, Move) or not node.op.is_full:
        return False
    return bool(node.inputs) and all(name in origins for name in node.inputs)


def _lifted(node: Node, origins: Mapping[str, str], tensors: dict[str, Tensor]) -> list[Node]:
    """The reals in the shape that the Move knows, the Move, and what makes plain numbers of its result."""
    made, shaped = list[Node](), list[str]()
    for x in node.inputs:
        real = tensors[origins[x]]
        shaped.append(fresh(f"{node.output}/shaped", tensors))
        tensors[shaped[-1]] = replace(real, name=shaped[-1], shape=tensors[x].shape)
        made.append(Node(Reshape(tensors[x].shape), (real.name,), shaped[-1], node.sources))
    output = tensors[node.output]
    moved = fresh(f"{node.output}/moved", tensors)
    tensors[moved] = replace(output, name=moved, dtype=None)
    made.append(replace(node, inputs=tuple(shaped), output=moved))
    made.append(Node(ToFloat(output.shape), (moved,), node.output, node.sources))
    return made
