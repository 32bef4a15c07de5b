"""Embeddings: tables that indices pick from are quantized; the picked bytes are those of the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from thumbnet import workflow
from thumbnet.options import CompileOptions, RunOptions

WORDS, WIDTH, TOKENS = 50, 12, 8


def written(folder: Path) -> tuple[Path, Path]:
    """Eight words' vectors, their mean, and a layer on it."""
    rng = np.random.default_rng(0)
    constants = [
        numpy_helper.from_array(rng.normal(0, 1, shape).astype(np.float32), name)
        for name, shape in (("table", (WORDS, WIDTH)), ("w", (3, WIDTH)))
    ]
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["e"], "embedding"),
        helper.make_node("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
        helper.make_node("Gemm", ["m", "w"], ["y"], transB=1),
    ]
    x = helper.make_tensor_value_info("x", 7, (1, TOKENS))
    y = helper.make_tensor_value_info("y", 1, None)
    graph = helper.make_graph(nodes, "words", [x], [y], constants)
    model, data = folder / "words.onnx", folder / "words.npz"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), model)
    words = rng.integers(0, WORDS, (24, TOKENS))
    np.savez(data, x=words, calib_x=words)
    return model, data


@pytest.mark.parametrize("weights", [None, "float32"])
@pytest.mark.parametrize("target", ["generic-m0plus", "generic-m4"])
def test_every_byte(tmp_path: Path, target: str, weights: str | None) -> None:
    model, data = written(tmp_path)
    compiling = CompileOptions(target=target, data=str(data), weights=weights)
    running = RunOptions(data=str(data), max_samples=4, profile=False)
    _, found = workflow.run(model, compiling, running, tmp_path / "project")
    assert found["mismatched_bytes"] == found["host"]["mismatched_bytes"] == 0
    stored = found["flash"]["constants"] + found["flash"]["weights"]
    assert (stored > 4 * WORDS * WIDTH) == (weights == "float32")
    assert stored > WORDS * WIDTH
