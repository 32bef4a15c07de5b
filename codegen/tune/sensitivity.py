"""How much the outputs of a network lose where one layer has weights of few bits.

The network runs in real numbers, activations without grids, so that every difference comes from the
layer's weights. Where there are samples enough, rounding is fitted to one half of them and the loss taken
on the other: second-order rounding fits the samples that it sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from codegen.ir import Array, Graph, Node, Quant, Tensor
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.qdq import constant_value
from codegen.quant import ptq, schemes
from codegen.quant.lower import Format
from codegen.quant.rounding import Floats
from codegen.quant.scheme import BITS, Scheme
from codegen.quant.twins import Twins
from codegen.quant.weights import Choices

Measure = Literal["kl", "mse"]
MEASURES: tuple[Measure, ...] = ("kl", "mse")
LEAST_HALF = 16  # samples; with fewer both halves are all of them


class _Real(Twins):
    """Twins without grids: only what `set` or `rerun` changes makes them differ."""

    def on_grid(self, name: str, value: Array) -> Array:
        """The values themselves."""
        return value


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """A layer in a format: its weights, the bias that goes with them, and what the outputs lose.

    Attributes:
        constants: real values by name of tensor: weights, and a corrected bias.
        loss: of the network with this layer alone in the format, per sample.
    """

    constants: Mapping[str, Array]
    loss: float


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a choice for all layers does to the outputs.

    Attributes:
        losses: of each sample that is scored.
        changed: share of all samples whose largest output is another one than the float network's.
    """

    losses: Floats
    changed: float

    @property
    def loss(self) -> float:
        """Mean over the samples."""
        return max(float(self.losses.mean()), 0.0)

    def clearly_better(self, other: Outcome) -> bool:
        """Whether it loses less by more than the standard error of the difference, sample by sample."""
        less = other.losses - self.losses
        error = float(less.std()) / math.sqrt(len(less))
        return float(less.mean()) > error


