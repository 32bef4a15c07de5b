"""Hot code in assembly has its wide instructions on words: a Cortex-M4 stalls on runs of misaligned ones.

The cortex-m4 model prices every third wide instruction in a row at an odd halfword (docs/kernels.md).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest

from benchmarks.models import TASKS, Task
from codegen import emit
from codegen.select import Objective
from emulator import elf
from emulator.blocks import BlockCount
from emulator.cortex_m import CortexM
from emulator.model import EmulatedModel
from emulator.timing.price import Cost, calibrated
from targets import toolchain
from targets.machine import ModelImage
from targets.target import Target, load
from tests.golden import network
from thumbnet import compiler, project
from thumbnet.options import CompileOptions

BOARD = "nucleo-l4r5zi"
COMPILERS = ["zig", "gcc"] if shutil.which("arm-none-eabi-gcc") else ["zig"]
HOT = 0.99  # of the cycles: the blocks that together make up so much; prologues lie beyond
MOST_STALLS = 0.01  # of all cycles
# Depthwise kernels may stall where strips or taps are set up, as long as it is little in all.
SETUP = "depthwise"
BUILDS: list[tuple[Task, Objective]] = [(task, "balanced") for task in TASKS]
BUILDS += [(task, "speed") for task in TASKS if task.name in ("kws", "ic", "vww")]


@dataclass(frozen=True, slots=True)
class Spent:
    """What the executions of one block cost."""

    function: str
    block: BlockCount
    cost: Cost


def test_the_misaligned_run_is_found() -> None:
    """The measure itself: four wide instructions, on words and two bytes on."""
    code = bytes.fromhex("00bf") + bytes.fromhex("c8f30100") * 4  # nop; ubfx
    pricing = calibrated(load(BOARD))
    cost, _ = pricing.block(BlockCount(0x100, len(code), 1, 0), code)
    assert cost.alignment > 1
    cost, _ = pricing.block(BlockCount(0x102, len(code), 1, 0), code)
    assert cost.alignment == 0


@pytest.mark.parametrize(
    "chosen",
    [
        chosen if chosen == COMPILERS[-1] else pytest.param(chosen, marks=pytest.mark.sweep)
        for chosen in COMPILERS
    ],
)
@pytest.mark.parametrize(
    ("task", "optimize"), BUILDS, ids=[f"{task.name}-{goal}" for task, goal in BUILDS]
)
def test_reference_models(
    task: Task, optimize: Objective, chosen: str, data_dir: Path, tmp_path: Path
) -> None:
    sets = data_dir / "datasets"
    calib = str(sets / task.calib) if task.calib else None
    options = CompileOptions(
        target=BOARD, optimize=optimize, data=str(sets / task.data), calib=calib
    )
    compiled = compiler.compile_model(data_dir / "models" / f"{task.name}.onnx", options)
    project.write(tmp_path, compiled.files)
    manifest = project.read_manifest(tmp_path)
    spent = profile(
        tmp_path, project.image(manifest), (*manifest["firmware"], *manifest["sources"]), chosen
    )
    hot_code_is_aligned(spent, assembly_functions(tmp_path))
    total = sum((one.cost for one in spent), Cost())
    print(
        f"{task.name} {optimize} {chosen}: {total.alignment / total.total:.3%} of {total.cycles:,}"
    )
    assert total.alignment <= MOST_STALLS * total.total


@pytest.mark.parametrize("chosen", COMPILERS)
def test_golden_kernels(chosen: str, tmp_path: Path) -> None:
    """Without reference data: borders, tails, an odd number of pixels, a clamp."""
    target = "generic-m4"
    made = network.planned(target)
    emitted = emit.emit(made, load(target), network.SHA256)
    for name, text in emitted.files.items():
        (tmp_path / name).write_text(text)
    sizes = [
        tuple(made.graph.tensors[port.tensor].size for port in ports)
        for ports in (made.graph.inputs, made.graph.outputs)
    ]
    image = ModelImage(made.graph.name, len(made.steps), sizes[0], sizes[1], made.size)
    spent = profile(tmp_path, image, (*emitted.firmware, *emitted.sources), chosen, target)
    hot_code_is_aligned(spent, assembly_functions(tmp_path))


def profile(
    folder: Path, image: ModelImage, sources: tuple[str, ...], chosen: str, board: str = BOARD
) -> list[Spent]:
    """Every executed block of one inference on random inputs, the most expensive first."""
    target = load(board)
    program = folder / "model.elf"
    toolchain.build_firmware(toolchain.find(chosen), target, folder, sources, "link.ld", program)
    generator = np.random.default_rng(0)
    inputs = tuple(generator.integers(0, 256, n, np.uint8).tobytes() for n in image.inputs)
    with EmulatedModel(CortexM(target, program, count=True), image) as model:
        steps = model.infer(inputs).blocks
    blocks = (block for step in steps for block in step)
    return sorted(priced(blocks, target, elf.read(program)), key=lambda one: -one.cost.total)


def priced(blocks: Iterable[BlockCount], target: Target, image: elf.Image) -> Iterable[Spent]:
    pricing = calibrated(target)
    for block in blocks:
        cost, _ = pricing.block(block, image.code(block.address, block.size))
        yield Spent(image.function_at(block.address), block, cost)


def assembly_functions(folder: Path) -> set[str]:
    """Functions that templates in assembly define; a compiler places the others as it likes."""
    text = "".join(path.read_text() for path in folder.glob("kernels_*.S"))
    return set(re.findall(r"\.type (\w+), %function", text))


def hot_code_is_aligned(spent: list[Spent], functions: set[str]) -> None:
    """No stall in the most expensive blocks that together make up HOT of the cycles in assembly."""
    mine = [one for one in spent if one.function in functions and SETUP not in one.function]
    total = sum(one.cost.total for one in mine)
    before = accumulate((one.cost.total for one in mine), initial=0.0)
    hot = [one for one, cycles in zip(mine, before, strict=False) if cycles < HOT * total]
    assert hot
    stalled = [f"{one.function} at {one.block.address:#x}" for one in hot if one.cost.alignment]
    assert not stalled
