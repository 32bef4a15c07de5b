"""Fault drills: bugs planted in a generated project each end in a report that says what and where."""

from __future__ import annotations

import json
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.thumbnet.test_cli import thumbnet

ROOT = Path(__file__).resolve().parent.parent.parent
DIGITS = ROOT / "examples/digits/digits.onnx"
MOST_SECONDS = 5
CPACR = "    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20;\n"


@dataclass(frozen=True)
class Bug:
    """C that goes wrong, in front of a step; and what the report must say."""

    code: str
    reason: str
    step: int | None = 2
    target: str = "generic-m4"
    startup: tuple[str, str] = ("", "")  # text of startup.c, and its replacement
    instruction: str = ""


BUGS = {
    "null write": Bug(
        "volatile uintptr_t at = 0; *(volatile int32_t *)at = 1;", "write to unmapped memory"
    ),
    "flash write": Bug("*(volatile int32_t *)(uintptr_t)step0_weights = 1;", "write to flash"),
    "stack overflow": Bug('__asm__ volatile("1: push {r0-r7}\\n b 1b");', "stack overflow"),
    "unaligned ldm": Bug(
        '__asm__ volatile("ldmia %0, {r2, r3}" :: "r"(arena + 1) : "r2", "r3");',
        "unaligned access",
        instruction="ldm",
    ),
    "division by zero": Bug(
        '__asm__ volatile("sdiv r2, %0, %1" :: "r"(step), "r"(0) : "r2");',
        "division by zero",
        instruction="sdiv",
    ),
    "undefined instruction": Bug('__asm__ volatile("udf #0");', "undefined instruction"),
    "floats before they are enabled": Bug(
        '__asm__ volatile(".short 0xeeb0, 0x0a40");',
        "floating-point instruction before CPACR",
        step=2,
        startup=(CPACR, ""),
    ),
    "dsp on a cortex-m3": Bug(
        '__asm__ volatile(".short 0xfb21, 0x3002" ::: "r0");',
        "smlad needs the DSP extension",
        target="generic-m3",
        instruction="smlad",
    ),
    "endless loop": Bug('__asm__ volatile("b .");', "did not return within"),
    "read past the arena": Bug(
        "(void)*(volatile int8_t *)(arena + DIGITS_ARENA_SIZE);", "read of RAM outside"
    ),
    "stale read": Bug(
        "(void)*(volatile int8_t *)(arena + DIGITS_ARENA_SIZE - 1);", "never written", step=0
    ),
    "missing vector": Bug(
        "", "no reset handler", step=None, startup=("        Reset_Handler,\n", "        0,\n")
    ),
}


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("drills")
    made = {}
    for target in ("generic-m4", "generic-m3"):
        made[target] = root / target
        data = ("--calib", "random", "--target", target)
        assert thumbnet("generate", DIGITS, "-o", made[target], *data).returncode == 0
    return made


def used_seconds() -> float:
    """Of processors, by finished children: other programs on this machine do not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def plant(bug: Bug, healthy: Path, folder: Path) -> Path:
    shutil.copytree(healthy, folder)
    model = folder / "digits.c"
    text = model.read_text()
    case = f"    case {bug.step or 0}u:\n        digits_"
    assert text.count(case) == 1
    model.write_text(text.replace(case, case.replace("digits_", f"{{ {bug.code} }} digits_")))
    startup = folder / "startup.c"
    before, after = bug.startup
    assert before in startup.read_text()
    startup.write_text(
        startup.read_text().replace(before, after, 1) if before else startup.read_text()
    )
    return folder


@pytest.mark.parametrize("name", BUGS)
def test_drill(projects: dict[str, Path], tmp_path: Path, name: str) -> None:
    bug = BUGS[name]
    folder = plant(bug, projects[bug.target], tmp_path / "project")
    assert thumbnet("build", folder).returncode == 0
    begin = used_seconds()
    done = thumbnet("emulate", folder, "--accuracy", "none", "--json")
    took = used_seconds() - begin
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert took < MOST_SECONDS
    error: dict[str, Any] = json.loads(done.stdout)["error"]
    fault = error["fault"]
    assert bug.reason in fault["reason"]
    assert bug.reason in error["message"]
    assert set(fault["registers"]) >= {"r0", "sp", "lr", "pc"}
    if bug.step is None:
        return
    assert fault["step"] == bug.step
    assert fault["layer"]
    assert fault["symbol"] == "digits_run_step"
    assert bug.instruction in fault["instruction"]
