"""A graph of reals as one of plain float32 numbers: what runs where nothing is to be quantized.

Operators on reals become operators on plain numbers (docs/floats.md). Each file of this folder holds some
`LOWERINGS`, by kind. Axis 0 of the reals, a batch of one, serves as the axis for samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from codegen.floats import maps, moves, windows
from codegen.floats.rewrite import Lowering, Rewriter
from codegen.forms import Reshape, ToFloat, ToGrid
from codegen.ir import Graph, Node, verify
from codegen.qdq import constant_value
from targets.errors import UnsupportedModel

LOWERINGS: Mapping[str, Lowering] = {**maps.LOWERINGS, **moves.LOWERINGS, **windows.LOWERINGS}


def all_floats(graph: Graph) -> Graph:
    """The same network on plain float32 numbers.

    Raises:
        UnsupportedModel: an operator has no meaning in float, as those on bits.
    """
    new = Rewriter(graph)
    for name, tensor in graph.tensors.items():
        if tensor.dtype is not None:
            new.tensors[name] = tensor
        elif tensor.data is not None:
            new.constant(name, constant_value(tensor))
    for port in graph.inputs:
        new.tensors[port.tensor] = replace(
            graph.tensors[port.tensor], dtype=graph.tensors[port.tensor].dtype or "float32"
        )
    for node in graph.nodes:
        _lower(node, new)
    used = {port.tensor for port in (*graph.inputs, *graph.outputs)}
    used |= {name for node in new.nodes for name in (*node.inputs, node.output)}
    tensors = {name: tensor for name, tensor in new.tensors.items() if name in used}
    return verify(replace(graph, tensors=tensors, nodes=tuple(new.nodes)))


def _lower(node: Node, new: Rewriter) -> None:
    if isinstance(node.op, ToFloat | ToGrid):
        new.emit(Reshape(node.op.shape), node.inputs, node.output, node)
    elif new.graph.tensors[node.output].dtype is not None or node.op.kind in (
        "gather",
        "move",
        "reshape",
    ):
        new.tensors[node.output] = replace(
            new.graph.tensors[node.output],
            dtype=new.graph.tensors[node.output].dtype or "float32",
        )
        new.nodes.append(node)
    elif node.op.kind in LOWERINGS:
        LOWERINGS[node.op.kind](node, new)
    else:
        raise UnsupportedModel(
            f"{node.label}: {node.op.kind} does not compute in float", node=node.label
        )
