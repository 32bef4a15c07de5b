"""What runs a model: an emulator or a board on a wire. A check is written once, against this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self


@dataclass(frozen=True, slots=True)
class ModelImage:
    """What a host must know of the model inside a firmware image."""

    name: str  # prefix of its C functions
    steps: int
    inputs: tuple[int, ...]  # bytes of each
    outputs: tuple[int, ...]
    arena_size: int
    context: str = "app_ctx"  # the variable that holds the model's context
    row: int = 0  # bytes of a row, where the input is pushed row by row


@dataclass(frozen=True, slots=True)
class StepCount:
    """The cost of one step of one inference."""

    instructions: int
    cycles: int


@dataclass(frozen=True, slots=True)
class Inference:
    """One inference: its result and what it took."""

    outputs: tuple[bytes, ...]
    steps: tuple[StepCount, ...]  # empty when steps were not measured
    stack: int  # most bytes of stack in use
    arena_high_water: int  # bytes of arena up to the last one written


class Machine(Protocol):
    """Enter it (boot or connect), infer any number of times, leave it (close)."""

    def __enter__(self) -> Self:
        """Brings the model into the state in which it accepts inputs."""

    def __exit__(self, *error: object) -> None:
        """Releases the machine."""

    def infer(self, inputs: tuple[bytes, ...]) -> Inference:
        """Runs one inference on raw input bytes, in the model's order of inputs."""
