"""Cortex-M3 and M4: three stages, single issue, loads and stores that overlap their neighbours.

Tables: Cortex-M3 TRM (DDI 0337I) and Cortex-M4 TRM (DDI 0439B), "Instruction set summary" and "Load/store
timings". Beyond the tables, measured on silicon: the fetch unit reads a word at a time, so that wide
instructions at odd halfwords starve the pipeline: every third of them in a row costs a cycle more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emulator.timing.block_cost import BlockCost, CycleModel
from emulator.timing.instruction import Instruction, Kind

MISALIGNED_RUN = 3  # wide instructions at odd halfwords in a row that cost a cycle more
# Division takes 2 to 12 cycles by its operands; this is near the middle of what quotients of a few bits take.
DIVIDE = 6

_M4: Mapping[Kind, int] = {
    "load": 2,
    "load_dual": 3,
    "store_dual": 3,
    "table_branch": 2,
    "divide": DIVIDE,
    "system": 2,
    "float_divide": 14,
    "float_accumulate": 3,
}
_M3: Mapping[Kind, int] = {
    **_M4,
    "accumulate": 2,
    "multiply_long": 4,  # 3 to 5 by its operands
    "accumulate_long": 5,  # 4 to 7 by its operands
}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A core's table, and what a run of misaligned wide instructions costs; a BlockModel."""

    cycles: Mapping[Kind, int]
    misaligned_run: float

    def __call__(self, instructions: tuple[Instruction, ...], address: int) -> BlockCost:
        """Prices a block."""
        core, alignment = [], []
        before: Instruction | None = None
        run = 0
        for instruction in instructions:
            core.append(self._cost(instruction, before))
            run = run + 1 if instruction.size == 4 and address % 4 else 0
            alignment.append(self.misaligned_run if run and run % MISALIGNED_RUN == 0 else 0.0)
            before, address = instruction, address + instruction.size
        return BlockCost(tuple(core), tuple(alignment))

    def _cost(self, instruction: Instruction, before: Instruction | None) -> int:
        if instruction.words:
            return 1 + instruction.words
        overlapped = before is not None and _overlaps(before, instruction)
        if instruction.is_load:
            return (1 if overlapped else 2) + _second_word(instruction)
        if instruction.is_store:
            waits = bool(instruction.index) and not overlapped  # the register offset needs a port
            return 1 + waits + _second_word(instruction)
        return self.cycles.get(instruction.kind, 1)


def _overlaps(before: Instruction, instruction: Instruction) -> bool:
    """Whether an access starts under the load before it: not when it needs what is being loaded.

    A base that the load before writes back is ready in time.
    """
    if not before.is_load or before.writes_pc:
        return False
    loaded = before.writes - ({before.base} if before.writeback else set())
    return not loaded & instruction.address


def _second_word(instruction: Instruction) -> int:
    """Double-precision registers move as two words."""
    return int(instruction.is_float and instruction.operands.startswith("d"))


M3 = CycleModel(
    Pipeline(_M3, misaligned_run=1.0),
    taken=2,
    description="Cortex-M3, DDI 0337I",
    unaligned=1,
    data_dependent_division=True,
)
# Fitted on four published images (docs/emulator.md); one cycle by the fetch unit's width alone.
M4 = CycleModel(
    Pipeline(_M4, misaligned_run=1.19),
    taken=2,
    description="Cortex-M4, DDI 0439B",
    unaligned=1,
    data_dependent_division=True,
)
