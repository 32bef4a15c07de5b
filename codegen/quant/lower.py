"""Quantized graph -> the same with weights of fewer bits where they are asked for.

The layers to lower arrive with wide weights (12 bits, `quantize.quantize(..., wide=...)`), pruned. Their
rows are quantized anew by a scheme, or they arrive on a grid of few bits already (codegen.quant.ptq), and
are only packed; the graph then holds the integers that the stored codes expand to, so
that reference and interval analysis see ordinary weights.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from codegen.ir import Graph, Node, Quant, Storage, Tensor, layer_names, verify_quantized
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.quant import kept, schemes
from codegen.quant.quantize import BIAS_LIMIT
from codegen.quant.scheme import BITS, Scheme, counted
from targets.errors import UsageError

INT8_WIDTH = 8
LARGE_END = 0.25  # of all weights
LITTLE = 0.01  # of all weights: fewer bits would save next to nothing
Chosen = Mapping[str, tuple[str, Scheme]]
"""Weights and scheme by a layer's output; layers that are not named stay int8."""


@dataclass(frozen=True, slots=True)
class Format:
    """How flash is to hold weights, as a user says it; None = the usual."""

    weights: str | None = None
    scheme: str | None = None


@dataclass(frozen=True, slots=True)
class Formats:
    """What a user asks for: for a network as a whole, and for single layers by name."""

    usual: Format = field(default_factory=Format)
    layers: Mapping[str, Format] = field(default_factory=dict)


def choose(graph: Graph, formats: Formats, imported: bool) -> Chosen:
    """The layers to lower. Unless they are named, depthwise, tiny, first and last ones stay int8.

    A first or last layer with more than a quarter of all weights is lowered too: little would be saved
    without it. One with less than a hundredth stays int8: little would be saved with it. Integer
    weights that a model brings are never rounded: they must be such as the format holds.

    Raises:
        UsageError: no such layer or format, or a model that brings other integer weights.
    """
    nodes = [node for node in graph.nodes if node.op.kind != "reshape"]
    weighted = {
        name: node
        for name, node in zip(layer_names(nodes), nodes, strict=True)
        if isinstance(node.op, Conv2D | Dense)
    }
    for name in formats.layers:
        if name not in weighted:
            close = difflib.get_close_matches(name, weighted, 1)
            hint = f"did you mean {close[0]!r}?" if close else "see the layers of recipe.toml"
            raise UsageError(f"recipe: the model has no layer {name!r} with weights", hint=hint)
    usual = schemes.find(formats.usual.weights, formats.usual.scheme)
    sizes = {name: graph.tensors[node.inputs[1]].size for name, node in weighted.items()}
    total = sum(sizes.values())
    ends = (*list(weighted)[:1], *list(weighted)[-1:])
    spared = {name for name in ends if sizes[name] <= LARGE_END * total}
    spared |= {name for name, size in sizes.items() if size < LITTLE * total}
    chosen = {}
    for name, node in weighted.items():
        found = None if name in spared or _is_depthwise(graph, node) else usual
        if name in formats.layers:
            own = formats.layers[name]
            arrived = _has_format(graph, node, own)
            found = None if arrived else schemes.find(own.weights, own.scheme)
        if found is not None:
            chosen[node.output] = found
    for name, node in weighted.items() if imported else ():
        if node.output in chosen:
            weights, scheme = chosen[node.output]
            if kept.storage(graph.tensors[node.inputs[1]], weights, scheme.name) is None:
                raise UsageError(
                    f"the model brings integer weights of its own, those of {name!r} are not {weights}",
                    hint="--weights and --scheme are for float models, or name what the weights are",
                    node=name,
                )
    return chosen


def _has_format(graph: Graph, node: Node, wanted: Format) -> bool:
    """Whether a layer's weights arrived as a recipe wants them."""
    storage = graph.tensors[node.inputs[1]].storage
    return storage is not None and wanted == Format(storage.weights, storage.scheme)


def _is_depthwise(graph: Graph, node: Node) -> bool:
    depth = graph.tensors[node.inputs[0]].shape[-1]
    return isinstance(node.op, Conv2D) and node.op.groups == depth > 1


