"""Post-training quantization of weights: scales, rounding and bias correction, layer after layer.

The walk runs the float network and its quantized twin side by side on the calibration samples. Each layer
is rounded against the inputs that the quantized layers before it really give, so that it makes up for
their errors where it can. The result is a float graph whose weights lie on grids; codegen.quant.quantize
keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Literal

import numpy as np

from codegen import window
from codegen.ir import Array, Graph, Node, Quant, Tensor
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.qdq import constant_value
from codegen.quant.rounding import ROUNDINGS, Floats, output_error
from codegen.quant.twins import Twins
from codegen.quant.weight_scales import SCALES, power_of_two

ROWS = 1 << 16  # input rows that a layer's H is summed over, at most
AUTO = "auto"
TRIED = ("minmax", "mse", "output")  # by "auto"
BIAS_LIMIT = 2**30  # leaves the accumulator room above the bias


@dataclass(frozen=True, slots=True)
class WeightRule:
    """How a layer's weights become integers.

    Attributes:
        width: bits; values within -(2^(width-1) - 1) .. 2^(width-1) - 1.
        scales: a method of codegen.quant.weight_scales.SCALES; "auto" tries some and takes, per channel, that
            with the least error of outputs after rounding.
        rounding: a method of codegen.quant.rounding.ROUNDINGS.
        per_channel: one scale per output channel, else one for all.
        power_of_two: scales are rounded up to powers of two.
    """

    width: int = 8
    scales: str = "minmax"
    rounding: str = "nearest"
    per_channel: bool = True
    power_of_two: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """Rules for a network.

    Attributes:
        default: of layers that have none of their own.
        layers: by output.
        correct_bias: "auto" keeps a correction where it lowers the loss.
        seed: of stochastic rounding.
        left: outputs of layers whose weights stay as they are.
    """

    default: WeightRule = WeightRule()
    layers: Mapping[str, WeightRule] = field(default_factory=dict)
    correct_bias: Literal["auto", "on", "off"] = "auto"
    seed: int = 0
    left: frozenset[str] = frozenset()

    def rule(self, node: Node) -> WeightRule:
        """The rule of a layer."""
        return self.layers.get(node.output, self.default)


def quantize_weights(
    graph: Graph,
    grids: Mapping[str, Quant],
    samples: tuple[Array, ...],
    settings: Settings,
    progress: Callable[[int], None] = lambda done: None,
) -> Graph:
    """The graph with integer weights.

    Args:
        graph: a float graph; weights that brought a grid stay as they are.
        grids: of every activation.
        samples: one array per input, device layout, float32.
        settings: how.
        progress: called with 1 after every weighted layer and every tried correction.
    """
    twins = Twins(graph, grids, samples)
    for index, node in enumerate(graph.nodes):
        if _is_ours(twins.quantized, node, settings):  # not yet: two layers may share their weights
            twins.set(_rounded(twins, node, settings))
            progress(1)
        twins.advance(index)
    if settings.correct_bias != "off":
        _correct(twins, settings, progress)
    return twins.quantized


def steps(graph: Graph, settings: Settings) -> int:
    """How often `quantize_weights` reports progress."""
    count = sum(_is_ours(graph, node, settings) for node in graph.nodes)
    return count if settings.correct_bias == "off" else 2 * count


def _is_ours(graph: Graph, node: Node, settings: Settings) -> bool:
    if not isinstance(node.op, Conv2D | Dense) or node.output in settings.left:
        return False
    return graph.tensors[node.inputs[1]].quant is None


def _rounded(twins: Twins, node: Node, settings: Settings) -> Tensor:
    """A layer's weights on their grid."""
    x = node.inputs[0]
    rule = settings.rule(node)
    return rounded_weights(
        twins.float, node, twins.rounded[x], twins.grids[x].scale, rule, settings.seed
    )


