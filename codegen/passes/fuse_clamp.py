"""Activation functions that only bound their operand become the clamp of the operator before."""

from __future__ import annotations

from dataclasses import replace

from codegen.forms import Reshape
from codegen.ir import Graph, Node, Tensor
from codegen.ops.add import Add
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.ops.lookup import Lookup
from codegen.ops.mul import Mul
from codegen.ops.transpose import Transpose
from codegen.rewrite import Uses, merged_sources, rebuilt, uses


def fuse_clamp(graph: Graph) -> Graph:
    """1. Relu and Clip after Conv2D, Dense, Add or Mul become its clamp, Reshapes between or not,
    when nobody else reads the values between and they have no grid, or that of the result.
    """
    index = uses(graph)
    nodes = {node.output: node for node in graph.nodes}
    tensors, alias = dict(graph.tensors), dict[str, str]()
    for node in graph.nodes:
        bounds = node.op.bounds() if isinstance(node.op, Lookup) else None
        if bounds is None:
            continue
        chain = _chain(nodes, index, tensors, alias, node)
        if chain is None:
            continue
        producer = chain[-1]
        nodes[producer.output] = _clamped(producer, node, bounds)
        for link in chain:
            tensors[link.output] = replace(tensors[link.output], quant=tensors[node.output].quant)
        alias[node.output] = chain[0].output
        del nodes[node.output]
    return rebuilt(graph, nodes.values(), tensors, alias)


def _chain(
    nodes: dict[str, Node],
    index: Uses,
    tensors: dict[str, Tensor],
    alias: dict[str, str],
    node: Node,
) -> list[Node] | None:
    """The nodes from a lookup's operand back to the operator that can clamp; None without one."""
    chain: list[Node] = []
    grid = tensors[node.output].quant
    name = node.inputs[0]
    while index.sole_reader(name):
        name = alias.get(name, name)
        producer = nodes.get(name)
        if producer is None or tensors[name].quant not in (None, grid):
            return None
        chain.append(producer)
        if isinstance(producer.op, Conv2D | Dense | Add | Mul):
            return chain
        if not isinstance(producer.op, Reshape | Transpose):
            return None
        name = producer.inputs[0]
    return None


def _clamped(producer: Node, node: Node, bounds: tuple[float, float]) -> Node:
    op = producer.op
    assert isinstance(op, Conv2D | Dense | Add | Mul)
    low, high = bounds
    if op.clamp is not None:
        low, high = (min(max(value, low), high) for value in op.clamp)
    sources = merged_sources(producer, node)
    return replace(producer, op=replace(op, clamp=(low, high)), sources=sources)
