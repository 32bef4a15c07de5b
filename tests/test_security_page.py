"""SECURITY.md names tests that exist, and what it says of the sources as a whole holds."""

from __future__ import annotations

import ast
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.test_architecture import ROOT, imported, python_files

PAGE = (ROOT / "SECURITY.md").read_text()
FORBIDDEN_MODULES = frozenset(
    "dill ftplib http.client joblib.numpy_pickle marshal pickle requests shelve urllib.request yaml".split()
)
FORBIDDEN_CALLS = frozenset({"eval", "exec", "__import__"})


def promises() -> list[str]:
    part = PAGE.split("## Promises")[1].split("Not promised")[0]
    return re.split(r"^\d+\. ", part, flags=re.M)[1:]


def test_every_promise_names_tests_that_exist() -> None:
    assert len(promises()) == 11
    for promise in promises():
        named = re.findall(r"`(tests/[\w/]+\.py)`", promise)
        assert named, promise
        for path in named:
            assert "def test_" in (ROOT / path).read_text(), path


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_unpickled_evaluated_or_downloaded(path: Path) -> None:
    assert not FORBIDDEN_MODULES & set(imported(path))
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in FORBIDDEN_CALLS, called
        assert called not in ("np.load", "os.system", "onnx.load", "yaml.load"), called
        assert not any(k.arg == "shell" for k in node.keywords), called
        if called.endswith("torch.load"):
            assert any(k.arg == "weights_only" for k in node.keywords)


def test_onnx_is_new_enough() -> None:
    assert '"onnx>=1.21"' in (ROOT / "pyproject.toml").read_text()
    assert tuple(map(int, version("onnx").split(".")[:2])) >= (1, 21)
