"""Cortex-M33: in order, one instruction a cycle, results of loads and of the long datapaths a cycle later.

Rules from public measurements on silicon (the pipeline tests of the jnk0le/random repository); Arm publishes
no table for this core.
"""

from __future__ import annotations

from collections.abc import Mapping

from emulator.timing.block_cost import BlockCost, CycleModel
from emulator.timing.instruction import Instruction, Kind

_ISSUE: Mapping[Kind, int] = {
    "load_dual": 2,
    "store_dual": 2,
    "divide": 6,
    "table_branch": 2,
    "system": 2,
    "float_divide": 14,
}
_MULTIPLIES: tuple[Kind, ...] = ("multiply", "accumulate", "multiply_long", "accumulate_long")
_ACCUMULATES: tuple[Kind, ...] = ("accumulate", "accumulate_long")
# Saturation, packing, parallel addition, extension and addition: the second half of the datapath.
_DSP = tuple(
    "ssat usat pkh sel usad uadd sadd qadd qsub uqadd ssub usub shadd uhadd sxta uxta qdadd".split()
)


def _block(instructions: tuple[Instruction, ...], address: int) -> BlockCost:
    cycle = 0
    ready: dict[str, tuple[int, bool]] = {}  # register -> cycle, whether a multiplier makes it
    costs: list[float] = []
    before: Instruction | None = None
    for instruction in instructions:
        start = max(
            [cycle, *(_needed(instruction, ready[r]) for r in instruction.reads if r in ready)]
        )
        issue = 0 if before is not None and _joins(before, instruction) else _issue(instruction)
        costs.append(start + issue - cycle)
        late = _is_late(instruction)
        for register in instruction.writes:
            writes_back = instruction.writeback and register == instruction.base
            delay = 0 if writes_back else int(late)
            ready[register] = (start + issue + delay, instruction.kind in _MULTIPLIES)
        cycle, before = start + issue, instruction
    return BlockCost(tuple(costs))


def _needed(instruction: Instruction, value: tuple[int, bool]) -> int:
    """The cycle in which an operand lets the instruction start: chains of MACs forward their sums."""
    cycle, multiplied = value
    return cycle - 1 if multiplied and instruction.kind in _ACCUMULATES else cycle


def _issue(instruction: Instruction) -> int:
    return instruction.words or _ISSUE.get(instruction.kind, 1)


def _joins(before: Instruction, instruction: Instruction) -> bool:
    """Branches that fall through, nops and IT issue with a narrow instruction before them."""
    free = instruction.kind == "it" or instruction.conditional or instruction.mnemonic == "nop"
    return free and instruction.size == 2 and before.size == 2 and not before.conditional


def _is_late(instruction: Instruction) -> bool:
    """Results that come a cycle later."""
    if instruction.is_load or instruction.kind in (*_MULTIPLIES, "load_multiple", "load_dual"):
        return True
    return instruction.kind == "alu" and (
        instruction.shifted or instruction.mnemonic.startswith(_DSP)
    )


M33 = CycleModel(
    _block, taken=1, description="Cortex-M33, in order", unaligned=1, data_dependent_division=False
)
