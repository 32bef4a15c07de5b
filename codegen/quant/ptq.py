"""Post-training quantization of weights: scales, rounding and bias correction, layer after layer.

The walk runs the float network and its quantized twin side by side on the calibration samples. Each layer
is rounded against the inputs that the quantized layers before it really give. Second-order methods round
not the layer's own weights but those that make up best for the errors of these inputs. The result is a
float graph whose weights lie on grids; codegen.quant.quantize keeps them.
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

ROWS = 1 << 15  # input rows that a layer's H is summed over, at most
MAKE_UP = frozenset({"gptq", "adaround"})  # roundings of weights that were fitted to inexact inputs
FIT_DAMPING = 0.1  # of H's mean diagonal
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
    seen = Seen(twins.rounded[x], twins.exact[x])
    return rounded_weights(twins.float, node, seen, twins.grids[x].scale, rule, settings.seed)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Inputs of a layer on the samples, (samples, ...), float32.

    Attributes:
        rounded: as it will get them.
        exact: those of the float network.
    """

    rounded: Array
    exact: Array


def rounded_weights(
    graph: Graph, node: Node, seen: Seen, input_scale: float, rule: WeightRule, seed: int = 0
) -> Tensor:
    """A layer's weights on a grid of few bits.

    Args:
        graph: a float graph.
        node: a convolution or dense layer of it.
        seen: inputs of the layer.
        input_scale: of the grid that they will have.
        rule: how.
        seed: of stochastic rounding.
    """
    tensor, bias = (graph.tensors[name] for name in node.inputs[1:])
    rows = _rows(node, seen.rounded, tensor.shape)
    h = np.asarray(np.swapaxes(rows, 1, 2) @ rows)
    w = real(tensor).reshape(len(h), -1, h.shape[-1])
    if rule.rounding in MAKE_UP and seen.exact is not seen.rounded:
        w = _made_up(w, h, rows, _rows(node, seen.exact, tensor.shape))
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


def _rows(node: Node, x: Array, shape: tuple[int, ...]) -> Floats:
    """A layer's input rows, (G, rows, K) float64: K runs over taps, then channels, as weights do."""
    groups = node.op.groups if isinstance(node.op, Conv2D) else 1
    length = prod(shape[1:])
    taps = window.taps(node.op.window(shape), x, 0) if isinstance(node.op, Conv2D) else [x]
    parts = [tap.reshape(-1, groups, tap.shape[-1] // groups) for tap in taps]
    every = -(-len(parts[0]) // ROWS)
    stacked = np.stack([part[::every] for part in parts], axis=2)
    rows: Floats = stacked.reshape(len(stacked), groups, length).astype(np.float64)
    return rows.transpose(1, 0, 2)


def _made_up(w: Floats, h: Floats, rows: Floats, exact: Floats) -> Floats:
    """The weights (G, N, K) whose results on `rows` come closest to those of w on the exact rows.

    Least squares, damped towards w: w + w D (H + λ)⁻¹ with D = Σ (exact - x) xᵀ.
    """
    drift = np.swapaxes(exact - rows, 1, 2) @ rows
    damping = FIT_DAMPING * np.einsum("gkk->gk", h).mean(axis=1)
    damping = np.maximum(damping, np.finfo(np.float64).tiny)
    damped = h + np.eye(h.shape[-1]) * damping[:, None, None]
    moved = np.linalg.solve(damped, np.swapaxes(w @ drift, 1, 2))
    return np.asarray(w + np.swapaxes(moved, 1, 2))


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
