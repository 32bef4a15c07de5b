"""Compilers and analysers read the emitted C of every kernel and find nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files as package_files
from pathlib import Path

import pytest

from codegen import emit
from targets.target import load
from tests.analysis import matrix
from tests.analysis.conftest import Require
from tests.golden import network as golden_network

DOCS = Path(__file__).resolve().parents[2] / "docs"
BOARD = "nucleo-l4r5zi"  # one with a serial console
STRICT = (
    *("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wundef"),
    *("-Wcast-align", "-Wmissing-prototypes", "-Wstrict-prototypes", "-Werror"),
)
CORTEX_M4 = ("-mcpu=cortex-m4", "-mthumb", "-ffreestanding")
ZIG_HEADERS = str(package_files("ziglang") / "lib" / "include")
ZIG_CLANG = (sys.executable, "-m", "ziglang", "clang", "-isystem", ZIG_HEADERS)
# With clang's own headers and the core's types: on 32 bits a product of int32_t is a pointer's offset.
TIDY_TARGET = ("-std=c99", "--target=thumbv7em-none-eabi", "-ffreestanding")
TIDY_CHECKS = (
    *("-*", "bugprone-*", "cert-*", "clang-analyzer-*"),
    # Kernels take pointers and counts of one type, always from generated calls.
    "-bugprone-easily-swappable-parameters",
    # int8_t is a number here, never a character.
    *("-bugprone-signed-char-misuse", "-cert-str34-c"),
)
# What constants in the text look like (`x % 1`, a comparison that is always false), and the member of a
# union that aligns the others.
NO_DEFECTS = frozenset(("moduloofone", "knownConditionTrueFalse", "unusedStructMember"))
MISRA = "misra-c2012-"
MANDATORY = frozenset(
    "9.1 12.5 13.6 17.3 17.4 17.6 19.1 21.13 21.17 21.18 21.19 21.20 22.2 22.4 22.5 22.6".split()
)


@pytest.fixture(scope="session")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of projects: kernels of every kind, whole networks, and one with its board's firmware."""
    folder = tmp_path_factory.mktemp("projects")
    for target in matrix.TARGETS:
        pairs = [pair for pair in matrix.different_pairs() if pair.target == target]
        plans = [pair.plan(f"net{number}") for number, pair in enumerate(pairs)]
        matrix.write(folder / f"all-{target}", matrix.together(plans, target))
    for name, made, target in matrix.whole_networks():
        matrix.write(folder / name, matrix.project(made, target))
    board = emit.emit(golden_network.planned("generic-m4"), load(BOARD), "0" * 64)
    matrix.write(folder / "board", board)
    return folder


def sources(folder: Path, *patterns: str) -> list[str]:
    """Names of files relative to a folder, some of which every pattern may lack."""
    found = sorted(str(path.relative_to(folder)) for p in patterns for path in folder.glob(p))
    assert found
    return found


