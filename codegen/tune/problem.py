"""What there is to choose from: a format and a kernel for every layer, with what they cost and harm."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import inf

from codegen.code_size import CALLS
from codegen.quant.lower import Format

Chosen = tuple[int, ...]
"""The option of every layer."""


@dataclass(frozen=True, slots=True)
class Option:
    """A format and a kernel for a layer.

    Attributes:
        format: how flash holds its weights; None where it has none.
        kernel: the variant's name.
        loss: what the outputs of the network lose by the format, from codegen.tune.sensitivity.
        cycles: predicted, waits for flash included.
        flash: predicted bytes of its own: weights, constants, the call.
        part: its function, which other layers may share.
        part_flash: bytes of the function.
        sram: bytes that the layer's step needs: tensors that live, overlaps counted once, and scratch.
    """

    format: Format | None
    kernel: str
    loss: float
    cycles: float
    flash: int
    part: Hashable
    part_flash: int
    sram: int


@dataclass(frozen=True, slots=True)
class Problem:
    """The options of every layer, at least one each, in the order that the layers run in."""

    names: tuple[str, ...]
    options: tuple[tuple[Option, ...], ...]

    def picked(self, chosen: Chosen) -> list[Option]:
        """The options of a choice."""
        return [row[index] for row, index in zip(self.options, chosen, strict=True)]


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper limits of the totals."""

    loss: float = inf
    cycles: float = inf
    flash: float = inf
    sram: float = inf


@dataclass(frozen=True, slots=True)
class Totals:
    """What a choice costs and harms; `sram` is that of the largest step."""

    loss: float
    cycles: float
    flash: int
    sram: int

    def within(self, limits: Limits) -> bool:
        """Whether no limit is exceeded; loss and cycles, which are sums of reals, up to rounding."""
        return (
            self.loss <= limits.loss * (1 + 1e-9) + 1e-12
            and self.cycles <= limits.cycles * (1 + 1e-9)
            and self.flash <= limits.flash
            and self.sram <= limits.sram
        )


def totals(problem: Problem, chosen: Chosen) -> Totals:
    """What a choice costs: functions that several layers share count once."""
    picked = problem.picked(chosen)
    parts = {option.part: option.part_flash for option in picked}
    return Totals(
        loss=sum(option.loss for option in picked),
        cycles=sum(option.cycles for option in picked),
        flash=CALLS + sum(option.flash for option in picked) + sum(parts.values()),
        sram=max((option.sram for option in picked), default=0),
    )


def without_beaten(problem: Problem) -> tuple[Problem, list[list[int]]]:
    """The problem without options that can be in no best choice, and the indices of those that are left."""
    left = [
        [i for i, one in enumerate(row) if not _is_beaten(one, i, row)] for row in problem.options
    ]
    rows = zip(problem.options, left, strict=True)
    return Problem(problem.names, tuple(tuple(row[i] for i in kept) for row, kept in rows)), left


def _is_beaten(one: Option, index: int, row: Sequence[Option]) -> bool:
    """Whether another is as good in all even if it shares nothing and this one shares all."""
    for at, other in enumerate(row):
        as_good = (
            other.loss <= one.loss
            and other.cycles <= one.cycles
            and other.sram <= one.sram
            and other.flash + other.part_flash <= one.flash
        )
        better = (other.loss, other.cycles, other.sram) != (one.loss, one.cycles, one.sram)
        if at != index and as_good and (better or at < index):
            return True
    return False


def nondominated(points: Sequence[tuple[Chosen, Totals]]) -> list[tuple[Chosen, Totals]]:
    """The points that no other beats in loss, cycles and flash, by rising flash; equal ones once."""
    known: dict[tuple[float, float, int], tuple[Chosen, Totals]] = {}
    for point in points:
        known.setdefault((point[1].loss, point[1].cycles, point[1].flash), point)
    kept = [
        point
        for key, point in known.items()
        if not any(
            other != key and all(a <= b for a, b in zip(other, key, strict=True)) for other in known
        )
    ]
    return sorted(kept, key=lambda point: (point[1].flash, point[1].cycles))
