"""Programs that analyse C: skipped where they are not installed; in CI that is an error."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

Require = Callable[[str], str]


@pytest.fixture(scope="session")
def require() -> Require:
    """Finds a program by its name."""

    def found(name: str) -> str:
        program = shutil.which(name)
        if program is None:
            if os.environ.get("CI") == "true":
                pytest.fail(f"{name} is not installed")
            pytest.skip(f"{name} is not installed")
        return program

    return found