def silent(command: Sequence[str], folder: Path) -> None:
    """Runs a program that must find nothing."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.mark.parametrize("compiler", ["gcc", "arm-none-eabi-gcc"])
def test_gcc_warns_of_nothing(compiler: str, projects: Path, require: Require) -> None:
    core = CORTEX_M4 if compiler.startswith("arm") else ()
    program = require(compiler)
    files = sources(projects, "*/net*.c", "*/golden.c", "*/kernels*.c")
    silent((program, *core, *STRICT, "-O2", "-fsyntax-only", *files), projects)


def test_clang_warns_of_nothing(projects: Path) -> None:
    """The clang that zig brings, as for a core."""
    files = sources(projects, "*/net*.c", "*/golden.c", "*/kernels*.c")
    silent((*ZIG_CLANG, *STRICT, *TIDY_TARGET, "-fsyntax-only", *files), projects)


def test_gccs_analyzer_finds_nothing(projects: Path, require: Require, tmp_path: Path) -> None:
    program = require("gcc")
    files = [str(projects / name) for name in sources(projects, "*/golden.c", "*/kernels*.c")]
    silent((program, "-std=c99", "-O2", "-fanalyzer", "-Werror", "-c", *files), tmp_path)


def test_clang_tidy_finds_nothing(projects: Path, require: Require) -> None:
    program = require("clang-tidy")
    files = sources(projects, "*/golden.c", "*/kernels*.c")
    checks = ("--quiet", f"--checks={','.join(TIDY_CHECKS)}", "--warnings-as-errors=*")
    silent((program, *checks, *files, "--", *TIDY_TARGET), projects)


def test_firmware_of_a_board_passes_too(projects: Path, require: Require, tmp_path: Path) -> None:
    files = [str(path) for path in sorted((projects / "board").glob("*.c"))]
    assert len(files) > 6
    gcc, tidy = require("arm-none-eabi-gcc"), require("clang-tidy")
    silent((gcc, *CORTEX_M4, *STRICT, "-O2", "-fanalyzer", "-c", *files), tmp_path)
    checks = ("--quiet", f"--checks={','.join(TIDY_CHECKS)}", "--warnings-as-errors=*")
    silent((tidy, *checks, *files, "--", *TIDY_TARGET), projects)


def test_nothing_is_undefined_but_memcpy_and_memset(
    projects: Path, require: Require, tmp_path: Path
) -> None:
    flags = ("-std=c99", "-O2", "-fno-pie", "-fno-stack-protector", "-r", "-nostdlib")
    for name in ("all-generic-m4", "all-generic-m0plus", *golden_network.NAMES):
        files = sources(projects / name, "net*.c", "golden.c", "kernels*.c")
        silent((require("gcc"), *flags, *files, "-o", str(tmp_path / "all.o")), projects / name)
        command = (require("nm"), "-u", "-P", str(tmp_path / "all.o"))
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert {line.split()[0] for line in listed.splitlines()} <= {"memcpy", "memset"}


def listed_deviations() -> dict[str, str]:
    """Rule -> category, from the table in docs/misra.md."""
    rows = re.findall(
        r"^\| (\d+\.\d+) \| (\w+) \| .{20,} \|$", (DOCS / "misra.md").read_text(), re.M
    )
    assert rows
    return dict(rows)


@pytest.fixture(scope="session")
def found_by_cppcheck(projects: Path, require: Require) -> Counter[str]:
    """How often each rule was found broken, project by project."""
    program = require("cppcheck")
    found: Counter[str] = Counter()
    kinds = "--enable=warning,style,performance,portability"
    command = (program, "--quiet", "-j2", "--std=c99", "--platform=unix32", kinds, "--addon=misra")
    shown = ("--template={id} {file}:{line}", "--template-location=")
    folders = [f"all-{target}" for target in matrix.TARGETS] + [*golden_network.NAMES]
    # Constants of layers are alike: one of the many small networks stands for all.
    patterns = ("kernels*.c", "golden.c", "net0.c", "app.c")
    groups = [sources(projects, *(f"{name}/{p}" for p in patterns)) for name in folders]
    for files in groups:
        done = subprocess.run(
            (*command, *shown, *files), cwd=projects, capture_output=True, text=True, check=True
        )
        found.update(line.split()[0] for line in done.stderr.splitlines() if line.strip())
    return found


def test_cppcheck_finds_nothing_else(found_by_cppcheck: Counter[str]) -> None:
    other = {name: n for name, n in found_by_cppcheck.items() if not name.startswith(MISRA)}
    assert set(other) <= NO_DEFECTS, other


def test_misra_deviations_are_the_listed_ones(found_by_cppcheck: Counter[str]) -> None:
    broken = {name.removeprefix(MISRA) for name in found_by_cppcheck if name.startswith(MISRA)}
    assert broken == set(listed_deviations())
    assert not broken & MANDATORY
