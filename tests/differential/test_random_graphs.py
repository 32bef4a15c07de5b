"""Random graphs: equal to onnxruntime in float, to the NumPy reference byte for byte in both forms."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.differential import run


@pytest.mark.parametrize("floats", [True, False], ids=["float", "int8"])
def test_some(tmp_path: Path, floats: bool) -> None:
    seeds = range(20_000, 20_012)
    assert run.results(seeds, tmp_path, floats=floats) == dict.fromkeys(seeds, "")


@pytest.mark.sweep
@pytest.mark.parametrize("floats", [True, False], ids=["float", "int8"])
@pytest.mark.parametrize("share", range(4))
def test_more(tmp_path: Path, share: int, floats: bool) -> None:
    seeds = range(30_000 + 60 * share, 30_060 + 60 * share)
    assert run.results(seeds, tmp_path, floats=floats) == dict.fromkeys(seeds, "")