def lower(graph: Graph, chosen: Chosen, force: bool, imported: bool = False) -> Graph:
    """The graph with the chosen layers' weights stored as their schemes say.

    Args:
        graph: quantized; the chosen layers have wide weights, or some on a grid of few bits.
        chosen: from `choose`.
        force: whether weights are rounded even where that leaves no usable model.
        imported: whether the weights are the model's own integers, which are stored as they are.

    Raises:
        UsageError: a scheme is made for models that were trained for it, and `force` is not set.
    """
    tensors = dict(graph.tensors)
    nodes = []
    for node in graph.nodes:
        if node.output in chosen and imported:
            weights, scheme = chosen[node.output]
            own = graph.tensors[node.inputs[1]]
            tensors[own.name] = replace(own, storage=kept.storage(own, weights, scheme.name))
        elif node.output in chosen and graph.tensors[node.inputs[1]].grid.width < INT8_WIDTH:
            packed = _packed(graph.tensors[node.inputs[1]], chosen[node.output][0])
            tensors[packed.name] = packed
        elif node.output in chosen:
            weights, scheme = chosen[node.output]
            if weights in scheme.needs_training and not (force or _is_trained(graph, node)):
                raise UsageError(
                    f"{node.label}: float weights rounded to {weights} leave no usable model",
                    hint="fine-tune the model with such weights first, or pass --force",
                )
            lowered, bias = _stored(graph, node, weights, scheme)
            tensors |= {lowered.name: lowered, bias.name: bias}
            # Multipliers are new ones: a shift that pruning kept has no meaning for them.
            node = replace(node, op=replace(node.op, shift=None))  # type: ignore[type-var]  # noqa: PLW2901
        elif chosen and isinstance(node.op, Conv2D) and _is_depthwise(graph, node):
            held = graph.tensors[node.inputs[1]]
            tensors[held.name] = _in_bytes(held)
        nodes.append(node)
    return verify_quantized(replace(graph, tensors=tensors, nodes=tuple(nodes)))


def _packed(tensor: Tensor, weights: str) -> Tensor:
    """Weights that are integers of few bits already, stored as such."""
    bits = BITS[weights]
    rows = tensor.values.astype(np.int64).reshape(len(tensor.values), -1)
    codes = (rows + (1 << (bits - 1))).astype(np.uint8)
    storage = Storage("uniform", weights, bits, codes, counted(bits))
    return replace(tensor, quant=replace(tensor.grid, width=INT8_WIDTH), storage=storage)


def _in_bytes(tensor: Tensor) -> Tensor:
    """int8 weights that no kernel may hold in more than a byte: flash is what the user asks to save."""
    rows = tensor.values.astype(np.int64).reshape(len(tensor.values), -1)
    if tensor.grid.width > INT8_WIDTH:
        return tensor
    codes = (rows + 128).astype(np.uint8)
    return replace(
        tensor, storage=Storage("uniform", "int8", INT8_WIDTH, codes, counted(INT8_WIDTH))
    )


def _is_trained(graph: Graph, node: Node) -> bool:
    """Whether every channel has at most three values already, up to the rounding of wide weights."""
    w = graph.tensors[node.inputs[1]].values.astype(np.int64)
    rows = np.sort(w.reshape(len(w), -1), axis=1)
    steps = (np.diff(rows, axis=1) > 1).sum(axis=1)
    return bool(np.all(steps <= 2))


def _stored(graph: Graph, node: Node, weights: str, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """A layer's weights and bias on their new scales."""
    x, w, b = (graph.tensors[name] for name in node.inputs)
    input_scale = x.grid.scale
    rows = w.values.astype(np.float64).reshape(len(w.values), -1)
    rows = rows * np.array(w.grid.scales)[:, None]
    bias = b.values.astype(np.float64) * np.array(b.grid.scales)
    found = scheme.quantize(rows, np.abs(bias) / (BIAS_LIMIT * input_scale), weights)
    integers = found.storage.expanded().reshape(w.shape)
    width = 8 if np.abs(integers).max(initial=0) <= 127 else 16
    scales = tuple(float(scale) for scale in found.scales)
    products = input_scale * found.scales
    zeros = (0,) * len(scales)
    return (
        replace(
            w,
            quant=Quant(scales, zeros, 0, width),
            data=integers.astype(f"int{width}"),
            storage=found.storage,
        ),
        replace(
            b,
            quant=Quant(tuple(float(p) for p in products), zeros, 0, 32),
            data=np.rint(bias / products).astype(np.int32),
        ),
    )
