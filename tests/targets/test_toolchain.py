"""Compilers are found, run, and their complaints passed on."""

from __future__ import annotations

import ctypes
import re
import shutil
from pathlib import Path

import pytest

from targets import load, toolchain
from targets.errors import BuildFailed, ToolMissing, UsageError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "a.h").write_text("int twice(int x);\n")
    (folder / "a.c").write_text('#include "a.h"\nint twice(int x) { return 2 * x; }\n')
    (folder / "bad.c").write_text("int f(long long x) { return x; }\n")
    return folder


def nothing_on_path(name: str) -> str | None:
    return None


def test_host_library(project: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "a.so"
    toolchain.build_host(project, ("a.c",), output)
    assert ctypes.CDLL(str(output)).twice(21) == 42
    assert [p.name for p in output.parent.iterdir()] == ["a.so"]


def test_host_library_with_zig(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", nothing_on_path)
    assert toolchain.host_compiler() == toolchain.ZIG
    toolchain.build_host(project, ("a.c",), tmp_path / "a.so")
    assert ctypes.CDLL(str(tmp_path / "a.so")).twice(-4) == -8


def test_host_error_is_the_compilers(project: Path, tmp_path: Path) -> None:
    (project / "a.c").write_text("int f(void) { return y; }\n")
    with pytest.raises(BuildFailed, match=r"a\.c:1.*error"):
        toolchain.build_host(project, ("a.c",), tmp_path / "a.so")
    assert not (tmp_path / "a.so").exists()


def test_warnings_are_errors(project: Path, tmp_path: Path) -> None:
    target = load("generic-m4")
    with pytest.raises(BuildFailed, match=r"bad\.c:1.*conversion"):
        toolchain.build_firmware(
            toolchain.find("zig"), target, project, ("bad.c",), "link.ld", tmp_path / "a.elf"
        )


def test_missing_source(project: Path, tmp_path: Path) -> None:
    target = load("generic-m4")
    with pytest.raises(BuildFailed, match=r"none\.c"):
        toolchain.build_firmware(
            toolchain.find("zig"), target, project, ("none.c",), "link.ld", tmp_path / "a.elf"
        )


def test_missing_project(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="cannot build"):
        toolchain.build_firmware(
            toolchain.find("zig"),
            load("generic-m4"),
            tmp_path / "none",
            ("a.c",),
            "link.ld",
            tmp_path / "a.elf",
        )


def test_sources_with_one_object(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="share a name"):
        toolchain.build_firmware(
            toolchain.find("zig"),
            load("generic-m4"),
            project,
            ("a.c", "a.S"),
            "link.ld",
            tmp_path / "a.elf",
        )


def test_find(monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch(r"zig \d+\.\d+.*", toolchain.find("zig").version)
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/bin/{name}")
    assert toolchain.find() == toolchain.Toolchain("gcc", ("/opt/bin/arm-none-eabi-gcc",))
    monkeypatch.setattr(shutil, "which", nothing_on_path)
    assert toolchain.find("auto").kind == "zig"
    with pytest.raises(ToolMissing, match="not on PATH"):
        toolchain.find("gcc")
    with pytest.raises(UsageError, match="unknown toolchain 'clang'"):
        toolchain.find("clang")
    monkeypatch.setattr(toolchain, "find_spec", nothing_on_path)
    with pytest.raises(ToolMissing, match="no C compiler for Arm"):
        toolchain.find()
    with pytest.raises(ToolMissing, match="no C compiler was found"):
        toolchain.host_compiler()


def test_only_sources_that_compute_in_float32_use_the_floating_point_unit(tmp_path: Path) -> None:
    (tmp_path / "floats.c").write_text("float half(float x) { return x * 0.5f; }\n")
    (tmp_path / "whole.c").write_text("int floating(int x) { return x; }\n")
    gcc, m4 = toolchain.Toolchain("gcc", ("gcc",)), load("generic-m4")
    assert "-mfpu=fpv4-sp-d16" in gcc.float_flags(m4, tmp_path / "floats.c")
    assert not gcc.float_flags(m4, tmp_path / "whole.c")
    assert not gcc.float_flags(load("generic-m0plus"), tmp_path / "floats.c")
