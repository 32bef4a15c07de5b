"""Projects that several tests look at: one as users have it, one whose names are hostile."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from thumbnet import workflow
from thumbnet.options import CompileOptions, RunOptions

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples/digits"
MODEL, DATA = EXAMPLE / "digits.onnx", EXAMPLE / "digits.npz"
HOSTILE = (
    '</script><img src=x onerror="alert(1)">',
    "a' onmouseover='alert(2)",
    "*/ int evil; /*",
    "${HOME} `id` $(id) ; rm -rf |",
    "]]>&lt;!--\u202e\u2028\x07",
    "=cmd()|{{7*7}}{% raw %}",
    "@team [x](javascript:alert(3))",
)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits example, generated, built and emulated with its data."""
    folder = tmp_path_factory.mktemp("digits") / "digits"
    options = CompileOptions(data=str(DATA))
    workflow.run(MODEL, options, RunOptions(data=str(DATA), max_samples=2), folder)
    return folder


def hostile_model(path: Path) -> None:
    """The digits model with hostile names of nodes, values, inputs, outputs, and as its own name."""
    model = onnx.load(MODEL)
    names = {value.name: f"{HOSTILE[0]}{value.name}" for value in model.graph.input}
    names |= {value.name: f"{HOSTILE[1]}{value.name}" for value in model.graph.output}
    for index, node in enumerate(model.graph.node):
        node.name = f"{HOSTILE[index % len(HOSTILE)]} {index}"
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*model.graph.input, *model.graph.output):
        value.name = names[value.name]
    model.graph.name = model.doc_string = model.producer_name = HOSTILE[2]
    onnx.save(model, path)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of that model, emulated."""
    folder = tmp_path_factory.mktemp("hostile")
    path = folder / "x; rm -rf '$HOME'.onnx"
    hostile_model(path)
    options = CompileOptions(calib="random")
    workflow.run(path, options, RunOptions(max_samples=1, accuracy="none"), folder / "project")
    return folder / "project"
