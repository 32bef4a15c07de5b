"""What holds the architecture: one-way imports, size caps, one template per operator, the wheel."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from codegen.ops import KERNELS

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("targets", "codegen", "emulator", "templates", "thumbnet")
MAY_IMPORT = {
    "targets": set(),
    "templates": set(),
    "codegen": {"targets"},
    "emulator": {"targets"},
    "thumbnet": {"targets", "codegen", "emulator"},
}


def python_files() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {name.split(".")[0] for name in imported(path)} & set(PACKAGES)
    assert ours - {package} <= MAY_IMPORT[package]


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("onnx", {"codegen/importer.py", "codegen/onnx_load.py", "codegen/onnx_save.py"}),
        ("jinja2", {"codegen/emit.py"}),
        (
            "rich_click",
            {
                f"thumbnet/cli{part}.py"
                for part in ("", "_boot", "_desk", "_link", "_options", "_tools", "_train", "_tune")
            },
        ),
    ],
)
def test_a_library_stays_behind_one_module(library: str, allowed: set[str]) -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path in python_files()
        if any(name.split(".")[0] == library for name in imported(path))
    }
    assert users == allowed


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 60, node.name


def test_torch_stays_in_its_folder() -> None:
    users = {
        path.parent.relative_to(ROOT).as_posix()
        for path in python_files()
        if any(name.split(".")[0] == "torch" for name in imported(path))
    }
    assert users == {"codegen/train"}


def test_operators_and_templates_have_the_same_stems() -> None:
    stems = {path.name.split(".")[0] for path in (ROOT / "templates/ops").glob("*.j2")}
    assert stems == {kind for kind, kernels in KERNELS.items() if kernels}


def test_templates_stay_small_and_say_what_they_are() -> None:
    for path in (ROOT / "templates").rglob("*.j2"):
        text = path.read_text()
        assert text.startswith("{#"), path
        assert text.count("\n") <= 150, path


@pytest.mark.sweep
def test_the_wheel_holds_every_file(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True)
    with zipfile.ZipFile(next(tmp_path.glob("thumbnet-*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    tree = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".j2", ".toml", ".c")
    }
    assert packed == tree
