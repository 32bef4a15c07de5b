"""The float graph run on NumPy: the measure for the quantizer and the tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codegen.ir import Array, Graph, Port
from codegen.qdq import constant_value, dequantize, quantize

CHUNK = 1 << 21

Watch = Callable[[str, Array], None]


def run_float(
    graph: Graph, inputs: tuple[Array, ...], watch: Watch | None = None
) -> tuple[Array, ...]:
    """The outputs for any number of samples, in the device's layout like the inputs.

    Args:
        graph: a float graph; constants with a grid are dequantized, and activations that brought a
            grid are rounded to it: a quantized model runs as its author simulated it.
        inputs: one array per port, samples along axis 0.
        watch: called with the name and values of every activation, inputs first; the samples come
            in portions, so it may be called several times with one name.
    """
    constants = {
        name: constant_value(tensor)
        for name, tensor in graph.tensors.items()
        if tensor.data is not None
    }
    samples = inputs[0].shape[0]
    largest = max(tensor.size for tensor in graph.tensors.values() if tensor.data is None)
    step = max(1, CHUNK // largest)
    portions = [
        _run(graph, constants, tuple(array[start : start + step] for array in inputs), watch)
        for start in range(0, samples, step)
    ]
    return tuple(np.concatenate(parts) for parts in zip(*portions, strict=True))


def to_device(port: Port, array: Array) -> Array:
    """Samples in the layout of the ONNX file as the device's tensor wants them."""
    return np.ascontiguousarray(array.transpose(_batched(port)))


def from_device(port: Port, array: Array) -> Array:
    """Samples of the device's tensor in the layout of the ONNX file."""
    return np.ascontiguousarray(array.transpose(np.argsort(_batched(port))))


def _batched(port: Port) -> tuple[int, ...]:
    # Samples lie along axis 0 on both sides, whichever unit axis stands there.
    if port.perm[0] != 0:
        raise ValueError(f"{port.name}: the batch is not first in {port.perm}")
    return port.perm


def _on_grid(graph: Graph, name: str, values: Array) -> Array:
    """Values rounded to the grid that the model gave a tensor, if it gave one."""
    grid = graph.tensors[name].quant
    return values if grid is None else dequantize(quantize(values, grid), grid)


def _typed(graph: Graph, port: Port, array: Array) -> Array:
    """Samples as the input's numbers: float32 for reals."""
    tensor = graph.tensors[port.tensor]
    return array.astype(np.float32 if tensor.dtype is None else tensor.numpy, copy=False)


def _run(
    graph: Graph, constants: dict[str, Array], inputs: tuple[Array, ...], watch: Watch | None
) -> tuple[Array, ...]:
    values = dict(constants)
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    last |= {port.tensor: len(graph.nodes) for port in graph.outputs}
    for port, array in zip(graph.inputs, inputs, strict=True):
        values[port.tensor] = _on_grid(graph, port.tensor, _typed(graph, port, array))
        if watch:
            watch(port.tensor, values[port.tensor])
    for index, node in enumerate(graph.nodes):
        result = node.op.evaluate(tuple(values[name] for name in node.inputs))
        values[node.output] = _on_grid(graph, node.output, result)
        if watch:
            watch(node.output, values[node.output])
        for name in {*node.inputs, node.output}:
            if last.get(name, index) <= index:
                del values[name]
    return tuple(values[port.tensor] for port in graph.outputs)
