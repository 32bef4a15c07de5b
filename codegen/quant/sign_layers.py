"""Signs put before layers of a float graph, so that training can make both their operands binary.

A value x behind a Relu is seen as m * (1 + sign): weights are multiplied by m, and what m * 1 adds goes to
the bias. That is where training begins; m is half the mean of the positive x.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from math import inf

import numpy as np

from codegen.execute import run_float
from codegen.ir import Array, FloatArray, Graph, Node, Tensor, verify
from codegen.ops.add import Add
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.ops.lookup import Lookup
from codegen.passes.lift_signs import is_sign, lift_signs
from codegen.rewrite import rebuilt, uses

SIGN = Lookup("sign", 1.0)
CUT = (0.0, inf)  # a Relu


def takes_signs(graph: Graph, node: Node) -> bool:
    """Whether a layer can be one of signs: a Conv2D of one group or a Dense, behind another operator."""
    computed = graph.producer(node.inputs[0]) is not None
    return computed and isinstance(node.op, Conv2D | Dense) and getattr(node.op, "groups", 1) == 1


def with_signs(graph: Graph, layers: Collection[str], samples: tuple[Array, ...]) -> Graph:
    """The graph with a sign before each of these layers, as early as MaxPools allow; their Relus are gone.

    Args:
        graph: float, after all passes.
        layers: outputs of layers that `takes_signs`.
        samples: calibration inputs in device layout.
    """
    sources = {node.inputs[0] for node in graph.nodes if node.output in layers}
    halves = {name: mean / 2 for name, mean in _positive_means(graph, sources, samples).items()}
    tensors, nodes = dict(graph.tensors), list[Node]()
    for node in graph.nodes:
        if node.output in layers:
            made, constants = _scaled(graph, node, halves[node.inputs[0]])
            tensors |= {tensor.name: tensor for tensor in constants}
            nodes.append(made)
        else:
            nodes.append(node)
        if node.output in sources:
            signs = _signs_of(node.output)
            tensors[signs] = Tensor(signs, tensors[node.output].shape)
            nodes.append(Node(SIGN, (node.output,), signs))
    signed = replace(graph, tensors=tensors, nodes=tuple(nodes))
    return verify(_without_clamps(lift_signs(_without_relus(signed))))


def without_grid(graph: Graph, layers: Collection[str], roots: Mapping[str, str]) -> frozenset[str]:
    """The activations that are bits on the device, and the sums of `layers` that only a sign reads.

    Args:
        graph: of `with_signs`.
        layers: as there.
        roots: for every activation the one whose grid it shares.
    """
    index = uses(graph)
    signs = [node for node in graph.nodes if is_sign(node)]
    bits = {roots[node.output] for node in signs}
    sums = {
        node.inputs[0]
        for node in signs
        if node.inputs[0] in layers and index.sole_reader(node.inputs[0])
    }
    return frozenset(sums | {name for name, root in roots.items() if root in bits})


def _signs_of(name: str) -> str:
    return f"{name}/signs"  # lift_signs makes names of its own


def _positive_means(
    graph: Graph, names: Collection[str], samples: tuple[Array, ...]
) -> dict[str, float]:
    sums, counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)

    def watch(name: str, values: Array) -> None:
        if name in sums:
            positive = values[np.greater(values, 0)]
            sums[name] += float(positive.sum(dtype=np.float64))
            counts[name] += positive.size

    run_float(graph, samples, watch)
    return {name: sums[name] / counts[name] if counts[name] else 1.0 for name in names}


def _scaled(graph: Graph, node: Node, half: float) -> tuple[Node, tuple[Tensor, Tensor]]:
    """A layer that reads signs, with constants of its own."""
    w, b = (graph.tensors[name] for name in node.inputs[1:])
    weights: FloatArray = w.values.astype(np.float32) * np.float32(half)
    sums = weights.reshape(len(weights), -1).sum(axis=1)
    made = (
        Tensor(f"{node.output}/scaled", w.shape, None, weights),
        Tensor(f"{node.output}/offset", b.shape, None, b.values.astype(np.float32) + sums),
    )
    inputs = (_signs_of(node.inputs[0]), *(tensor.name for tensor in made))
    return replace(node, inputs=inputs), made


def _without_relus(graph: Graph) -> Graph:
    """The graph without Relus of their own that only a sign reads: it would see no negative number."""
    index = uses(graph)
    alias = {}
    for sign in filter(is_sign, graph.nodes):
        relu = index.producers.get(sign.inputs[0])
        if relu is not None and relu.op == Lookup("relu") and index.sole_reader(relu.output):
            alias[relu.output] = relu.inputs[0]
    nodes = [node for node in graph.nodes if node.output not in alias]
    return rebuilt(graph, nodes, graph.tensors, alias)


def _without_clamps(graph: Graph) -> Graph:
    """The same for Relus that are part of a layer."""
    index = uses(graph)
    read = {node.inputs[0] for node in graph.nodes if is_sign(node)}
    nodes = tuple(
        replace(node, op=replace(node.op, clamp=None))
        if node.output in read
        and index.sole_reader(node.output)
        and isinstance(node.op, Add | Conv2D | Dense)
        and node.op.clamp == CUT
        else node
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes)
