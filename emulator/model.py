"""A model inside an emulated firmware, as a machine that infers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from emulator import rows
from emulator.blocks import BlockCount
from emulator.cortex_m import Measured
from emulator.engine import Engine
from emulator.fault import Fault
from emulator.memory import POISON
from emulator.monitor import Events
from emulator.shadow import ArenaMap, Shadow
from emulator.timing.price import pricing
from targets.errors import UsageError
from targets.machine import Inference, ModelImage, StepCount


@dataclass(frozen=True, slots=True)
class EmulatedInference(Inference):
    """What only an emulator sees, per step: to be priced by any cycle model, and to be profiled."""

    blocks: tuple[tuple[BlockCount, ...], ...] = ()
    events: tuple[Mapping[int, Events], ...] = ()


class _Booted(ABC):
    """A firmware on a machine: booted by `with`, closed behind it."""

    def __init__(self, machine: Engine) -> None:
        self._machine = machine

    @abstractmethod
    def _boot(self) -> None:
        """Runs to where functions can be called."""

    def __enter__(self) -> Self:
        """Boots the firmware."""
        try:
            self._boot()
        except BaseException:  # no __exit__ follows: nothing may be left running
            self._machine.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the machine."""
        self._machine.close()


class EmulatedModel(_Booted):
    """The emulator's `Machine`. The image must hold what templates/board/main.c.j2 makes."""

    def __init__(
        self,
        machine: Engine,
        image: ModelImage,
        cycles_model: str = "m4-simple",
        arena: ArenaMap | None = None,
    ) -> None:
        """Takes over a machine that has not been booted.

        Args:
            machine: made with count=True, it is run and measured step by step; otherwise in one
                call, which is faster, and the inferences have no steps.
            image: what the host knows of the model.
            cycles_model: how to price steps.
            arena: what each step is meant to access; a machine that watches then checks every byte.
        """
        super().__init__(machine)
        self._image = image
        self._pricing = pricing(cycles_model)
        self._map = arena
        self._shadow: Shadow | None = None
        self._context = 0
        self._arena = 0

    def attach(self) -> None:
        """Takes the machine for this model: its context and arena, and what it may access."""
        self._context = self._machine.address(self._image.context)
        self._arena = self._machine.address("app_arena")
        self._machine.confine(self._image.context, "app_arena", rows.ROW)
        if self._map is not None:
            self._shadow = self._machine.shadow(self._arena, self._map)

    def infer(self, inputs: tuple[bytes, ...]) -> EmulatedInference:
        """Runs one inference on an arena that holds nothing of the last one."""
        machine, image = self._machine, self._image
        self._load(inputs)
        runs = tuple(self._run(inputs))
        outputs = tuple(
            machine.read(self._call("output", i), size) for i, size in enumerate(image.outputs)
        )
        return EmulatedInference(
            outputs,
            tuple(self._count(run) for run in runs) if machine.counts else (),
            max((run.stack for run in runs), default=0),
            len(machine.read(self._arena, image.arena_size).rstrip(bytes((POISON,)))),
            tuple(run.blocks for run in runs) if machine.counts else (),
            tuple(run.events for run in runs) if machine.counts else (),
        )

    def trace(self, inputs: tuple[bytes, ...]) -> Iterator[bytes]:
        """The whole arena after each step of an inference, to find where it goes wrong."""
        self._load(inputs)
        for step in range(self._image.steps):
            if step == 0 and self._image.row:
                rows.push(self._machine, self._image, self._context, inputs[0])
            else:
                self._machine.call(f"{self._image.name}_run_step", self._context, step)
            yield self._machine.read(self._arena, self._image.arena_size)

    def _boot(self) -> None:
        _boot(self._machine, self._image.name)
        self.attach()

    def _load(self, inputs: tuple[bytes, ...]) -> None:
        sizes = tuple(len(data) for data in inputs)
        if sizes != self._image.inputs:
            raise UsageError(f"the model takes inputs of {self._image.inputs} bytes, not {sizes}")
        self._machine.poison(self._arena, self._image.arena_size)
        for i, data in enumerate(() if self._image.row else inputs):
            self._machine.write(self._call("input", i), data)
        if self._shadow:
            self._shadow.begin()

    def _run(self, inputs: tuple[bytes, ...]) -> list[Measured]:
        if not self._machine.counts and not self._shadow:
            if not self._image.row:
                return [self._measure("run")]
            return [self._run_step(0, inputs), self._measure("finish")]
        runs = [self._run_step(step, inputs) for step in range(self._image.steps)]
        if self._shadow:
            self._require(self._shadow.end())
        return runs

    def _run_step(self, step: int, inputs: tuple[bytes, ...]) -> Measured:
        try:
            if self._shadow:
                self._require(self._shadow.enter(step))
            if step == 0 and self._image.row:
                run = rows.push(self._machine, self._image, self._context, inputs[0])
            else:
                run = self._measure("run_step", step)
            if self._shadow:
                self._require(self._shadow.leave(step))
        except Fault as fault:
            raise fault.in_step(step) from fault
        return run

    def _require(self, wrong: tuple[str, int] | None) -> None:
        if wrong:
            raise self._machine.fault(*wrong)

    def _measure(self, function: str, *arguments: int) -> Measured:
        """Calls one of the model's functions, which must answer OK."""
        run = self._machine.measure(f"{self._image.name}_{function}", self._context, *arguments)
        if run.result:
            what = f"{self._image.name}_{function} returned {_signed(run.result)}"
            raise self._machine.fault(what)
        return run

    def _call(self, function: str, index: int) -> int:
        address = self._machine.call(f"{self._image.name}_{function}", self._context, index)
        if not address:
            raise self._machine.fault(f"{self._image.name}_{function}({index}) returned NULL")
        return address

    def _count(self, run: Measured) -> StepCount:
        cost = self._pricing.run(run.blocks, self._machine.code)
        return StepCount(cost.instructions, cost.cycles)


class EmulatedApp(_Booted):
    """Several models in one firmware, in one arena, on one machine: they run one after the other.

    The image must hold what templates/app makes.
    """

    def __init__(
        self, machine: Engine, images: Sequence[ModelImage], arenas: Sequence[ArenaMap | None]
    ) -> None:
        """Takes over a machine that has not been booted; see EmulatedModel."""
        super().__init__(machine)
        pairs = zip(images, arenas, strict=True)
        self._models = tuple(EmulatedModel(machine, image, arena=arena) for image, arena in pairs)

    def _boot(self) -> None:
        _boot(self._machine, "app")

    def infer(self, model: int, inputs: tuple[bytes, ...]) -> EmulatedInference:
        """Runs one inference of one of the models, which may touch no other's context."""
        self._models[model].attach()
        return self._models[model].infer(inputs)


def _boot(machine: Engine, name: str) -> None:
    machine.boot()
    status = machine.read_word(machine.address("app_status"))
    if status:
        raise machine.fault(f"{name}_init returned {_signed(status)}")


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word
