"""Cortex-M0 and M0+: every instruction has its cycles, nothing overlaps.

Cortex-M0+: Technical Reference Manual DDI 0484C, table 3-1; Cortex-M0: DDI 0432C, table 3-1, without wait
states and with the single-cycle multiplier.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from emulator.timing.block_cost import BlockCost, CycleModel
from emulator.timing.instruction import Instruction, Kind

# Without the taken exit: a call is 1 cycle more than a branch.
_M0PLUS: Mapping[Kind, int] = {"load": 2, "store": 2, "call": 2, "system": 3}
_M0: Mapping[Kind, int] = {**_M0PLUS, "system": 4}


def _block(
    cycles: Mapping[Kind, int], instructions: tuple[Instruction, ...], address: int
) -> BlockCost:
    return BlockCost(tuple(_cost(cycles, i) for i in instructions))


def _cost(cycles: Mapping[Kind, int], instruction: Instruction) -> int:
    if instruction.mnemonic in ("cpsie", "cpsid", "svc", "bkpt"):
        return 1
    return 1 + instruction.words if instruction.words else cycles.get(instruction.kind, 1)


M0 = CycleModel(partial(_block, _M0), taken=2, description="Cortex-M0, DDI 0432C")
M0PLUS = CycleModel(partial(_block, _M0PLUS), taken=1, description="Cortex-M0+, DDI 0484C")
