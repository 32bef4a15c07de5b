"""The same model and data give the same firmware on every machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.thumbnet.test_cli import DATA, DIGITS, result

# OpenBLAS adds in another order in each of these; elsewhere the variables mean nothing.
MACHINES = (("Prescott", "1"), ("Haswell", "1"), ("Haswell", "2"))


def test_files_do_not_depend_on_the_order_in_which_blas_adds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for number, (core, threads) in enumerate(MACHINES):
        monkeypatch.setitem(os.environ, "OPENBLAS_CORETYPE", core)
        monkeypatch.setitem(os.environ, "OPENBLAS_NUM_THREADS", threads)
        folder = tmp_path / str(number)
        options = ("--data", DATA, "--weights", "int4")
        found.append(result("generate", DIGITS, "-o", folder, *options)["files"])
    assert found[0] == found[1] == found[2]
