"""Outputs that no operator computes: constants, inputs, one tensor twice; networks without inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from codegen import reference
from tests.codegen.plain.network import everywhere
from tests.codegen.plain.onnx_models import loaded, saved
from tests.codegen.tiny_models import node

X = np.arange(6, dtype=np.float32).reshape(2, 3)
WORDS = np.array([1, -2, 2**40], np.int64)


def test_outputs_may_be_inputs_and_constants(tmp_path: Path) -> None:
    nodes = [
        node("Identity", "x", "y"),
        node("Transpose", "x", "t"),
        node("Shape", "x", "s"),
        node("Identity", "c", "k"),
    ]
    path = saved(tmp_path, nodes, {"x": X}, {"c": WORDS}, outputs=("y", "t", "s", "k", "x"))
    graph = loaded(path)
    wanted = [array.tobytes() for array in (X, X.T.copy(), np.array([2, 3]), WORDS, X)]
    for found in everywhere(graph, (X[None],), tmp_path):
        assert found == wanted
    outputs = reference.run(graph, (np.stack([X] * 40),))
    assert [len(array) for array in outputs] == [40] * 5


def test_networks_without_inputs_run_on_the_core(tmp_path: Path) -> None:
    path = saved(tmp_path, [node("Identity", "c", "k")], {}, {"c": WORDS}, outputs=("k",))
    for found in everywhere(loaded(path), (), tmp_path):
        assert found == [WORDS.tobytes()]
