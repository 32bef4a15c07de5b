"""A graph of reals as one of plain float32 numbers: what runs where nothing is to be quantized.

Operators on reals become operators on plain numbers; a converter per kind, in `LOWERINGS`. Their axis 0,
a batch of one, serves as the axis for samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from codegen.ir import Array, Graph, Node, Op, Tensor, verify
from codegen.moves import Reshape, ToFloat, ToGrid
from targets.errors import UnsupportedModel


@dataclass
class Rewriter:
    """The graph under construction: plain tensors under the names of the reals that they replace."""

    graph: Graph
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor that was added."""
        return self.tensors[name].shape

    def constant(self, name: str, data: Array) -> str:
        """Adds a float32 constant; it needs an axis 0 for samples where operands are to broadcast."""
        values = np.ascontiguousarray(data, np.float32)
        self.tensors[name] = Tensor(name, values.shape, None, values, dtype="float32")
        return name

    def emit(self, op: Op, inputs: tuple[str, ...], output: str, node: Node) -> str:
        """Adds a node that stands for one of the graph."""
        shape = op.infer(tuple(self.shape(name) for name in inputs))
        self.tensors[output] = Tensor(output, shape, dtype="float32")
        self.nodes.append(Node(op, inputs, output, node.sources))
        return output


Lowering = Callable[[Node, Rewriter], None]
LOWERINGS: Mapping[str, Lowering] = {}


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
            new.constant(name, tensor.values)
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
    elif new.graph.tensors[node.output].dtype is not None or node.op.kind == "reshape":
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
