"""Block counts -> instructions and cycles. A run is priced afterwards, by any number of models.

A cycle model is a function from a block's instructions to cycles, and a penalty per taken exit.
Instructions that an IT block skips are counted: a real core spends a cycle on each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from capstone import CS_ARCH_ARM, CS_MODE_MCLASS, CS_MODE_THUMB, CS_MODE_V8, Cs

from emulator.blocks import BlockCount
from targets.errors import UsageError
from targets.machine import StepCount


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction as the models see it. Those that capstone does not know have no mnemonic."""

    mnemonic: str  # without width and type suffix, e.g. "ldrb"
    operands: str


@dataclass(frozen=True, slots=True)
class CycleModel:
    """How to price a block."""

    block: Callable[[tuple[Instruction, ...]], int]
    taken: int  # cycles per jump, call or return


def price(
    blocks: Iterable[BlockCount], code: Callable[[int, int], bytes], model: str = "m4-simple"
) -> StepCount:
    """Totals of a run.

    Args:
        blocks: what was counted.
        code: reads memory: (address, size) -> bytes.
        model: a name from MODELS.
    """
    if model not in MODELS:
        raise UsageError(f"unknown cycle model '{model}'", hint="known: " + ", ".join(MODELS))
    instructions = cycles = 0
    for block in blocks:
        length, cost = _price_block(code(block.address, block.size), model)
        instructions += block.executions * length
        cycles += block.executions * cost + block.taken * MODELS[model].taken
    return StepCount(instructions, cycles)


def decode(code: bytes) -> tuple[Instruction, ...]:
    """The Thumb instructions of a block."""
    return tuple(_decode_one(encoding) for encoding in _encodings(code))


@lru_cache(maxsize=1 << 16)
def _price_block(code: bytes, model: str) -> tuple[int, int]:
    instructions = decode(code)
    return len(instructions), MODELS[model].block(instructions)


def _encodings(code: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(code):
        size = 4 if code[at + 1] >> 3 in (0b11101, 0b11110, 0b11111) else 2
        yield code[at : at + size]
        at += size


_DECODER = Cs(CS_ARCH_ARM, CS_MODE_THUMB | CS_MODE_MCLASS | CS_MODE_V8)


@lru_cache(maxsize=1 << 16)
def _decode_one(encoding: bytes) -> Instruction:
    for _, _, mnemonic, operands in _DECODER.disasm_lite(encoding, 0):
        return Instruction(mnemonic.split(".")[0], operands)
    return Instruction("", "")


def _m4_simple(instructions: tuple[Instruction, ...]) -> int:
    """Cortex-M4 without wait states; definition in docs, ratios against peers use it."""
    cycles, after_access = 0, False
    for instruction in instructions:
        cycles += _m4_simple_one(instruction, after_access)
        after_access = bool(_SINGLE_ACCESS.fullmatch(instruction.mnemonic))
    return cycles


# Instructions are decoded one by one, thus outside IT blocks: only a branch carries a condition.
_SINGLE_ACCESS = re.compile(r"v?(ldr|str)(ex)?(b|h|sb|sh)?t?")
_MULTIPLE = re.compile(r"v?(ldm|stm)(ia|db|ea|fd)?|v?(push|pop)")
_FLOAT_ACCUMULATE = re.compile(r"vf?n?m(la|ls|a|s)")
_FIXED: Mapping[str, int] = {
    "ldrd": 3,
    "strd": 3,
    "sdiv": 7,
    "udiv": 7,
    "vdiv": 14,
    "vsqrt": 14,
}


def _m4_simple_one(instruction: Instruction, after_access: bool) -> int:
    mnemonic = instruction.mnemonic
    if mnemonic in _FIXED:
        return _FIXED[mnemonic]
    if _SINGLE_ACCESS.fullmatch(mnemonic):
        is_load = mnemonic.removeprefix("v").startswith("ldr")
        return 2 if is_load and not after_access else 1
    if _MULTIPLE.fullmatch(mnemonic):
        return 1 + _words(instruction.operands)
    if _FLOAT_ACCUMULATE.fullmatch(mnemonic):
        return 3
    return 1


def _words(operands: str) -> int:
    """Words moved by a register list, e.g. "sp!, {r4, r5, pc}"; d registers hold two."""
    registers = operands[operands.index("{") + 1 : operands.index("}")].split(", ")
    return sum(2 if name.startswith("d") else 1 for name in registers)


MODELS: Mapping[str, CycleModel] = {"m4-simple": CycleModel(_m4_simple, taken=2)}