class Sensitivity:
    """Losses of single layers, and of any choice of formats for all of them.

    Attributes:
        table: by output of the layer and format.
    """

    def __init__(
        self,
        graph: Graph,
        grids: Mapping[str, Quant],
        samples: tuple[Array, ...],
        choices: Choices | None = None,
        measure: Measure = "mse",
        seed: int = 0,
    ):
        """Runs the float network.

        Args:
            graph: a float graph.
            grids: of every activation: weights must leave biases room.
            samples: calibration inputs, one array per input, device layout, float32.
            choices: how weights become integers.
            measure: squared error of outputs, before a softmax where there is one, or KL divergence.
            seed: of stochastic rounding.
        """
        self.graph, self.grids = graph, grids
        self.choices, self.measure, self.seed = choices or Choices(), measure, seed
        self.twins = _Real(graph, grids, samples)
        for index in range(len(graph.nodes)):
            self.twins.advance(index)
        count = len(self.twins.exact[graph.inputs[0].tensor])
        halves = count >= 2 * LEAST_HALF
        self.fitted = slice(0, None, 2) if halves else slice(None)
        self.scored = slice(1, None, 2) if halves else slice(None)
        self.table: dict[tuple[str, Format], Rounded] = {}

    def measure_all(
        self,
        outputs: Sequence[str],
        formats: Sequence[Format],
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        """Fills the table for layers and formats; calls `progress` with 1 after each."""
        nodes = {node.output: (index, node) for index, node in enumerate(self.graph.nodes)}
        for output in outputs:
            index, node = nodes[output]
            for chosen in formats:
                self.table[output, chosen] = self._measured(index, node, chosen)
                progress(1)

    @property
    def has_classes(self) -> bool:
        """Whether the outputs are probabilities of classes."""
        producers = (self.graph.producer(port.tensor) for port in self.graph.outputs)
        return all(node is not None and node.op.kind == "softmax" for node in producers)

    def combined(self, formats: Mapping[str, Format]) -> Outcome:
        """What a choice for all layers, by output, does; each is rounded as it was alone."""
        changed: dict[str, Array] = {}
        for output, chosen in formats.items():
            changed |= self.table[output, chosen].constants
        return self._outcome(changed)

    def joint(self, formats: Mapping[str, Format]) -> Outcome:
        """What a choice does where layers make up for the errors of those before them, as in a build.

        Dearer than `combined`. Layers of tables or factors are rounded as they were alone.
        """
        graph, rules = self.graph, dict[str, ptq.WeightRule]()
        for output, chosen in formats.items():
            if _is_uniform(chosen):
                rules[output] = self._rule(chosen)
                continue
            own = self.table[output, chosen].constants
            graph = graph.with_tensors(*(replace(graph.tensors[n], data=v) for n, v in own.items()))
        left = frozenset(weighted(graph)) - frozenset(rules)
        correction = self.choices.bias_correction or "auto"
        settings = ptq.Settings(layers=rules, correct_bias=correction, seed=self.seed, left=left)
        samples = tuple(self.twins.exact[port.tensor][self.fitted] for port in graph.inputs)
        rounded = ptq.quantize_weights(graph, self.grids, samples, settings)
        constants = {n: t for n, t in rounded.tensors.items() if t.data is not None}
        return self._outcome({name: constant_value(t) for name, t in constants.items()})

    def _outcome(self, changed: Mapping[str, Array]) -> Outcome:
        """What constants that changed do to the outputs."""
        found = self.twins.rerun(0, changed)
        name = self.graph.outputs[0].tensor
        exact = self.twins.exact[name]
        moved = _largest(found.get(name, exact)) != _largest(exact)
        return Outcome(self._losses(found), float(moved.mean()))

    def _measured(self, index: int, node: Node, chosen: Format) -> Rounded:
        weights, bias = node.inputs[1:3]
        changed = {weights: self._weights(node, chosen)}
        found = self.twins.rerun(index, changed)
        loss = self._loss(found)
        if self.choices.bias_correction == "off" or chosen.weights == "int8":
            return Rounded(changed, loss)
        values = dict(self.twins.exact) | changed
        error = self.twins.sums(node, self._half(node, values)) - self.twins.sums(
            node, self._half(node, self.twins.exact)
        )
        moved = (self.twins.exact[bias].astype(np.float64) - error.mean(axis=0)).astype(np.float32)
        corrected = changed | {bias: moved}
        other = self._loss(self.twins.rerun(index, corrected))
        if other < loss or self.choices.bias_correction == "on":
            return Rounded(corrected, other)
        return Rounded(changed, loss)

    def _half(self, node: Node, values: Mapping[str, Array]) -> dict[str, Array]:
        """A layer's operands on the samples that rounding is fitted to."""
        x = node.inputs[0]
        return {
            name: values[name][self.fitted] if name == x else values[name] for name in node.inputs
        }

    def _weights(self, node: Node, chosen: Format) -> Array:
        """A layer's weights in a format, real values."""
        found = schemes.find(chosen.weights, chosen.scheme)
        tensor = self.graph.tensors[node.inputs[1]]
        x = node.inputs[0]
        if found is not None and not _is_uniform(chosen):
            return _stored(tensor, self._least(node), *found)
        rule = self._rule(chosen)
        inputs = self.twins.exact[x][self.fitted]
        seen = ptq.Seen(inputs, inputs)
        scale = self.grids[x].scale
        return constant_value(ptq.rounded_weights(self.graph, node, seen, scale, rule, self.seed))

    def _rule(self, chosen: Format) -> ptq.WeightRule:
        """How evenly spaced levels of a format are rounded."""
        width = BITS[chosen.weights or "int8"]
        usual = ("minmax", "nearest") if width == 8 else (ptq.AUTO, "gptq")
        scales, rounding = self.choices.clip or usual[0], self.choices.rounding or usual[1]
        return ptq.WeightRule(width, scales, rounding)

    def _least(self, node: Node) -> Array:
        """The least scale of each row: its bias must fit."""
        bias = np.abs(constant_value(self.graph.tensors[node.inputs[2]]).astype(np.float64))
        return np.asarray(bias / (ptq.BIAS_LIMIT * self.grids[node.inputs[0]].scale))

    def _loss(self, found: Mapping[str, Array]) -> float:
        """What the outputs lose, per sample that is scored."""
        return Outcome(self._losses(found), 0.0).loss

    def _losses(self, found: Mapping[str, Array]) -> Floats:
        """What the outputs lose on each sample that is scored."""
        total: Floats = np.zeros(1)
        for port in self.graph.outputs:
            name, node = port.tensor, self.graph.producer(port.tensor)
            softmax = node is not None and node.op.kind == "softmax"
            if node is not None and softmax and self.measure == "mse":
                name = node.inputs[0]
            exact, given = (
                values[self.scored].astype(np.float64).reshape(-1, self.graph.tensors[name].size)
                for values in (self.twins.exact[name], found.get(name, self.twins.exact[name]))
            )
            if softmax and self.measure == "kl":
                ratio = np.maximum(exact, 1e-12) / np.maximum(given, 1e-12)
                total = total + (exact * np.log(ratio)).sum(axis=1)
            else:
                power = max(float((exact**2).mean()), 1e-30)
                total = total + ((given - exact) ** 2).mean(axis=1) / power
        return total


def _is_uniform(chosen: Format) -> bool:
    """Whether a format has evenly spaced levels."""
    found = schemes.find(chosen.weights, chosen.scheme)
    return found is None or found[1].name == "uniform"


def _largest(outputs: Array) -> Array:
    return np.asarray(outputs.reshape(len(outputs), -1).argmax(axis=1))


def _stored(tensor: Tensor, least: Array, weights: str, scheme: Scheme) -> Array:
    """Weights as a scheme of tables or factors keeps them, real values."""
    rows = ptq.real(tensor).reshape(len(tensor.values), -1)
    found = scheme.quantize(rows, least.astype(np.float64), weights)
    real = found.storage.expanded() * found.scales[:, None]
    return np.asarray(real.reshape(tensor.shape), np.float32)


def weighted(graph: Graph) -> list[str]:
    """Outputs of the layers with weights of their own that no model brought as integers."""
    return [
        node.output
        for node in graph.nodes
        if isinstance(node.op, Conv2D | Dense) and graph.tensors[node.inputs[1]].quant is None
    ]
