"""What a cycle model says of a block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emulator.timing.instruction import Instruction


@dataclass(frozen=True, slots=True)
class BlockCost:
    """Cycles of each instruction of a block, its taken exit not included."""

    core: tuple[float, ...]
    alignment: tuple[float, ...] = ()  # what badly placed wide instructions add; () = nothing


# (instructions, address of the first) -> cost
BlockModel = Callable[[tuple[Instruction, ...], int], BlockCost]


@dataclass(frozen=True, slots=True, eq=False)  # compared and hashed as itself: it is a cache's key
class CycleModel:
    """How to price a block on one core."""

    block: BlockModel
    taken: float  # cycles per jump, call or return
    description: str
    unaligned: float = 0  # cycles per unaligned access
    data_dependent_division: bool = False  # 2 to 12 cycles by the quotient's length
