"""What lowerings of operators on reals emit into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from codegen.ir import Array, Graph, Node, Op, Tensor


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

    def part(self, op: Op, inputs: tuple[str, ...], hint: str, node: Node) -> str:
        """Adds a node whose result only others that stand for the same one read."""
        name = f"{node.output}.{hint}"
        while name in self.tensors or name in self.graph.tensors:
            name += "_"
        return self.emit(op, inputs, name, node)


Lowering = Callable[[Node, Rewriter], None]
