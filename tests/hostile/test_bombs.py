"""Files that ask for much are refused in a clear line, at once, and without taking memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.bombs import bombs

ROOT = Path(__file__).resolve().parents[2]
MOST_SECONDS = 2.0
MOST_BYTES = 512 << 20


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """What came of each, all in one process."""
    command = [sys.executable, "-m", "tests.hostile.bombs", str(tmp_path_factory.mktemp("bombs"))]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return {found["name"]: found for found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", bombs())
def test_a_bomb_is_refused(name: str, tried: dict[str, dict[str, object]]) -> None:
    found = tried[name]
    assert isinstance(found["said"], str) and found["said"]
    assert isinstance(found["seconds"], float) and found["seconds"] < MOST_SECONDS
    assert isinstance(found["peak"], int) and found["peak"] < MOST_BYTES
