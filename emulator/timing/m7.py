"""Cortex-M7: an in-order scoreboard of two issue slots, run on a block in its steady state.

Arm publishes no table for this core. The rules come from public measurements and models that agree: LLVM's
ARMScheduleM7.td and the pipeline tests of the jnk0le/random repository. Stalls of branches and of caches are
not here: they are counted at run time and priced per event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from emulator.timing.block_cost import BlockCost, CycleModel
from emulator.timing.instruction import Instruction, Kind

Unit = Literal["multiplier", "store", "simd", "shifter", "branch", "float"]
Source = Literal["early", "late", "load", "multiplier"]  # where a value comes from

WIDTH = 2
_UNITS: Mapping[Kind, frozenset[Unit]] = {
    "multiply": frozenset(("multiplier",)),
    "accumulate": frozenset(("multiplier",)),
    "multiply_long": frozenset(("multiplier",)),
    "accumulate_long": frozenset(("multiplier",)),
    "store": frozenset(("store", "multiplier")),  # a store does not pair with a multiplication
    "branch": frozenset(("branch",)),
    "call": frozenset(("branch",)),
    "branch_register": frozenset(("branch",)),
    "float": frozenset(("float",)),
    "float_accumulate": frozenset(("float",)),
    "float_divide": frozenset(("float",)),
}
# These issue alone, and for this many cycles; transfers of several registers move two words a cycle.
_ALONE: Mapping[Kind, int] = {
    "load_dual": 1,
    "store_dual": 1,
    "divide": 5,
    "table_branch": 2,
    "system": 2,
    "float_divide": 16,
}
_MULTIPLIES: tuple[Kind, ...] = ("multiply", "accumulate", "multiply_long", "accumulate_long")
_ACCUMULATES: tuple[Kind, ...] = ("accumulate", "accumulate_long")
# Only the older slot executes these.
_SIMD = (
    "uxt sxt ssat usat pkh sel usad uadd sadd qadd qsub uqadd ssub usub shadd uhadd clz rev rbit bfi bfc"
    " sbfx ubfx qdadd"
).split()
# Of those, the ones that need their operands a cycle earlier.
_EARLY = tuple("sbfx ubfx rev rbit ssat usat".split())
_SUBWORD = ("ldrb", "ldrh", "ldrsb", "ldrsh")


@dataclass(frozen=True, slots=True)
class _Value:
    """When a register can be used, and who made it."""

    cycle: int
    source: Source


@dataclass(slots=True)
class _Scoreboard:
    """The pipeline while a block passes."""

    cycle: int = 0
    start: int = 0  # of the latest instruction
    issued: list[Instruction] = field(default_factory=list)  # in this cycle
    ready: dict[str, _Value] = field(default_factory=dict)

    def advance(self, cycles: int = 1) -> None:
        self.cycle += cycles
        self.issued = []

    def issue(self, instruction: Instruction) -> None:
        """Waits for operands and a slot, then starts the instruction."""
        needed = [self._needed(instruction, register) for register in instruction.reads]
        if max(needed, default=0) > self.cycle:
            self.advance(max(needed) - self.cycle)
        if self.issued and not _pairs(self.issued, instruction):
            self.advance()
        self.start = start = self.cycle
        self.issued.append(instruction)
        alone = _alone(instruction)
        for register in instruction.writes:
            self.ready[register] = _result(instruction, register, start, alone)
        if alone:
            self.advance(alone)

    def _needed(self, instruction: Instruction, register: str) -> int:
        """First cycle in which the instruction may issue for the sake of this operand."""
        value = self.ready.get(register)
        if value is None:
            return 0
        kind = instruction.kind
        # Addresses, and what is shifted first, are needed a stage before values; stored data a stage after.
        if register in instruction.address or _reads_early(instruction):
            return value.cycle + (value.source != "early")
        if kind == "store":
            return value.cycle - 1 - (value.source == "load")
        if kind in _MULTIPLIES and value.source == "load":
            return value.cycle + 1
        if kind in _ACCUMULATES and value.source == "multiplier":
            return value.cycle - 1
        return value.cycle


def _alone(instruction: Instruction) -> int:
    """Cycles that an instruction takes for itself; 0 when it may pair."""
    if instruction.words:
        return (instruction.words + 1) // 2
    return _ALONE.get(instruction.kind, 0)


def _pairs(issued: list[Instruction], instruction: Instruction) -> bool:
    """Whether an instruction can join those of this cycle."""
    if len(issued) == WIDTH or _alone(instruction):
        return False
    older = issued[0]
    if _is_simd(instruction) or _units(older) & _units(instruction):
        return False
    if _is_simd(older) and _is_shifted(instruction):
        return False
    return not (older.is_load and instruction.is_load) or _other_bank(older, instruction)


def _units(instruction: Instruction) -> frozenset[Unit]:
    units = _UNITS.get(instruction.kind, frozenset())
    return units | {"shifter"} if _is_shifted(instruction) else units


def _is_shifted(instruction: Instruction) -> bool:
    """An addition or the like that shifts an operand first; the rotation of SXTB16 is free."""
    return instruction.kind == "alu" and instruction.shifted and not _is_simd(instruction)


def _reads_early(instruction: Instruction) -> bool:
    return _is_shifted(instruction) or instruction.mnemonic.startswith(_EARLY)


def _is_simd(instruction: Instruction) -> bool:
    return instruction.kind == "alu" and instruction.mnemonic.startswith(tuple(_SIMD))


def _other_bank(one: Instruction, other: Instruction) -> bool:
    """Two loads pair when one takes the even and one the odd word; of unknown bases that is hoped."""
    if one.base != other.base:
        return True
    return bool((one.offset >> 2 ^ other.offset >> 2) & 1)


def _result(instruction: Instruction, register: str, start: int, alone: int) -> _Value:
    if instruction.writeback and register == instruction.base:
        return _Value(start + 1, "early")
    if instruction.kind in _MULTIPLIES:
        return _Value(start + 2, "multiplier")
    if instruction.is_load:
        slow = instruction.mnemonic in _SUBWORD or instruction.is_float
        return _Value(start + 1 + slow, "load")
    if instruction.kind in ("float", "float_accumulate"):
        return _Value(start + 3, "late")
    return _Value(start + max(1, alone), "late")


def _block(instructions: tuple[Instruction, ...], address: int) -> BlockCost:
    """The second of two passes: what a loop's body costs in its steady state."""
    board = _Scoreboard()
    starts: list[int] = []
    for instruction in instructions * 2:
        board.issue(instruction)
        starts.append(board.start)
    second = starts[len(instructions) - 1 :]
    return BlockCost(tuple(float(b - a) for a, b in pairwise(second)))


# The cost of taken branches is fitted on eight published images (docs/emulator.md).
M7 = CycleModel(_block, taken=3.3, description="Cortex-M7, scoreboard of two issue slots")
