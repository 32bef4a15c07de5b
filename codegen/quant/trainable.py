"""A float graph with the grids that it is trained for, before and after training; knows no torch.

`Start` is where training begins: calibrated activations, weights by second-order rounding. `trained` puts
what was learned into the graph: every activation has its grid and every weight its integers, which
codegen.onnx_save then writes as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from codegen.ir import Array, FloatArray, Graph, Node, Op, Quant, Tensor, verify
from codegen.ops.add import Add
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.ops.mul import Mul
from codegen.quant.lower import Chosen
from codegen.quant.quantize import BIAS_LIMIT, FIXED_GRIDS, SAME_GRID, quantized_constant
from targets.errors import UsageError

Kind = Literal["uniform", "ttq", "binary"]
INT8 = 8


@dataclass(frozen=True, slots=True)
class WeightForm:
    """What a layer's weights are trained to become.

    Attributes:
        weights: as users name them: "int4", "ternary", ...
        scheme: of codegen.quant.schemes.
        kind: how training sees it.
        low: least integer.
        high: largest integer.
    """

    weights: str
    scheme: str
    kind: Kind
    low: int
    high: int


FORMS: Mapping[tuple[str, str], WeightForm] = {
    (form.weights, form.scheme): form
    for form in (
        WeightForm("int8", "uniform", "uniform", -127, 127),
        WeightForm("int4", "uniform", "uniform", -7, 7),
        WeightForm("int3", "uniform", "uniform", -3, 3),
        WeightForm("int2", "uniform", "uniform", -2, 1),
        WeightForm("ternary", "ternary", "uniform", -1, 1),
        WeightForm("ternary", "ttq", "ttq", -127, 127),
        WeightForm("binary", "binary", "binary", -1, 1),
    )
}
PLAIN = FORMS["int8", "uniform"]


@dataclass(frozen=True, slots=True)
class ActivationForm:
    """A grid whose scale is shared by tensors.

    Attributes:
        quant: where training starts; the zero point stays.
        low: least stored integer.
        high: largest.
        fixed: whether the scale stays as well.
    """

    quant: Quant
    low: int
    high: int
    fixed: bool


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """Where training begins.

    Attributes:
        graph: float, as it was.
        rounded: the same with weights on their first grids, where those came from second-order rounding.
        forms: of every layer with weights, by output.
        roots: for every activation the one whose grid it shares.
        grids: by root.
        teacher: the float graph whose answers are wanted; None = `graph`.
        free: activations that have no grid: signs, and sums whose sign is all that is read.
    """

    graph: Graph
    rounded: Graph
    forms: Mapping[str, WeightForm]
    roots: Mapping[str, str]
    grids: Mapping[str, ActivationForm]
    teacher: Graph | None = None
    free: frozenset[str] = frozenset()

    def is_binary(self, node: Node) -> bool:
        """Whether a layer multiplies signs with signs."""
        return self.forms[node.output].kind == "binary" and node.inputs[0] in self.free


def forms(graph: Graph, chosen: Chosen) -> dict[str, WeightForm]:
    """What becomes of every layer's weights.

    Raises:
        UsageError: a scheme that training does not know.
    """
    found = {node.output: PLAIN for node in graph.nodes if isinstance(node.op, Conv2D | Dense)}
    for output, (weights, scheme) in chosen.items():
        if (weights, scheme.name) not in FORMS:
            raise UsageError(
                f"weights cannot be trained for the scheme {scheme.name!r}",
                hint="known: " + ", ".join(sorted({name for _, name in FORMS})),
            )
        found[output] = FORMS[weights, scheme.name]
    return found


def sharing(graph: Graph, grids: Mapping[str, Quant]) -> dict[str, str]:
    """For every activation the first one whose grid it takes over."""
    root = {name: name for name in grids}

    def find(name: str) -> str:
        while root[name] != name:
            name = root[name]
        return name

    for node in graph.nodes:
        for name in node.inputs if node.op.kind in SAME_GRID else ():
            if name in grids and grids[name] == grids[node.output]:
                root[find(node.output)] = find(name)
    return {name: find(name) for name in grids}


def activation_forms(
    graph: Graph, grids: Mapping[str, Quant], roots: Mapping[str, str], few: Mapping[str, Quant]
) -> dict[str, ActivationForm]:
    """The grids that are trained, by root.

    Args:
        graph: the float graph.
        grids: int8, of every activation.
        roots: from `sharing`.
        few: grids of 16 values, for the tensors that are to have such.
    """
    fixed = {roots[port.tensor] for port in graph.inputs}
    fixed |= {roots[n.output] for n in graph.nodes if _function(n) in FIXED_GRIDS}
    ends = fixed | {roots[port.tensor] for port in graph.outputs}
    ends |= {roots[n.inputs[0]] for n in graph.nodes if n.op.kind == "softmax"}
    clipping = {n.output for n in graph.nodes if isinstance(n.op, Conv2D | Dense | Add | Mul)}
    found = {}
    for root in dict.fromkeys(roots.values()):
        if root in few and root in clipping and root not in ends:
            found[root] = ActivationForm(few[root], -8, 7, False)
        else:
            found[root] = ActivationForm(grids[root], -128, 127, root in fixed)
    return found


def _function(node: Node) -> str:
    return str(getattr(node.op, "function", node.op.kind))


@dataclass(frozen=True, slots=True, eq=False)
class LearnedWeights:
    """Integers (N, ...) as stored, and a scale for each channel (N,)."""

    stored: Array
    scales: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What training gives back: weights and biases by the layer's output, activation scales by root."""

    weights: Mapping[str, LearnedWeights]
    biases: Mapping[str, FloatArray]
    scales: Mapping[str, float]


