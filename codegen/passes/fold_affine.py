"""Products and sums with constants disappear into the weights before them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codegen.build import finite
from codegen.forms import Reshape
from codegen.ir import FloatArray, Graph, Node, Tensor
from codegen.ops.add import Add
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.ops.mul import Mul
from codegen.rewrite import Uses, merged_sources, rebuilt, uses


def fold_affine(graph: Graph) -> Graph:
    """For a Mul or Add with a constant that is one number, or one per channel (the last axis):

    1. after Conv2D or Dense, Reshapes that keep the channels between or not, it is folded into
       weights and bias, when nobody else reads the values between, and they, the weights and the
       constant have no grid;
    2. else, one per channel of an image becomes a depthwise 1x1 Conv2D (which takes a following
       one in by rule 1).
    """
    index = uses(graph)
    nodes = {node.output: node for node in graph.nodes}
    tensors, alias = dict(graph.tensors), dict[str, str]()
    for node in graph.nodes:
        constant = _constant(tensors, node)
        if constant is None:
            continue
        operand = alias.get(node.inputs[0], node.inputs[0])
        producer = _producer(nodes, index, tensors, alias, node, constant.size)
        if producer is not None:
            nodes[producer.output] = _folded(tensors, producer, node, constant)
            alias[node.output] = operand
            tensors[operand] = replace(tensors[operand], quant=tensors[node.output].quant)
            del nodes[node.output]
        elif constant.size > 1 and len(tensors[node.output].shape) == 4:
            nodes[node.output] = _depthwise(tensors, node, constant)
    return rebuilt(graph, nodes.values(), tensors, alias)


def _constant(tensors: dict[str, Tensor], node: Node) -> FloatArray | None:
    """The constant operand as (1,) or (channels,), if rule 1 or 2 may apply."""
    if not isinstance(node.op, Mul | Add) or node.op.clamp is not None:
        return None
    x, y = (tensors[name] for name in node.inputs)
    if y.data is None or y.quant is not None or x.data is not None:
        return None
    if x.shape != tensors[node.output].shape or y.size not in (1, *y.shape[-1:]):
        return None
    return y.data.astype(np.float32).reshape(-1)


def _producer(
    nodes: dict[str, Node],
    index: Uses,
    tensors: dict[str, Tensor],
    alias: dict[str, str],
    node: Node,
    size: int,
) -> Node | None:
    """The Conv2D or Dense that can take the constant in."""
    name = node.inputs[0]
    while index.sole_reader(name):
        name = alias.get(name, name)
        producer = nodes.get(name)
        if producer is None or tensors[name].quant is not None:
            return None
        if isinstance(producer.op, Conv2D | Dense):
            grids = [tensors[operand].quant for operand in producer.inputs[1:]]
            free = producer.op.clamp is None and grids == [None, None]
            return producer if free else None
        if not isinstance(producer.op, Reshape):
            return None
        before = producer.inputs[0]
        if size > 1 and tensors[before].shape[-1] != size:
            return None
        name = before
    return None


def _folded(tensors: dict[str, Tensor], producer: Node, node: Node, constant: FloatArray) -> Node:
    x, weights, bias = producer.inputs
    w, b = tensors[weights].data, tensors[bias].data
    assert w is not None
    assert b is not None
    new_w, new_b = w.astype(np.float64), b.astype(np.float64)
    wide = constant.astype(np.float64)
    if isinstance(node.op, Mul):
        new_w, new_b = new_w * wide.reshape(-1, *(1,) * (w.ndim - 1)), new_b * wide
    elif isinstance(node.op, Add):
        new_w = node.op.signs[0] * new_w
        new_b = node.op.signs[0] * new_b + node.op.signs[1] * wide
    names = (f"{node.output}/w", f"{node.output}/b")
    for name, array in zip(names, (new_w, new_b), strict=True):
        data = finite(array, name)
        tensors[name] = Tensor(name, data.shape, None, data)
    sources = merged_sources(producer, node)
    return replace(producer, inputs=(x, *names), sources=sources)


def _depthwise(tensors: dict[str, Tensor], node: Node, constant: FloatArray) -> Node:
    channels = constant.size
    w, b = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    if isinstance(node.op, Mul):
        w = constant
    elif isinstance(node.op, Add):
        w, b = w * np.float32(node.op.signs[0]), constant * np.float32(node.op.signs[1])
    names = (f"{node.output}/w", f"{node.output}/b")
    tensors[names[0]] = Tensor(names[0], (channels, 1, 1, 1), None, w.reshape(-1, 1, 1, 1))
    tensors[names[1]] = Tensor(names[1], (channels,), None, b)
    return replace(node, op=Conv2D(groups=channels), inputs=(node.inputs[0], *names))
