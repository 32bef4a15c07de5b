"""Which layers lose the most by quantization, and why: from errors on real inputs, and from weights alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from codegen.ir import Graph, Node
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.quant import ptq
from codegen.quant.rounding import Floats

DIVERGED_DB = 20.0  # noise of a hundredth of the signal's power
WEAK_DB = 15.0  # of weights on a grid of four bits
WIDE_RANGE = 30.0  # between a depthwise layer's channels
SMALL_SHARE = 0.05  # of all weights: so little is saved by fewer bits
FEW_BITS = 4
DEAD = 1e-3  # of the largest channel

Errors = Mapping[str, Mapping[str, Any]]


def first_below(
    layers: Sequence[Mapping[str, Any]], errors: Errors, threshold: float = DIVERGED_DB
) -> dict[str, Any] | None:
    """The first layer whose output has less signal to noise than a threshold; None where all have more.

    Args:
        layers: of the manifest, in order.
        errors: by tensor, from analysis.layer_errors.
        threshold: in dB.
    """
    for layer in layers:
        found = errors.get(layer["output"], {}).get("sqnr_db")
        if found is not None and found < threshold:
            return {"layer": layer["name"], "sqnr_db": found, "threshold_db": threshold}
    return None


def weights(graph: Graph) -> dict[str, dict[str, float]]:
    """Facts about the float weights of every layer, by its output.

    `sqnr_int8_db` and `sqnr_int4_db` are those of rounding to nearest with a scale per channel;
    `channel_range` is the largest channel's magnitude over the smallest's; `share` that of all weights.
    """
    total = sum(_real(graph, node).size for node in _weighted(graph)) or 1
    return {
        node.output: {
            "sqnr_int8_db": _sqnr(_real(graph, node), 8),
            "sqnr_int4_db": _sqnr(_real(graph, node), FEW_BITS),
            "channel_range": _range(_real(graph, node)),
            "share": _real(graph, node).size / total,
        }
        for node in _weighted(graph)
    }


def weak_layers(graph: Graph, layers: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Layers that would hurt with weights of few bits, and the measured fact that says so.

    Args:
        graph: the float graph.
        layers: of the manifest.
    """
    nodes = {node.output: node for node in _weighted(graph)}
    facts = weights(graph)
    ends = {*list(nodes)[:1], *list(nodes)[-1:]}
    found = []
    for layer in layers:
        output = layer["output"]
        if output not in facts:
            continue
        for text in _reasons(graph, nodes[output], facts[output], output in ends):
            found.append({"layer": layer["name"], "text": text})
    return found


def _reasons(graph: Graph, node: Node, facts: Mapping[str, float], is_end: bool) -> Iterator[str]:
    depth = graph.tensors[node.inputs[0]].shape[-1]
    depthwise = isinstance(node.op, Conv2D) and node.op.groups == depth > 1
    if depthwise and facts["channel_range"] > WIDE_RANGE:
        yield (
            f"depthwise, and its channels' weights differ {facts['channel_range']:,.0f} times in range: "
            "keep a scale per channel, and int8"
        )
    if facts["sqnr_int4_db"] < WEAK_DB:
        yield (
            f"4-bit weights rounded to nearest keep {facts['sqnr_int4_db']:.1f} dB "
            f"(int8: {facts['sqnr_int8_db']:.1f}): needs second-order rounding, or int8"
        )
    if is_end and facts["share"] < SMALL_SHARE:
        yield f"at an end of the network with {facts['share']:.1%} of the weights: fewer bits save little"


def _weighted(graph: Graph) -> list[Node]:
    return [
        node
        for node in graph.nodes
        if isinstance(node.op, Conv2D | Dense) and graph.tensors[node.inputs[1]].quant is None
    ]


def _real(graph: Graph, node: Node) -> Floats:
    """Weights, a row per output channel."""
    tensor = graph.tensors[node.inputs[1]]
    return ptq.real(tensor).reshape(tensor.shape[0], -1)


def _sqnr(rows: Floats, bits: int) -> float:
    limit = 2 ** (bits - 1) - 1
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scales = np.where(largest > 0, largest / limit, 1.0)
    error = np.rint(rows / scales) * scales - rows
    signal, noise = float((rows**2).sum()), float((error**2).sum())
    return round(10 * float(np.log10(max(signal, 1e-30) / max(noise, 1e-30))), 2)


def _range(rows: Floats) -> float:
    """Largest over least channel; those that do next to nothing are left out."""
    largest = np.abs(rows).max(axis=1)
    alive = largest[largest > DEAD * float(largest.max(initial=0))]
    return round(float(alive.max() / alive.min()), 2) if len(alive) else 1.0