def trained(start: Start, learned: Learned) -> Graph:
    """The graph with all grids, integer weights, and float biases under names of their own."""
    graph, tensors = start.graph, dict(start.graph.tensors)
    for name, root in start.roots.items():
        if name in start.free:
            continue
        quant = replace(start.grids[root].quant, scales=(learned.scales[root],), width=INT8)
        tensors[name] = replace(tensors[name], quant=quant)
    nodes = []
    for node in graph.nodes:
        op, inputs = node.op, node.inputs
        if node.output not in start.free:
            form = start.grids[start.roots[node.output]]
            op = _bounded(op, tensors[node.output].grid, form)
        if node.output in learned.weights:
            mine = learned.weights[node.output]
            values = learned.biases[node.output]
            weights, bias = f"{node.output}.weights", f"{node.output}.bias"
            tensors[weights] = _weights(weights, mine, start.is_binary(node))
            tensors[bias] = Tensor(bias, values.shape, None, values)
            inputs = (inputs[0], weights, bias)
        elif isinstance(node.op, Add | Mul):
            tensors |= {n: constant_on_grid(tensors[n]) for n in inputs if tensors[n].quant is None}
        nodes.append(replace(node, op=op, inputs=inputs))
    used = {name for node in nodes for name in (*node.inputs, node.output)}
    used |= {port.tensor for port in graph.inputs}
    kept = {name: tensor for name, tensor in tensors.items() if name in used}
    return verify(replace(graph, nodes=tuple(nodes), tensors=kept))


def _weights(name: str, learned: LearnedWeights, binary: bool) -> Tensor:
    """Integers on their grid; of a layer of signs real numbers, by which the importer knows one."""
    scales = tuple(float(scale) for scale in learned.scales)
    if not binary:
        grid = Quant(scales, (0,) * len(scales), 0, INT8)
        return Tensor(name, learned.stored.shape, grid, learned.stored)
    column = learned.scales.reshape(-1, *(1,) * (learned.stored.ndim - 1))
    return Tensor(name, learned.stored.shape, None, learned.stored.astype(np.float32) * column)


def _bounded(op: Op, quant: Quant, form: ActivationForm) -> Op:
    """The operator, its clamp as narrow as a grid of fewer than 256 values."""
    if form.high - form.low == 255 or not isinstance(op, Conv2D | Dense | Add | Mul):
        return op
    low, high = (quant.scale * (end - quant.zero_point) for end in (form.low, form.high))
    if op.clamp is not None:
        low, high = max(low, op.clamp[0]), min(high, op.clamp[1])
    return replace(op, clamp=(low, high))


def least_scales(bias: FloatArray, input_scale: float) -> FloatArray:
    """Below these scales of weights a layer's bias would not fit 30 bits."""
    return np.asarray(np.abs(bias) / (BIAS_LIMIT * input_scale), np.float32)


def constant_on_grid(tensor: Tensor) -> Tensor:
    """A constant operand of Add or Mul as the device will hold it."""
    return tensor if tensor.quant else quantized_constant(tensor)
