"""A built firmware and its inputs -> inferences, measured and watched."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emulator import native
from emulator.cortex_m import CortexM
from emulator.engine import Engine
from emulator.fault import Fault
from emulator.model import EmulatedApp, EmulatedInference, EmulatedModel
from emulator.qemu import QemuMachine
from emulator.shadow import ArenaMap
from targets.machine import ModelImage
from targets.target import Target
from thumbnet.options import RunOptions

Int8Array = npt.NDArray[np.int8]
Sample = tuple[bytes, ...]  # the inputs of one inference
WORTH_A_PROCESS = 500_000_000  # instructions, some seconds; a process takes one to start


@dataclass(frozen=True, slots=True)
class Job:
    """What to run.

    Attributes:
        target: the board.
        elf: the firmware.
        image: what a host must know of the model in it.
        layers: names of the model's steps.
        instruction_limit: an inference that takes more never ends.
        options: the engine, what to check, whether to count.
        arena: what each step is meant to access.
    """

    target: Target
    elf: Path
    image: ModelImage
    layers: tuple[str, ...]
    instruction_limit: int
    options: RunOptions
    arena: ArenaMap | None = None

    def engine(self, watch: bool = False) -> Engine:
        """A machine that has not been booted."""
        count = self.options.profile
        if self.options.engine == "qemu":
            return QemuMachine(self.target, self.elf, count=count)
        limit = self.instruction_limit
        return CortexM(self.target, self.elf, count=count, watch=watch, instruction_limit=limit)


def samples(arrays: tuple[Int8Array, ...]) -> list[Sample]:
    """Batches of inputs -> the bytes of each inference."""
    return [tuple(x[i].tobytes() for x in arrays) for i in range(len(arrays[0]))]


def infer(
    job: Job, inputs: list[Sample], advance: Callable[[int], None]
) -> tuple[list[EmulatedInference], int]:
    """Every inference, and how many of the first ones had every access checked."""
    checked = _checked(job.options, len(inputs))
    runs = _infer(job, inputs[:checked], watch=True) if checked else []
    advance(checked)
    if not runs and inputs:
        runs = _infer(job, inputs[:1])
        advance(1)
    rest = inputs[len(runs) :]
    instructions = sum(step.instructions for step in runs[0].steps) if runs else 0
    if instructions * len(rest) > WORTH_A_PROCESS and job.options.engine == "unicorn":
        runs += _infer_in_parallel(job, rest, advance)
    else:
        runs += _infer(job, rest, advance)
    return runs, checked


def interleave(
    jobs: Sequence[Job], inputs: Sequence[list[Sample]], advance: Callable[[int], None]
) -> tuple[list[list[EmulatedInference]], int]:
    """Inferences of several models in one firmware: the first sample of each, the second of each, ...

    Args:
        jobs: one per model, of the same image and options, with their arenas.
        inputs: the samples of each.
        advance: moves a progress bar on.

    Returns:
        The inferences of each model, and how many of the first ones had every access checked.
    """
    runs: list[list[EmulatedInference]] = [[] for _ in jobs]
    longest = max(map(len, inputs))
    checked = _checked(jobs[0].options, longest)
    for watch, rounds in ((True, range(checked)), (False, range(checked, longest))):
        for model, inference in _interleave(jobs, inputs, rounds, watch) if rounds else ():
            runs[model].append(inference)
            advance(1)
    return runs, checked


def _interleave(
    jobs: Sequence[Job], inputs: Sequence[list[Sample]], rounds: range, watch: bool
) -> Iterator[tuple[int, EmulatedInference]]:
    """Model and inference, in the order in which one machine runs them."""
    slowest = max(jobs, key=lambda job: job.instruction_limit)
    arenas = [job.arena for job in jobs]
    with EmulatedApp(slowest.engine(watch), [job.image for job in jobs], arenas) as app:
        for sample in rounds:
            for model, job in enumerate(jobs):
                if sample < len(inputs[model]):
                    yield model, _infer_one(job, partial(app.infer, model), inputs[model][sample])


def trace(job: Job, sample: Sample) -> list[bytes]:
    """The whole arena after each step of an inference."""
    with EmulatedModel(job.engine(), job.image) as model:
        return list(model.trace(sample))


def _checked(options: RunOptions, count: int) -> int:
    if options.engine != "unicorn" or options.checks == "none":
        return 0
    if options.checks == "all":
        return count
    # By default a machine without a C compiler does without checks, rather than without results.
    return 1 if native.available() else 0


def _infer(
    job: Job,
    inputs: list[Sample],
    advance: Callable[[int], None] = lambda done: None,
    watch: bool = False,
) -> list[EmulatedInference]:
    runs = []
    if inputs:
        with EmulatedModel(job.engine(watch), job.image, arena=job.arena) as model:
            for sample in inputs:
                runs.append(_infer_one(job, model.infer, sample))
                advance(1)
    return runs


def _infer_one(
    job: Job, infer: Callable[[Sample], EmulatedInference], sample: Sample
) -> EmulatedInference:
    try:
        return infer(sample)
    except Fault as fault:
        step = fault.report.step
        raise (fault if step is None else fault.in_step(step, job.layers[step])) from fault


def _infer_in_parallel(
    job: Job, inputs: list[Sample], advance: Callable[[int], None]
) -> list[EmulatedInference]:
    """The same in several processes; the order of the results is that of the inputs."""
    workers = min(os.cpu_count() or 1, len(inputs))
    parts = [inputs[i::workers] for i in range(workers)]
    with ProcessPoolExecutor(workers) as pool:
        done = []
        for part in pool.map(partial(_infer, job), parts):
            advance(len(part))
            done.append(part)
    return [done[i % workers][i // workers] for i in range(len(inputs))]
