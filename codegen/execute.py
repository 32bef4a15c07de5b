"""Runs a float graph in NumPy: for calibration, and as the accuracy that quantization is measured against."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codegen.ir import Array, Graph, Port
from codegen.qdq import constant_value

Watch = Callable[[str, Array], None]


def run_float(
    graph: Graph, inputs: tuple[Array, ...], watch: Watch | None = None
) -> tuple[Array, ...]:
    """Outputs of a float graph, device layout.

    Args:
        graph: any graph before quantization; constants with a grid count as their real values.
        inputs: one float32 array per input, device layout, any number of samples along axis 0.
        watch: called with the name and value of every activation.
    """
    values: dict[str, Array] = {}

    def keep(name: str, value: Array) -> None:
        values[name] = value
        if watch is not None:
            watch(name, value)

    for port, value in zip(graph.inputs, inputs, strict=True):
        keep(port.tensor, value)
    constants = {n: constant_value(t) for n, t in graph.tensors.items() if t.data is not None}
    last = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    outputs = {port.tensor for port in graph.outputs}
    for index, node in enumerate(graph.nodes):
        operands = tuple(
            constants[name] if name in constants else values[name] for name in node.inputs
        )
        keep(node.output, node.op.evaluate(operands).astype(np.float32, copy=False))
        for name in set(node.inputs) - outputs:
            if last[name] == index:
                values.pop(name, None)
    return tuple(values[port.tensor] for port in graph.outputs)


def to_device(port: Port, x: Array) -> Array:
    """Samples in ONNX layout as the device takes them: channels last."""
    return np.ascontiguousarray(x.reshape(len(x), *port.shape[1:]).transpose(port.perm))


def from_device(port: Port, x: Array) -> Array:
    """Samples as the device gives them in ONNX layout."""
    inverse = tuple(int(axis) for axis in np.argsort(port.perm))
    return x.transpose(inverse)
