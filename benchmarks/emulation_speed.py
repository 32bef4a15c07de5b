"""How fast the emulator is: `python -m benchmarks.emulation_speed [--model NAME] [--runs N]`.

One inference of a reference model in one process, by the bare engine, with blocks counted, and with every
access watched; the fastest of some runs each, and the ratios to the bare engine in the same process. Seconds
are of this machine and noisy; the ratios tell.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.models import TASKS, data_folder
from emulator.cortex_m import CortexM
from emulator.model import EmulatedModel
from targets import load
from thumbnet import compiler, project, timing, verify
from thumbnet.options import CompileOptions


@dataclass(frozen=True)
class Mode:
    name: str
    count: bool
    watch: bool


MODES = (
    Mode("bare engine", count=False, watch=False),
    Mode("blocks counted", count=True, watch=False),
    Mode("every access watched", count=True, watch=True),
)


def seconds(folder: Path, mode: Mode, runs: int) -> float:
    """The fastest call of the whole model."""
    manifest = project.read_manifest(folder)
    image, target = project.image(manifest), load(manifest["target"])
    elf = folder / verify.BUILD / f"{image.name}.elf"
    machine = CortexM(target, elf, count=mode.count, watch=mode.watch)
    taken = []
    with EmulatedModel(machine, image) as model:
        model.infer(tuple(bytes(size) for size in image.inputs))  # translates the code
        for _ in range(runs):
            begin = time.perf_counter()
            machine.call(f"{image.name}_run", machine.address("app_ctx"))
            taken.append(time.perf_counter() - begin)
    return min(taken)


def profile_seconds(folder: Path) -> float:
    """An inference, its price and its profile by layer, function and line, once the code is translated."""
    manifest = project.read_manifest(folder)
    image, target = project.image(manifest), load(manifest["target"])
    path = folder / verify.BUILD / f"{image.name}.elf"
    inputs = tuple(bytes(size) for size in image.inputs)
    with EmulatedModel(CortexM(target, path, count=True), image) as model:
        model.infer(inputs)
        begin = time.perf_counter()
        run = model.infer(inputs)
        timing.profiled(run, target, path, manifest["layers"])
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=[task.name for task in TASKS], default="vww")
    parser.add_argument("--target", default="generic-m4")
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    model = data_folder() / "models" / f"{options.model}.onnx"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / options.model
        compiling = CompileOptions(target=options.target, calib="random")
        project.write(folder, compiler.compile_model(model, compiling).files)
        verify.build(folder)
        found = [seconds(folder, mode, options.runs) for mode in MODES]
        profiled = profile_seconds(folder)
    print("| mode | ms per inference | speed of the bare engine |")
    print("|---|---|---|")
    for mode, taken in zip(MODES, found, strict=True):
        print(f"| {mode.name} | {taken * 1e3:.1f} | {found[0] / taken:.0%} |")
    print(f"| inference, priced and profiled by source line | {profiled * 1e3:.1f} | |")


if __name__ == "__main__":
    main()
