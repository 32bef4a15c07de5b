"""Signs move up to where their operand is computed, so that everything after them is binary."""

from __future__ import annotations

from dataclasses import replace

from codegen.forms import Reshape
from codegen.ir import Graph, Node, Tensor
from codegen.ops.add import Add
from codegen.ops.lookup import Lookup
from codegen.ops.max_pool import MaxPool
from codegen.rewrite import merged_sources, rebuilt, uses


def lift_signs(graph: Graph) -> Graph:
    """1. The sign of a sign plus a number between -1 and 1, not 0, is the inner sign with that number's
       sign at 0.
    2. The sign of a MaxPool or Reshape is the MaxPool or Reshape of the sign: signs keep order.

    Values between that others read too, or that have a grid, stay as they are.
    """
    while (changed := _lifted(_joined(graph))) is not graph:
        graph = changed
    return graph


def is_sign(node: Node | None) -> bool:
    """Whether a node is the sign of its operand."""
    return node is not None and isinstance(node.op, Lookup) and node.op.function == "sign"


def _joined(graph: Graph) -> Graph:
    index = uses(graph)
    for outer in filter(is_sign, graph.nodes):
        middle = index.producers.get(outer.inputs[0])
        if middle is None or not isinstance(middle.op, Add) or not index.sole_reader(middle.output):
            continue
        inner = index.producers.get(middle.inputs[0])
        offset = graph.tensors[middle.inputs[1]].data
        if not is_sign(inner) or offset is None or offset.size != 1 or middle.op.signs != (1, 1):
            continue
        assert inner is not None
        number = float(offset.reshape(-1)[0])
        if not 0 < abs(number) < 1 or not index.sole_reader(inner.output):
            continue
        assert isinstance(inner.op, Lookup)
        zero = inner.op.alpha or (1.0 if number > 0 else -1.0)
        made = replace(
            outer,
            op=replace(inner.op, alpha=zero),
            inputs=inner.inputs,
            sources=merged_sources(inner, outer),
        )
        dropped = {inner.output, middle.output}
        nodes = [made if n is outer else n for n in graph.nodes if n.output not in dropped]
        return rebuilt(graph, nodes, graph.tensors, {})
    return graph


def _lifted(graph: Graph) -> Graph:
    index = uses(graph)
    for sign in filter(is_sign, graph.nodes):
        moved = index.producers.get(sign.inputs[0])
        if moved is None or not isinstance(moved.op, MaxPool | Reshape):
            continue
        source, between = graph.tensors[moved.inputs[0]], graph.tensors[moved.output]
        if between.quant is not None or not index.sole_reader(moved.output):
            continue
        name = f"{moved.output}/sign"
        early = Node(sign.op, (source.name,), name, sign.sources)
        late = replace(moved, inputs=(name,), output=sign.output)
        nodes = []
        for node in graph.nodes:
            nodes += [early] if node is moved else [late] if node is sign else [node]
        tensors = {**graph.tensors, name: Tensor(name, source.shape)}
        return rebuilt(graph, nodes, tensors, {})
    return graph
