"""The NumPy reference: runs a quantized graph. It is the specification of the generated C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from codegen.ir import Array, Graph, Port
from codegen.ops import QUANTIZED
from codegen.quant.fixed import saturated

Stored: TypeAlias = npt.NDArray[Any]  # int8 of a grid, or plain numbers
Watch = Callable[[str, Stored], None]
BATCH = 32


def run(
    graph: Graph, inputs: tuple[Stored, ...], watch: Watch = lambda name, value: None
) -> tuple[Stored, ...]:
    """Outputs of a quantized graph, device layout.

    Args:
        graph: a quantized graph.
        inputs: one array per input, as the port holds it, device layout, any number of samples along axis 0;
            without inputs there is one sample.
        watch: called with every activation of every batch.
    """
    count = len(inputs[0]) if inputs else 1
    batches = [
        _run_batch(graph, tuple(x[start : start + BATCH] for x in inputs), watch)
        for start in range(0, count, BATCH)
    ]
    return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))


def _run_batch(graph: Graph, inputs: tuple[Stored, ...], watch: Watch) -> tuple[Stored, ...]:
    values: dict[str, Stored] = {}
    for port, value in zip(graph.inputs, inputs, strict=True):
        values[port.tensor] = value
        watch(port.tensor, value)
    last = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    kept = {port.tensor for port in graph.outputs}
    for index, node in enumerate(graph.nodes):
        operands = tuple(graph.tensors[name] for name in node.inputs)
        given = tuple(values[t.name] if t.data is None else t.data for t in operands)
        reference = QUANTIZED[node.op.kind]
        result = reference(node.op, given, operands, graph.tensors[node.output])
        values[node.output] = result.astype(graph.tensors[node.output].numpy, copy=False)
        watch(node.output, values[node.output])
        for name in set(node.inputs) - kept:
            if last[name] == index:
                values.pop(name, None)
    samples = len(inputs[0]) if inputs else 1
    found = (values[port.tensor] for port in graph.outputs)
    return tuple(np.broadcast_to(array, (samples, *array.shape[1:])) for array in found)


def to_stored(graph: Graph, port: Port, real: Array) -> Stored:
    """Real device-layout values as a port holds them: of its type, or rounded to its grid, saturated."""
    tensor = graph.tensors[port.tensor]
    if tensor.dtype is not None:
        return np.ascontiguousarray(real.astype(tensor.numpy))
    quant = tensor.grid
    stored = np.rint(real.astype(np.float64) / quant.scale) + quant.zero_point
    return saturated(stored)


def to_real(graph: Graph, port: Port, stored: Stored) -> npt.NDArray[np.float32]:
    """Real values of what a port holds."""
    tensor = graph.tensors[port.tensor]
    if tensor.dtype is not None:
        return stored.astype(np.float32)
    quant = tensor.grid
    real: npt.NDArray[np.float32] = (stored.astype(np.float32) - quant.zero_point) * np.float32(
        quant.scale
    )
    return real
