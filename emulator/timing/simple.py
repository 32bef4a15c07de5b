"""m4-simple: the model that every published ratio against other tools uses. Never changed."""

from __future__ import annotations

from collections.abc import Mapping

from emulator.timing.block_cost import BlockCost, CycleModel
from emulator.timing.instruction import Instruction, Kind

_CYCLES: Mapping[Kind, int] = {
    "load_dual": 3,
    "store_dual": 3,
    "divide": 7,
    "float_divide": 14,
    "float_accumulate": 3,
}


def _block(instructions: tuple[Instruction, ...], address: int) -> BlockCost:
    """Cortex-M4 without wait states: a load is 2 cycles, 1 behind another single load or store."""
    costs = []
    after_access = False
    for instruction in instructions:
        costs.append(_cost(instruction, after_access))
        after_access = instruction.is_load or instruction.is_store
    return BlockCost(tuple(costs))


def _cost(instruction: Instruction, after_access: bool) -> int:
    if instruction.is_load:
        return 1 if after_access else 2
    if instruction.words:
        return 1 + instruction.words
    return _CYCLES.get(instruction.kind, 1)


M4_SIMPLE = CycleModel(
    _block, taken=2, description="Cortex-M4 without wait states, for comparisons"
)
