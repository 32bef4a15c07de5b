"""Removal of nodes that change nothing."""

from __future__ import annotations

from codegen.forms import Reshape
from codegen.ir import Graph, Node
from codegen.ops.lookup import Lookup
from codegen.ops.mean import Mean
from codegen.ops.pad import Pad
from codegen.ops.resize import Resize
from codegen.ops.slice import Slice
from codegen.ops.transpose import Transpose
from codegen.rewrite import rebuilt


def drop_identity(graph: Graph) -> Graph:
    """A node is removed when its result has the grid of its operand, and it is

    1. an identity lookup;
    2. a Reshape to the same shape, or a Transpose in the same order;
    3. a Slice of everything, a Pad of nothing, a Resize or Mean that picks each element once.
    """
    alias: dict[str, str] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        if _is_identity(graph, node):
            alias[node.output] = node.inputs[0]
        else:
            kept.append(node)
    return rebuilt(graph, kept, graph.tensors, alias)


def _is_identity(graph: Graph, node: Node) -> bool:
    x, y = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    if (x.shape, x.quant, x.dtype) != (y.shape, y.quant, y.dtype) or x.data is not None:
        return False
    match node.op:
        case Lookup(function="identity") | Reshape() | Slice() | Pad() | Mean():
            return True
        case Transpose(perm=perm):
            return perm == tuple(range(len(perm)))
        case Resize(rows=rows, columns=columns):
            return rows == tuple(range(len(rows))) and columns == tuple(range(len(columns)))
    return False
