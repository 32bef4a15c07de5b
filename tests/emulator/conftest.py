"""Firmware of the fake model, built once per target and toolchain."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.cortex_m import CortexM
from targets import load
from targets.toolchain import build_firmware, find
from tests.emulator.fake_model import SOURCES, Build, render

Boot = Callable[..., CortexM]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """build(target, toolchain) -> ELF."""
    root = tmp_path_factory.mktemp("firmware")

    def make(target: str = "generic-m4", toolchain: str = "zig") -> Path:
        if toolchain == "gcc" and not shutil.which("arm-none-eabi-gcc"):
            pytest.skip("arm-none-eabi-gcc is not installed")
        output = root / f"{target}-{toolchain}.elf"
        if not output.exists():
            project = render(target, root / f"{target}-{toolchain}")
            build_firmware(find(toolchain), load(target), project, SOURCES, "link.ld", output)
        return output

    return make


@pytest.fixture
def boot(build: Build) -> Boot:
    """boot(target, **options) -> a machine that is idle; a call has two seconds."""

    def make(target: str = "generic-m4", count: bool = False, timeout_s: float = 2) -> CortexM:
        machine = CortexM(load(target), build(target), count=count, timeout_s=timeout_s)
        machine.boot()
        return machine

    return make
