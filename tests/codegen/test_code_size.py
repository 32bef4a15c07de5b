"""Predicted bytes of code against functions that a compiler made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from codegen import plan
from codegen.code_size import code_bytes
from codegen.kernel import Kernel
from codegen.ops import KERNELS
from emulator import elf
from targets import sizes, toolchain
from targets.target import load
from tests.codegen import cases
from tests.codegen.firmware import Written, write

EVERY = [kernel for kernels in KERNELS.values() for kernel in kernels]
TUNED = [kernel for kernel in EVERY if kernel.assembly]
SHOWN = 12  # cases of each kernel
gcc = pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="sizes are those of gcc")


@gcc
@pytest.mark.sweep
@pytest.mark.parametrize("kernel", TUNED, ids=lambda kernel: kernel.name)
def test_assembly(kernel: Kernel, tmp_path: Path) -> None:
    target = next(name for name in ("generic-m4", "generic-m0plus") if list(_layers(kernel, name)))
    cases = list(_layers(kernel, target))
    for number, case in enumerate(cases[:: max(1, len(cases) // SHOWN)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = plan.make(case.graph, load(target).core, overrides={"node": kernel.name})
        written = write(case.graph, target, folder, kernel)
        _build(written)
        (function,) = made.functions
        size = _size(folder / "net.elf", function.name)
        predicted = code_bytes(kernel, function.instance, load(target).core)
        assert predicted == pytest.approx(size, rel=0.16), case.name


def _layers(kernel: Kernel, target: str) -> list[cases.Case]:
    core = load(target).core
    found = []
    for case in cases.cases():
        for step in plan.make(case.graph, core).steps:
            if any(k is kernel and k.serves(step.layer) for k in KERNELS[step.layer.node.op.kind]):
                found.append(case)
    return found


def _build(written: Written) -> None:
    sources = ("startup.c", "main.c", *written.sources)
    compiler, image = toolchain.find("gcc"), written.folder / "net.elf"
    toolchain.build_firmware(
        compiler, load(written.target), written.folder, sources, "link.ld", image
    )


def _size(path: Path, name: str) -> int:
    return next(s.size for s in elf.read(path).functions if s.name == name)


@gcc
@pytest.mark.parametrize("name", ["conv-3x3-same", "depthwise-wide-rows", "dense-640x16"])
@pytest.mark.parametrize("target", ["generic-m4", "generic-m0plus", "generic-m3"])
def test_flash_of_an_image(name: str, target: str, tmp_path: Path) -> None:
    case = next(case for case in cases.cases() if case.name == name)
    written = write(case.graph, target, tmp_path)
    _build(written)
    found = sizes.sizes(tmp_path / "net.elf")
    made = plan.make(case.graph, load(target).core, "speed")
    room = 64 if all(step.kernel.assembly for step in made.steps) else 128  # C is known roughly
    actual = found.code + found.constants
    assert made.predicted_flash == pytest.approx(actual, rel=0.08, abs=room)
