"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the reference models and data sets: $THUMBNET_DATA, else ../shared/data.

    Where it is absent the test is skipped; in CI its absence is an error.
    """
    folder = Path(os.environ.get("THUMBNET_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "models").is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"reference data not found at {folder}; set THUMBNET_DATA")
        pytest.skip("reference data not found; set THUMBNET_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def qemu() -> str:
    """Path of qemu-system-arm. Where it is absent the test is skipped; in CI its absence is an error."""
    program = shutil.which("qemu-system-arm")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("qemu-system-arm is not installed")
        pytest.skip("qemu-system-arm is not installed")
    return program
