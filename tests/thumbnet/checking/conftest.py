"""A project that several tests check."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.thumbnet.checking.boards import BOARD, generate
from thumbnet import verify


@pytest.fixture(scope="package")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = generate(BOARD, tmp_path_factory.mktemp("check") / "digits")
    verify.build(folder)
    return folder
