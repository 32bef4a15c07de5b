"""Linked projects that several tests look at."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.thumbnet.linking.projects import TARGETS, generate
from thumbnet import linking


@pytest.fixture(scope="package", params=TARGETS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with digits, motions and the two linked as app."""
    folder = tmp_path_factory.mktemp(request.param)
    for name in ("digits", "motions"):
        generate(folder / name, name, target=request.param)
    linking.link_projects((folder / "digits", folder / "motions"), folder / "app")
    return folder


@pytest.fixture(scope="package")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits, and digits compiled for small flash as `small`: some of their kernels are equal."""
    folder = tmp_path_factory.mktemp("twins")
    generate(folder / "digits", "digits")
    generate(folder / "small", "digits", name="small", optimize="flash")
    linking.link_projects((folder / "digits", folder / "small"), folder / "app")
    return folder


@pytest.fixture
def copy(twins: Path, tmp_path: Path) -> Path:
    """The twins, to be tampered with."""
    shutil.copytree(twins, tmp_path / "twins", ignore=shutil.ignore_patterns("build"))
    return tmp_path / "twins"
