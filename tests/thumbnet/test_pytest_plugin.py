"""The fixture for users' tests, as pytest runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from thumbnet import compiler, project
from thumbnet.options import CompileOptions

pytest_plugins = ["pytester"]
ROOT = Path(__file__).resolve().parents[2]
TEST = """
import numpy as np

def test_bytes(mcu_board):
    x = np.arange(-32, 32, dtype=np.int8)
    (found,) = mcu_board.infer(x)
    (wanted,) = mcu_board.reference(x)
    assert found.tolist() == wanted.tolist()

def test_budget(mcu_board):
    run = mcu_board.measure(np.zeros(64, np.int8))
    assert 0 < run.cycles < 2_000_000
    assert len(run.layer_cycles) == len(mcu_board.manifest["layers"])
    assert run.stack < 1024
"""


def test_the_fixture(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    digits = ROOT / "examples/digits"
    options = CompileOptions(target="mps2-an386", data=str(digits / "digits.npz"))
    folder = pytester.path / "digits"
    project.write(folder, compiler.compile_model(digits / "digits.onnx", options).files)
    pytester.makepyfile(TEST)
    plugin = ("-p", "thumbnet.pytest_plugin")
    done = pytester.runpytest_subprocess(*plugin, "--board-project", str(folder))
    done.assert_outcomes(passed=2)
    absent = ("--board-project", str(folder), "--board-port", "/dev/ttyNONE")
    done = pytester.runpytest_subprocess(*plugin, *absent)
    done.assert_outcomes(errors=2)
    done.stdout.fnmatch_lines(["*there is no /dev/ttyNONE*"])
    done = pytester.runpytest_subprocess(*plugin)
    done.assert_outcomes(errors=2)
    done.stdout.fnmatch_lines(["*needs --board-project*"])
