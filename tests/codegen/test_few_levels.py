"""Activations of 16 levels: grids, and which tensors have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from codegen import importer, pipeline
from codegen.quant import few_levels
from codegen.quant.clipping import Range
from codegen.quant.fixed import clamp_range

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples/digits/digits.onnx"


@given(low=st.floats(-100, 0), high=st.floats(0.01, 100))
def test_grids_have_16_levels_and_zero(low: float, high: float) -> None:
    found = few_levels.grid(Range(low, high))
    levels = (np.arange(-128, -112) - found.zero_point) * found.scale
    assert len(levels) == 16
    assert 0.0 in levels
    assert levels[0] <= low + found.scale
    assert levels[-1] >= high - found.scale


def test_layers_between_the_ports_are_narrow() -> None:
    graph = pipeline.run(importer.load(DIGITS))
    found = {name: Range(-1.0, 2.0) for name in graph.tensors}
    narrow = few_levels.narrow(graph, found)
    ends = {port.tensor for port in (*graph.inputs, *graph.outputs)}
    limited = [n for n in narrow.nodes if narrow.tensors[n.output].quant is not None]
    assert len(limited) >= 2
    assert not ends & {n.output for n in limited}
    for node in limited:
        assert isinstance(node.op, few_levels.LIMITING)
        low, high = clamp_range(node.op.clamp, narrow.tensors[node.output].grid)
        assert -128 <= low < high <= -113
