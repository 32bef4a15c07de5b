"""Tables of float32 numbers that indices pick from, as embeddings are, become tables of reals."""

from __future__ import annotations

from dataclasses import replace

from codegen.forms import ToFloat
from codegen.ir import Graph, Node, Tensor
from codegen.ops.gather import Gather
from codegen.rewrite import fresh, rebuilt


def lift_tables(graph: Graph) -> Graph:
    """1. A Gather from a constant of plain float32 numbers picks reals, which then become plain.

    The table is quantized with them: a byte for each number instead of four.
    """
    tensors, kept = dict(graph.tensors), list[Node]()
    for node in graph.nodes:
        if not isinstance(node.op, Gather) or not _is_table(graph.tensors[node.inputs[0]]):
            kept.append(node)
            continue
        table, output = graph.tensors[node.inputs[0]], graph.tensors[node.output]
        real, picked = (
            fresh(f"{table.name}/table", tensors),
            fresh(f"{node.output}/picked", tensors),
        )
        tensors[real] = replace(table, name=real, dtype=None)
        tensors[picked] = replace(output, name=picked, dtype=None)
        kept.append(replace(node, inputs=(real, node.inputs[1]), output=picked))
        kept.append(Node(ToFloat(output.shape), (picked,), node.output, node.sources))
    return rebuilt(graph, kept, tensors, {})


def _is_table(tensor: Tensor) -> bool:
    return tensor.data is not None and tensor.dtype == "float32"
