"""ONNX's own node tests: what once passed passes, and what does not is refused in words."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest

from tests.onnx_nodes import cases, run

SHARES = 12
QUANTIZED = frozenset(
    "QLinearConv QLinearMatMul QuantizeLinear DequantizeLinear DynamicQuantizeLinear ConvInteger "
    "MatMulInteger".split()
)
LEAST = 780


def passing() -> list[str]:
    return run.PASSING.read_text().split()


def known() -> list[str]:
    """Cases that the installed onnx has; versions add some, and rename a few."""
    return [name for name in passing() if name in cases.relevant()]


def one_of_each() -> list[str]:
    found: dict[str, str] = {}
    for name in known():
        found.setdefault(cases.operator(cases.relevant()[name]), name)
    return list(found.values())


def test_the_list_does_not_shrink() -> None:
    assert len(passing()) >= LEAST
    if onnx.__version__.startswith("1.23."):
        assert known() == passing()
        core = [n for n in passing() if cases.operator(cases.relevant()[n]) in QUANTIZED]
        assert len(core) == 30


@pytest.mark.parametrize("share", range(4))
def test_one_case_of_every_operator(tmp_path: Path, share: int) -> None:
    names = one_of_each()[share::4]
    assert run.results(names, tmp_path) == dict.fromkeys(names, "pass")


@pytest.mark.sweep
@pytest.mark.parametrize("share", range(SHARES))
def test_every_case_that_passed(tmp_path: Path, share: int) -> None:
    """Under the sanitizer of undefined behaviour, which ends the process where it finds some."""
    names = known()[share::SHARES]
    options = run.SANITIZED if shutil.which("gcc") else run.STRICT
    assert run.results(names, tmp_path, options) == dict.fromkeys(names, "pass")


@pytest.mark.sweep
def test_all_others_are_refused(tmp_path: Path) -> None:
    names = sorted(cases.relevant().keys() - set(passing()))
    found = run.results(names, tmp_path)
    assert not [
        name for name, result in found.items() if not result.startswith(("pass", "refused"))
    ]
