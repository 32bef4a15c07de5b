"""Binary layers made of real ones, without training: for sizes and cycles, not for results."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codegen.ir import Graph, Node, Tensor
from codegen.ops.binary_conv2d import BinaryConv2D
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.ops.lookup import Lookup
from codegen.passes.binarize import binarize
from codegen.passes.dead_code import dead_code
from codegen.passes.lift_signs import lift_signs
from targets.errors import UsageError


def binary_activations(graph: Graph, force: bool) -> Graph:
    """The graph if it has layers of signs; else, if forced, with such layers between first and last.

    Args:
        graph: a float graph after all passes.
        force: whether layers are made binary that were not trained so.

    Raises:
        UsageError: the model has no binary layers, and `force` is not set.
    """
    if any(isinstance(node.op, BinaryConv2D) for node in graph.nodes):
        return graph
    if not force:
        raise UsageError(
            "no layer of the model multiplies signs with signs; rounding its activations to them leaves "
            "no usable model",
            hint="fine-tune the model with sign activations and weights first, or pass --force",
        )
    return dead_code(binarize(lift_signs(_with_signs(graph))))


def _with_signs(graph: Graph) -> Graph:
    """Signs before all layers of one group but the first and the last, times the mean magnitude of weights.

    What an activation function has cut off, 0, counts as -1.
    """
    layers = [node for node in graph.nodes if isinstance(node.op, Conv2D | Dense)]
    chosen = {node.output for node in layers[1:-1] if _can_be(graph, node)}
    nodes: list[Node] = []
    tensors = dict(graph.tensors)
    for node in graph.nodes:
        if node.output not in chosen:
            nodes.append(node)
            continue
        x, w = (tensors[name] for name in node.inputs[:2])
        signs, weights = f"{node.output}/sign", f"{node.output}/binary"
        rows = w.values.astype(np.float32)
        means = np.abs(rows).mean(axis=tuple(range(1, rows.ndim)), keepdims=True)
        data = (np.where(rows < 0, -1, 1) * means).astype(np.float32)
        tensors[signs] = Tensor(signs, x.shape)
        tensors[weights] = Tensor(weights, w.shape, None, data)
        nodes.append(Node(Lookup("sign", -1.0), (x.name,), signs))
        inputs = (signs, weights, *node.inputs[2:])
        nodes.append(Node(node.op, inputs, node.output, node.sources))
    return replace(graph, tensors=tensors, nodes=tuple(nodes))


def _can_be(graph: Graph, node: Node) -> bool:
    w = graph.tensors[node.inputs[1]]
    return w.quant is None and getattr(node.op, "groups", 1) == 1
