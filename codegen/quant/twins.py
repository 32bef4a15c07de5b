"""A network and its quantized twin, run side by side on calibration samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from codegen.ir import Array, Graph, Node, Quant, Tensor
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.qdq import constant_value, dequantize, quantize
from codegen.quant.rounding import Floats

MEMORY = 1 << 30  # bytes that the activations of both networks may take


class Twins:
    """A float graph and its quantized twin with all their activations on the samples.

    Attributes:
        float: the network as it is.
        quantized: the same; `set` replaces constants of it.
        exact: all constants of `float`, and its activations as far as `advance` went.
        rounded: those of `quantized`, activations on their grids.
    """

    def __init__(self, graph: Graph, grids: Mapping[str, Quant], samples: tuple[Array, ...]):
        """Loads inputs; as many samples as memory allows, evenly chosen."""
        self.float = self.quantized = graph
        self.grids = grids
        size = sum(t.size for t in graph.tensors.values() if t.data is None)
        count = int(np.clip(MEMORY // (8 * size), 1, len(samples[0])))
        chosen = np.unique(np.linspace(0, len(samples[0]) - 1, count).astype(np.int64))
        inputs = {p.tensor: x[chosen] for p, x in zip(graph.inputs, samples, strict=True)}
        constants = {n: constant_value(t) for n, t in graph.tensors.items() if t.data is not None}
        self.exact: dict[str, Array] = constants | inputs
        rounded = {name: self.on_grid(name, value) for name, value in inputs.items()}
        self.rounded: dict[str, Array] = constants | rounded

    def on_grid(self, name: str, value: Array) -> Array:
        """Values rounded to an activation's grid."""
        return dequantize(quantize(value, self.grids[name]), self.grids[name])

    def set(self, *tensors: Tensor) -> None:
        """Replaces constants of the quantized twin."""
        self.quantized = self.quantized.with_tensors(*tensors)
        self.rounded |= {t.name: constant_value(t) for t in tensors}

    def advance(self, index: int) -> None:
        """Runs a node in both."""
        node = self.float.nodes[index]
        exact = node.op.evaluate(tuple(self.exact[name] for name in node.inputs))
        self.exact[node.output] = exact
        self.rounded[node.output] = self.run(node, self.rounded)

    def run(self, node: Node, values: Mapping[str, Array]) -> Array:
        """A node of the quantized twin."""
        result = node.op.evaluate(tuple(values[name] for name in node.inputs))
        return self.on_grid(node.output, result)

    def sums(self, node: Node, values: Mapping[str, Array]) -> Floats:
        """A weighted layer's results before its clamp, (positions, N)."""
        assert isinstance(node.op, Conv2D | Dense)
        result = replace(node.op, clamp=None).evaluate(tuple(values[n] for n in node.inputs))
        return result.reshape(-1, result.shape[-1]).astype(np.float64)

    def rerun(self, start: int, changed: Mapping[str, Array]) -> dict[str, Array]:
        """What the quantized twin's activations become from a node on, with some constants changed."""
        found = dict(changed)
        for node in self.float.nodes[start:]:
            if any(name in found for name in node.inputs):
                merged = {name: found.get(name, self.rounded[name]) for name in node.inputs}
                found[node.output] = self.run(node, merged)
        return found

    def loss(self, found: Mapping[str, Array]) -> float:
        """How far the outputs are from the float network's: KL divergence of classes, else error."""
        total = 0.0
        for port in self.float.outputs:
            node = self.float.producer(port.tensor)
            exact = self.exact[port.tensor].astype(np.float64)
            if node is not None and node.op.kind == "softmax":
                # From the logits: 8-bit probabilities are too coarse to compare.
                name = node.inputs[0]
                logits = found.get(name, self.rounded[name])
                given = np.maximum(node.op.evaluate((logits,)).astype(np.float64), 1e-12)
                total += float((exact * np.log(np.maximum(exact, 1e-12) / given)).sum())
            else:
                given = found.get(port.tensor, self.rounded[port.tensor]).astype(np.float64)
                total += float(((given - exact) ** 2).sum() / max((exact**2).sum(), 1e-30))
        return total
