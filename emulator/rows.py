"""An input that is pushed row by row, through the functions of the image, as one measured step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple

from emulator.blocks import BlockCount
from emulator.cortex_m import Measured
from emulator.engine import Engine
from emulator.monitor import Events
from targets.machine import ModelImage

ROW = "app_row"  # where main.c keeps the row that is pushed next


def push(machine: Engine, image: ModelImage, context: int, data: bytes) -> Measured:
    """Begins an inference and pushes all rows of its input; what that took in all.

    Raises:
        Fault: a call answers with a status, or wants another number of rows than there are.
    """
    return _together(list(_calls(machine, image, context, data)))


def _calls(machine: Engine, image: ModelImage, context: int, data: bytes) -> Iterator[Measured]:
    begun = machine.measure(f"{image.name}_begin", context)
    _expect(machine, f"{image.name}_begin", begun.result, 0)
    yield begun
    row = machine.address(ROW)
    starts = range(0, len(data), image.row)
    for number, start in enumerate(starts):
        machine.write(row, data[start : start + image.row])
        pushed = machine.measure(f"{image.name}_push_row", context, row)
        _expect(machine, f"{image.name}_push_row", pushed.result, len(starts) - number - 1)
        yield pushed


def _expect(machine: Engine, function: str, word: int, wanted: int) -> None:
    result = word - (1 << 32) if word >> 31 else word
    if result != wanted:
        raise machine.fault(f"{function} returned {result}, not {wanted}")


def _together(runs: list[Measured]) -> Measured:
    """Several calls as one: sums, and the largest stack."""
    counts: dict[tuple[int, int], tuple[int, int]] = {}
    events: dict[int, Events] = {}
    for run in runs:
        for block in run.blocks:
            executions, taken = counts.get((block.address, block.size), (0, 0))
            counts[block.address, block.size] = executions + block.executions, taken + block.taken
        for address, found in run.events.items():
            before = astuple(events.get(address, Events()))
            events[address] = Events(*(a + b for a, b in zip(before, astuple(found), strict=True)))
    blocks = tuple(BlockCount(*place, *count) for place, count in counts.items())
    return Measured(0, max(run.stack for run in runs), blocks, events)
