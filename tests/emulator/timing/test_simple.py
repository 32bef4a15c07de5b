"""The m4-simple model, on encodings written out."""

from __future__ import annotations

import pytest

from emulator.blocks import BlockCount
from emulator.timing.instruction import decode
from emulator.timing.price import pricing
from targets.errors import UsageError

LDR = "0868"  # ldr r0, [r1]
STR = "0860"  # str r0, [r1]
ADD = "4018"  # adds r0, r0, r1
PUSH = "f0b5"  # push {r4-r7, lr}
SEQUENCES = {
    "alu": (ADD, 1),
    "mla": ("01fb0233", 1),
    "smlad": ("21fb0233", 1),
    "smull": ("81fb0223", 1),
    "smlal": ("c1fb0223", 1),
    "load": (LDR, 2),
    "loads pipeline": (LDR + LDR + LDR, 4),
    "a load after a store pipelines": (STR + LDR, 2),
    "a load after arithmetic does not": (LDR + ADD + LDR, 5),
    "a load after push does not": (PUSH + LDR, 8),
    "store": (STR, 1),
    "byte load": ("0878", 2),
    "signed load, wide": ("91f90000", 2),
    "load with write-back": ("51f8040b", 2),
    "literal": ("0148", 2),
    "push five": (PUSH, 6),
    "pop five": ("f0bd", 6),
    "ldm three": ("07c9", 4),
    "stm three": ("07c1", 4),
    "ldm wide, four": ("b1e80f00", 5),
    "ldrd": ("d1e90023", 3),
    "strd": ("c1e90023", 3),
    "sdiv": ("91fbf2f0", 7),
    "udiv": ("b1fbf2f0", 7),
    "vfma": ("a0eea00a", 3),
    "vmla": ("00eea00a", 3),
    "vdiv": ("80eea00a", 14),
    "vsqrt": ("b1eee00a", 14),
    "vadd": ("30eea00a", 1),
    "vldr": ("91ed000a", 2),
    "vpush two": ("2ded028a", 3),
    "it and both of its kind": ("0cbf" + ADD + ADD, 3),
    "branch not taken": ("fed1", 1),
    "unknown": ("ffffffff", 1),
}


def cost(code: str, executions: int = 1, taken: int = 0) -> tuple[int, int]:
    block = BlockCount(0, len(bytes.fromhex(code)), executions, taken)
    model = pricing("m4-simple")
    total = model.run((block,), lambda address, size: bytes.fromhex(code)[address : address + size])
    return total.instructions, total.cycles


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequence(name: str) -> None:
    code, cycles = SEQUENCES[name]
    assert cost(code)[1] == cycles, [i.mnemonic for i in decode(bytes.fromhex(code))]


def test_instructions_are_counted_whatever_their_length() -> None:
    assert cost(ADD + "01fb0233" + "ffffffff" + ADD)[0] == 4


def test_taken_exits_cost_two() -> None:
    assert cost("fed1", executions=10, taken=9) == (10, 10 + 2 * 9)


def test_unknown_model() -> None:
    with pytest.raises(UsageError, match="m9"):
        pricing("m9")
