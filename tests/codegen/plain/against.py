"""Models on plain numbers against onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from codegen import importer, reference
from codegen.floats import all_floats
from codegen.ir import Array, Graph, verify_quantized
from tests.codegen.plain.numbers import reals
from tests.codegen.tiny_models import Net


def imported(net: Net, folder: Path) -> Graph:
    """A model all of whose numbers are plain."""
    return verify_quantized(all_floats(importer.load(net.save(folder), floats=True)))


def compared(
    net: Net, folder: Path, inputs: tuple[Array, ...] = (), tolerance: float = 1e-5
) -> Graph:
    """The graph of a model, once its results have proved near those of onnxruntime; equal for integers."""
    graph = imported(net, folder)
    session = ort.InferenceSession(net.model().SerializeToString())
    ports = session.get_inputs()
    values = inputs or tuple(reals(*port.shape) for port in ports)
    wanted = session.run(None, {p.name: x for p, x in zip(ports, values, strict=True)})
    given = tuple(
        x.reshape(graph.tensors[port.tensor].shape)
        for port, x in zip(graph.inputs, values, strict=True)
    )
    for mine, their in zip(reference.run(graph, given), wanted, strict=True):
        assert mine.dtype == their.dtype
        if their.dtype.kind == "f":
            np.testing.assert_allclose(mine.reshape(their.shape), their, rtol=1e-4, atol=tolerance)
        else:
            np.testing.assert_array_equal(mine.reshape(their.shape), their)
    return graph
