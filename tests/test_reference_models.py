"""The five reference models, end to end, on real data (fixture data_dir)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.models import TASKS, Task, Toolchain, data_folder, measure
from thumbnet import compiler, project, verify
from thumbnet.options import CompileOptions, EngineName, RunOptions

# Least score of the device, over the whole set; the float model's is at most 0.007 away.
LEAST = {"kws": 0.90, "ic": 0.85, "vww": 0.84, "ad": 0.86, "sww": 0.93}
ARENA = {"kws": 8_960, "ic": 33_280, "vww": 37_632, "ad": 768, "sww": 3_840}  # ad: 976 B in all
LEAST_ARENA = {
    "kws": 4_394,
    "ic": 11_920,
    "vww": 27_740,
    "ad": 768,
    "sww": 3_712,
}  # --optimize sram
SMALL_TOTAL = {"kws": 5_600, "ic": 14_600, "vww": 29_000, "ad": 1_000, "sww": 4_100}
SMALL_CYCLES = {"kws": 5.0e6, "ic": 15.46e6, "vww": 6.0e6, "ad": 0.35e6, "sww": 1.16e6}
MOST_CYCLES = {"kws": 3.25e6, "ic": 10.5e6, "vww": 5.43e6, "ad": 0.35e6, "sww": 1.03e6}
MOST_FLASH = {"kws": 40_000, "ic": 89_000, "vww": 58_000, "ad": 282_000, "sww": 58_000}
MOST_BALANCED_FLASH = {"kws": 50_000, "ic": 110_000, "vww": 80_000, "ad": 285_000}
MOST_INSTRUCTIONS = {"kws": 8.5e6, "ic": 31.2e6, "vww": 13.8e6, "ad": 0.57e6, "sww": 2.6e6}  # M0+
MOST_STACK = 512  # bytes
COMPILERS: list[Toolchain] = ["zig", "gcc"] if shutil.which("arm-none-eabi-gcc") else ["zig"]
ENGINES: tuple[EngineName, ...] = ("unicorn", "qemu")
MODELS = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


@pytest.fixture(autouse=True)
def _data(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBNET_DATA", str(data_dir))


def proved(found: dict[str, Any], samples: int = 20) -> None:
    assert found["samples"] == samples
    assert found["mismatched_bytes"] == 0
    if found["host"] is not None:
        assert found["host"]["mismatched_bytes"] == 0


@MODELS
def test_accuracy_and_every_byte_on_m4(task: Task) -> None:
    found = measure(task, "generic-m4", "auto")
    proved(found)
    accuracy = found["accuracy"]
    assert found["host"]["samples"] == accuracy["samples"] >= 200
    assert accuracy["device"] >= LEAST[task.name]
    assert accuracy["device"] >= accuracy["float"] - 0.007
    sram = found["sram"]
    assert sram["arena"] == sram["arena_bound"] == ARENA[task.name]
    assert sram["stack"] <= sram["stack_bound"] <= min(MOST_STACK, sram["stack"] + 64)
    assert not any(layer["op"] == "transpose" for layer in found["layers"])
    assert found["cycles"] <= MOST_CYCLES[task.name]


@MODELS
def test_objectives(task: Task) -> None:
    small = measure(task, "generic-m4", "auto", accuracy="none", optimize="flash")
    proved(small)
    if small["toolchain"].startswith("arm-none-eabi-gcc"):  # zig unrolls more
        assert small["flash"]["total"] <= MOST_FLASH[task.name]
    tight = measure(task, "generic-m4", "auto", accuracy="none", optimize="sram")
    proved(tight)
    assert tight["sram"]["arena"] == tight["sram"]["arena_bound"] == LEAST_ARENA[task.name]
    if tight["toolchain"].startswith("arm-none-eabi-gcc"):  # zig's drivers take more stack
        assert tight["sram"]["total"] <= SMALL_TOTAL[task.name]
        assert tight["cycles"] <= SMALL_CYCLES[task.name]


@pytest.mark.sweep
@pytest.mark.usefixtures("qemu")
@MODELS
def test_qemu_gives_the_same_bytes_and_counts(task: Task, tmp_path: Path) -> None:
    sets = data_folder() / "datasets"
    calib = str(sets / task.calib) if task.calib else None
    data = str(sets / task.data)
    options = CompileOptions(target="mps2-an386", data=data, calib=calib)
    compiled = compiler.compile_model(data_folder() / "models" / f"{task.name}.onnx", options)
    folder = tmp_path / task.name
    project.write(folder, compiled.files)
    there, here = (
        verify.verify(folder, RunOptions(data=data, accuracy="none", max_samples=2, engine=engine))
        for engine in ENGINES
    )
    for found in (there, here):
        proved(found, 2)
    assert (here["engine"], here["not_counted"]) == ("qemu", None)
    for key in ("instructions", "sram"):
        assert here[key] == there[key]
    counts = [[layer["instructions"] for layer in found["layers"]] for found in (there, here)]
    assert counts[0] == counts[1] and all(counts[0])
    assert here["cycles"] == pytest.approx(there["cycles"], rel=2e-3)  # blocks are cut otherwise


@pytest.mark.parametrize(
    "task", [t for t in TASKS if t.name in MOST_BALANCED_FLASH], ids=lambda task: task.name
)
@pytest.mark.sweep
def test_balanced_is_almost_as_fast_in_far_less_flash(task: Task) -> None:
    fast = measure(task, "generic-m4", "auto", accuracy="none", optimize="speed")
    proved(fast)
    fair = measure(task, "generic-m4", "auto", accuracy="none", optimize="balanced")
    assert fast["cycles"] <= fair["cycles"] <= 1.15 * fast["cycles"]
    assert fair["flash"]["total"] <= MOST_BALANCED_FLASH[task.name]
    if task.name == "ic":
        assert fast["cycles"] <= 9.1e6


@pytest.mark.sweep
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("target", ["generic-m0plus", "generic-m4", "generic-m7"])
@MODELS
def test_every_byte_on_other_cores(task: Task, target: str, compiler: Toolchain) -> None:
    found = measure(task, target, compiler, accuracy="none")
    proved(found)
    if target == "generic-m0plus":
        fast = measure(task, target, compiler, accuracy="none", optimize="speed")
        proved(fast)
        assert fast["instructions"] <= MOST_INSTRUCTIONS[task.name]
