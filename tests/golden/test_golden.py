"""A template change must show its effect: emitted C equals the reviewed files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.golden.network import FOLDER, NAMES, files

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]


@pytest.mark.parametrize("target", NAMES)
def test_emitted_c_is_the_reviewed_one(target: str) -> None:
    emitted = files(target)
    kept = {path.name: path.read_text() for path in (FOLDER / target).iterdir()}
    assert sorted(emitted) == sorted(kept)
    for name, text in emitted.items():
        assert text == kept[name], f"{name} changed: `make golden`, then review the diff"


@pytest.mark.parametrize("target", NAMES)
@pytest.mark.parametrize("name", ["golden.c", "kernels.c"])
def test_it_compiles_strictly_as_c_and_the_header_as_cpp(
    target: str, name: str, tmp_path: Path
) -> None:
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no gcc or clang on this machine")
    source = FOLDER / target / name
    output = tmp_path / "out.o"
    extra = ["-Wmissing-prototypes", "-Wundef", "-Wcast-align"]
    subprocess.run([compiler, *STRICT, *extra, "-c", source, "-o", output], check=True)
    header = FOLDER / target / "golden.h"
    subprocess.run([compiler, "-x", "c++", "-Wall", "-Werror", "-fsyntax-only", header], check=True)
