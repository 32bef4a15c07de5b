"""A graph as a trainable network: shadow weights, biases and scales in float32, fake quantization between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch

from codegen.ir import Array, FloatArray, Graph, Node
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.qdq import constant_value
from codegen.quant.trainable import (
    Learned,
    LearnedWeights,
    Start,
    WeightForm,
    constant_on_grid,
    least_scales,
)
from codegen.train import fake_quant
from codegen.train.torch_ops import logits_of, run

Tensor: TypeAlias = Any
MARGIN = 0.499  # of a step: shadow weights begin inside the cell that rounding chose


def tensor(array: Array) -> Tensor:
    """A float32 tensor of numbers."""
    return torch.from_numpy(np.array(array, np.float32))


class FloatNetwork:
    """The graph as it is: the teacher."""

    def __init__(self, graph: Graph):
        """Takes over all constants."""
        self.graph = graph
        self.constants = {
            name: tensor(constant_value(t))
            for name, t in graph.tensors.items()
            if t.data is not None
        }

    def logits(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The outputs, before a softmax. `inputs`: device layout, samples first."""
        values = dict(self.constants)
        for port, x in zip(self.graph.inputs, inputs, strict=True):
            values[port.tensor] = x
        for node in self.graph.nodes:
            values[node.output] = run(node.op, tuple(values[name] for name in node.inputs))
        return tuple(values[name] for name in output_logits(self.graph))


class LearningFloat(FloatNetwork):
    """The graph as it is, learning: to suit a model to new data before it is quantized.

    Attributes:
        teacher: the graph as it was.
        parameters: the weights and biases of all layers, by name; `weights/X` or `bias/X` of the constant X.
    """

    def __init__(self, graph: Graph):
        """Takes over all constants."""
        super().__init__(graph)
        self.teacher = graph
        self.parameters: dict[str, Tensor] = {}
        for node in graph.nodes:
            if isinstance(node.op, Conv2D | Dense):
                for kind, name in zip(("weights", "bias"), node.inputs[1:], strict=True):
                    self.parameters[f"{kind}/{name}"] = self.constants[name].requires_grad_(True)

    def learning(self) -> Iterator[tuple[str, Tensor]]:
        """The parameters with gradients."""
        return iter(self.parameters.items())

    def logits(
        self, inputs: tuple[Tensor, ...], random: torch.Generator | None = None
    ) -> tuple[Tensor, ...]:
        """The outputs, before a softmax; nothing is drawn."""
        return super().logits(inputs)

    def learned(self) -> Graph:
        """The graph with what was learned."""
        tensors = dict(self.graph.tensors)
        for key, value in self.parameters.items():
            name = key.partition("/")[2]
            tensors[name] = replace(tensors[name], data=_numpy(value))
        return replace(self.graph, tensors=tensors)


def output_logits(graph: Graph) -> tuple[str, ...]:
    """The tensors that outputs are compared by."""
    ports = graph.outputs
    return tuple(logits_of(graph.producer(p.tensor), p.tensor) for p in ports)


