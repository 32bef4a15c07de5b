"""The NumPy reference: runs a quantized graph. It is the specification of the generated C."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from codegen.ir import Array, Graph, Port
from codegen.ops import QUANTIZED
from codegen.quant.fixed import saturated

Int8Array = npt.NDArray[np.int8]
Watch = Callable[[str, Int8Array], None]
BATCH = 32


def run(
    graph: Graph, inputs: tuple[Int8Array, ...], watch: Watch = lambda name, value: None
) -> tuple[Int8Array, ...]:
    """Outputs of a quantized graph, device layout.

    Args:
        graph: a quantized graph.
        inputs: one int8 array per input, device layout, any number of samples along axis 0.
        watch: called with every activation of every batch.
    """
    count = len(inputs[0])
    batches = [
        _run_batch(graph, tuple(x[start : start + BATCH] for x in inputs), watch)
        for start in range(0, count, BATCH)
    ]
    return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))


def _run_batch(graph: Graph, inputs: tuple[Int8Array, ...], watch: Watch) -> tuple[Int8Array, ...]:
    values: dict[str, Int8Array] = {}
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
        values[node.output] = result.astype(np.int8, copy=False)
        watch(node.output, values[node.output])
        for name in set(node.inputs) - kept:
            if last[name] == index:
                values.pop(name, None)
    return tuple(values[port.tensor] for port in graph.outputs)


def to_int8(graph: Graph, port: Port, real: Array) -> Int8Array:
    """Real device-layout values on a port's grid: round half to even, saturate."""
    quant = graph.tensors[port.tensor].grid
    stored = np.rint(real.astype(np.float64) / quant.scale) + quant.zero_point
    return saturated(stored)


def to_real(graph: Graph, port: Port, stored: Int8Array) -> npt.NDArray[np.float32]:
    """Real values of int8 ones on a port's grid."""
    quant = graph.tensors[port.tensor].grid
    real: npt.NDArray[np.float32] = (stored.astype(np.float32) - quant.zero_point) * np.float32(
        quant.scale
    )
    return real