def rounded_weights(
    graph: Graph, node: Node, x: Array, input_scale: float, rule: WeightRule, seed: int = 0
) -> Tensor:
    """A layer's weights on a grid of few bits.

    Args:
        graph: a float graph.
        node: a convolution or dense layer of it.
        x: inputs of the layer, (samples, ...), float32.
        input_scale: of the grid that they will have.
        rule: how.
        seed: of stochastic rounding.
    """
    tensor, bias = (graph.tensors[name] for name in node.inputs[1:])
    h = _hessian(node, x, tensor.shape)
    w = real(tensor).reshape(len(h), -1, h.shape[-1])
    # A channel whose weights are so small that its bias would not fit gets a coarser scale.
    room = BIAS_LIMIT * input_scale
    least = np.abs(real(bias)).reshape(*w.shape[:2], 1) / room
    scales, stored = _fitted(w, h, least, rule, seed)
    grid = Quant(tuple(scales.ravel().tolist()), (0,) * scales.size, 0, rule.width)
    data = stored.reshape(tensor.shape).astype(np.int8)
    return replace(tensor, quant=grid, data=data)


def _fitted(
    w: Floats, h: Floats, least: Floats, rule: WeightRule, seed: int
) -> tuple[Floats, Floats]:
    """Scales (G, N, 1) and integers (G, N, K): of several scales those with the least error of outputs."""
    found: tuple[Floats, Floats] | None = None
    error: Floats = np.zeros(0)
    for method in TRIED if rule.scales == AUTO else (rule.scales,):
        scales = _scales(w, h, least, rule, method)
        stored = ROUNDINGS[rule.rounding](w, scales, 2 ** (rule.width - 1) - 1, h, seed)
        mine = output_error(w, stored, scales, h)
        if not rule.per_channel:
            mine = np.full_like(mine, mine.sum())
        if found is None:
            found, error = (scales, stored), mine
            continue
        better = (mine < error)[:, :, None]
        found = np.where(better, scales, found[0]), np.where(better, stored, found[1])
        error = np.minimum(mine, error)
    assert found is not None
    return found


def _scales(w: Floats, h: Floats, least: Floats, rule: WeightRule, method: str) -> Floats:
    scales = SCALES[method](w, rule.width, h)
    if not rule.per_channel:
        scales = np.full_like(scales, scales.max())
    scales = np.maximum(scales, least)
    scales = np.where(scales > 0, scales, 1.0)
    return power_of_two(scales) if rule.power_of_two else scales


def real(tensor: Tensor) -> Floats:
    """A constant's values, float64."""
    return constant_value(tensor).astype(np.float64)


def _hessian(node: Node, x: Array, shape: tuple[int, ...]) -> Floats:
    """Sum of x xᵀ over the layer's input rows, (G, K, K)."""
    groups = node.op.groups if isinstance(node.op, Conv2D) else 1
    length = prod(shape[1:])
    taps = window.taps(node.op.window(shape), x, 0) if isinstance(node.op, Conv2D) else [x]
    parts = [tap.reshape(-1, groups, tap.shape[-1] // groups) for tap in taps]
    every = -(-len(parts[0]) // ROWS)
    # (rows, G, taps, inner) -> (G, rows, K): K runs over taps, then channels, as weights do.
    seen = np.stack([part[::every] for part in parts], axis=2)
    matrix = seen.reshape(len(seen), groups, length).transpose(1, 0, 2).astype(np.float64)
    return np.asarray(np.swapaxes(matrix, 1, 2) @ matrix)


def _correct(twins: Twins, settings: Settings, progress: Callable[[int], None]) -> None:
    """Bias correction, Nagel et al., ICCV 2019: takes the mean error of each channel out of the bias.

    Layer after layer on the corrected network so far; kept where it lowers the loss.
    """
    loss = twins.loss({})
    for index, node in enumerate(twins.float.nodes):
        if not _is_ours(twins.float, node, settings):
            continue
        progress(1)
        if len(twins.float.consumers(node.inputs[2])) > 1:
            continue
        bias = twins.quantized.tensors[node.inputs[2]]
        error = twins.sums(node, twins.rounded) - twins.sums(node, twins.exact)
        moved = replace(bias, data=(real(bias) - error.mean(axis=0)).astype(np.float32))
        found = twins.rerun(index, {bias.name: constant_value(moved)})
        changed = twins.loss(found)
        if settings.correct_bias == "on" or changed < loss:
            twins.set(moved)
            twins.rounded |= found
            loss = changed