class Network:
    """The graph with fake quantization.

    Attributes:
        teacher: the float graph to learn from.
        parameters: everything that learns, by name; `weights/X`, `bias/X`, `scale/X`, `down/X` of the layer
            with output X, `grid/R` of the activations with root R.
    """

    def __init__(self, start: Start):
        """Loads the start."""
        self.start, self.graph = start, start.graph
        self.teacher = start.teacher or start.graph
        self.constants: dict[str, Tensor] = {}
        self.parameters: dict[str, Tensor] = {}
        for node in self.graph.nodes:
            if node.output in start.forms:
                self._load(node)
                continue
            for name in node.inputs:
                operand = self.graph.tensors[name]
                if operand.data is not None:
                    self.constants[name] = tensor(constant_value(constant_on_grid(operand)))
        for root, form in start.grids.items():
            scale = torch.tensor(form.quant.scale, dtype=torch.float32)
            self.parameters[f"grid/{root}"] = scale.requires_grad_(not form.fixed)

    def learning(self) -> Iterator[tuple[str, Tensor]]:
        """The parameters with gradients."""
        return ((name, p) for name, p in self.parameters.items() if p.requires_grad)

    def logits(
        self, inputs: tuple[Tensor, ...], random: torch.Generator | None = None
    ) -> tuple[Tensor, ...]:
        """The outputs, before a softmax.

        Args:
            inputs: device layout, samples first.
            random: where binary weights draw their signs from; None takes the nearest.
        """
        values = dict(self.constants)
        for port, x in zip(self.graph.inputs, inputs, strict=True):
            values[port.tensor] = self._on_grid(port.tensor, x)
        for node in self.graph.nodes:
            if node.output in self.start.forms:
                operands: tuple[Tensor, ...] = self._operands(node, values[node.inputs[0]], random)
            else:
                operands = tuple(values[name] for name in node.inputs)
            values[node.output] = self._on_grid(node.output, run(node.op, operands))
        return tuple(values[name] for name in output_logits(self.graph))

    def learned(self) -> Learned:
        """What the parameters say, in integers and scales."""
        weights, biases = {}, {}
        with torch.no_grad():
            for node in self.graph.nodes:
                if node.output not in self.start.forms:
                    continue
                weights[node.output] = self._stored(node)
                biases[node.output] = _numpy(self.parameters[f"bias/{node.output}"])
            scales = {root: float(self._scale(root)) for root in self.start.grids}
        return Learned(weights, biases, scales)

    def _load(self, node: Node) -> None:
        """Shadow weights, scales and bias of a layer."""
        form, key = self.start.forms[node.output], node.output
        weights = constant_value(self.graph.tensors[node.inputs[1]])
        bias = constant_value(self.start.rounded.tensors[node.inputs[2]])
        shadow, scale, down = _beginning(self.start, node, form, weights.astype(np.float32))
        found = {"weights": shadow, "scale": scale, "bias": bias}
        if down is not None:
            found["down"] = down
        for name, value in found.items():
            self.parameters[f"{name}/{key}"] = tensor(value).requires_grad_(True)

    def _scale(self, root: str) -> Tensor:
        return fake_quant.positive(self.parameters[f"grid/{root}"])

    def _on_grid(self, name: str, x: Tensor) -> Tensor:
        if name in self.start.free:
            return x
        root = self.start.roots[name]
        form = self.start.grids[root]
        zero = form.quant.zero_point
        return fake_quant.shared(x, self._scale(root), form.low - zero, form.high - zero)

    def _operands(
        self, node: Node, x: Tensor, random: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Input, weights and bias as the device will see them."""
        weights, steps = self._weights(node, random)
        bias = self.parameters[f"bias/{node.output}"]
        if self.start.is_binary(node):
            return x, weights, bias  # thresholds, or as good as real
        input_scale = self._scale(self.start.roots[node.inputs[0]])
        products = (steps.reshape(-1) * input_scale).detach()
        return x, weights, fake_quant.rounded(bias / products) * products

    def _weights(self, node: Node, random: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Quantized weights, and the step of each channel."""
        form, key = self.start.forms[node.output], node.output
        w = self.parameters[f"weights/{key}"]
        scale = self._weight_scale(node, "scale")
        if form.kind == "uniform":
            return fake_quant.uniform(w, scale, form.low, form.high), scale
        if form.kind == "ttq":
            down = self._weight_scale(node, "down")
            step = torch.maximum(scale, down) / fake_quant.LEVEL_LIMIT
            return fake_quant.two_scales(w, scale, down), step
        noise = None if random is None else torch.rand(w.shape, generator=random)
        return fake_quant.binary(w, scale, noise), scale

    def _weight_scale(self, node: Node, name: str) -> Tensor:
        """A learned scale, large enough that the bias fits its grid."""
        scale = self.parameters[f"{name}/{node.output}"]
        if self.start.is_binary(node):
            return fake_quant.positive(scale)
        bias = self.parameters[f"bias/{node.output}"].detach().numpy()
        input_scale = float(self._scale(self.start.roots[node.inputs[0]]).detach())
        least = torch.from_numpy(least_scales(bias, input_scale)).reshape(scale.shape)
        return torch.maximum(fake_quant.positive(scale), least)

    def _stored(self, node: Node) -> LearnedWeights:
        weights, step = self._weights(node, None)
        stored = torch.round(weights / step).to(torch.int8)
        return LearnedWeights(stored.numpy(), _numpy(step.reshape(-1)))


def _numpy(values: Tensor) -> FloatArray:
    found: FloatArray = values.detach().numpy().astype(np.float32)
    return found


def _beginning(
    start: Start, node: Node, form: WeightForm, weights: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Shadow weights, scales (N, 1, ...), and the second scales of two-sided ternary weights."""
    column = (-1, *(1,) * (weights.ndim - 1))
    rows = weights.reshape(len(weights), -1)
    mean = np.maximum(np.abs(rows).mean(axis=1), fake_quant.LEAST_SCALE).reshape(column)
    if form.kind == "binary":
        return weights, mean, None
    if form.kind == "ttq":
        cut = fake_quant.TERNARY_CUT * mean
        sides = (_mean_of(weights, weights > cut, mean), _mean_of(-weights, weights < -cut, mean))
        return weights, sides[0], sides[1]
    rounded = start.rounded.tensors[node.inputs[1]]
    if rounded.quant is None or rounded.data is None:
        raise ValueError(f"{node.label}: the weights have no first grid")
    scale = np.array(rounded.quant.scales, np.float32).reshape(column)
    center = rounded.data.astype(np.float32)
    shadow = np.clip(weights / scale, center - MARGIN, center + MARGIN) * scale
    return shadow, scale, None


def _mean_of(values: FloatArray, chosen: Array, usual: FloatArray) -> FloatArray:
    """Mean of each row's chosen values; the usual where none is."""
    axes = tuple(range(1, values.ndim))
    count = chosen.sum(axis=axes, keepdims=True)
    total = np.where(chosen, values, 0).sum(axis=axes, keepdims=True)
    found: FloatArray = np.where(count > 0, total / np.maximum(count, 1), usual).astype(np.float32)
    return found


def parameters_of(network: Network | LearningFloat) -> Mapping[str, Tensor]:
    """A copy of all parameters."""
    return {name: value.detach().clone() for name, value in network.parameters.items()}


def restore(network: Network | LearningFloat, saved: Mapping[str, Tensor]) -> None:
    """Puts parameters back."""
    with torch.no_grad():
        for name, value in network.parameters.items():
            value.copy_(saved[name])
