"""Each core's timing rules, on a loop or a line of code per rule: cycles as the manuals state them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from emulator.blocks import BlockCount
from emulator.monitor import Events
from emulator.timing.price import MODELS, Pricing
from targets.timing import FlashTiming

ADDS = "4018"  # adds r0, r0, r1
NOP = "00bf"
LDR = "0868"  # ldr r0, [r1]
LDR_R2 = "0a68"  # ldr r2, [r1]
LDR_NEXT = "0068"  # ldr r0, [r0]: its address is what was loaded
STR = "0860"  # str r0, [r1]
STR_R3 = "0b60"  # str r3, [r1]
LDRB = "0878"  # ldrb r0, [r1]
LDR_POST = "51f8040b"  # ldr r0, [r1], #4
LDR_POST_2 = "51f8042b"  # ldr r2, [r1], #4
LDR_INDEX = "8858"  # ldr r0, [r1, r2]
STR_INDEX = "8850"  # str r0, [r1, r2]
WIDE = "00eb0102"  # add.w r2, r0, r1
PUSH = "f0b5"  # push {r4-r7, lr}
POP = "f0bd"  # pop {r4-r7, pc}
LDM3 = "0dc9"  # ldm r1!, {r0, r2, r3}
MULS = "4843"  # muls r0, r1, r0
MUL = "01fb02f0"  # mul r0, r1, r2
MLA = "01fb0230"  # mla r0, r1, r2, r3
SMULL = "82fb0301"  # smull r0, r1, r2, r3
SMLAL = "c2fb0301"  # smlal r0, r1, r2, r3
SMLAD = "21fb0230"  # smlad r0, r1, r2, r3
SMLAD_CHAIN = "21fb0200"  # smlad r0, r1, r2, r0
SDIV = "91fbf2f0"  # sdiv r0, r1, r2
LDRD = "d2e90201"  # ldrd r0, r1, [r2, #8]
TBB = "dfe800f0"  # tbb [pc, r0]
IT_EQ = "08bf"
BNE = "fed1"
B = "fee7"
BL = "00f037f8"
BX_LR = "7047"
MRS = "eff31080"
DSB = "bff34f8f"
VADD = "30ee210a"
VMLA = "00ee810a"
VDIV = "80ee810a"
VLDR = "90ed000a"
VLDR_D = "90ed000b"
SXTB16 = "2ffa90f3"  # sxtb16 r3, r0, ror #8
ADD_SHIFTED = "00ebc103"  # add.w r3, r0, r1, lsl #3


@dataclass(frozen=True)
class Rule:
    """Code, how often its end was taken, and the cycles of one execution."""

    code: str
    cycles: float
    taken: int = 0
    at: int = 0


M0PLUS = {
    "alu": Rule(ADDS, 1),
    "fast multiply": Rule(MULS, 1),
    "load": Rule(LDR, 2),
    "loads do not overlap": Rule(LDR + LDR_R2, 4),
    "store": Rule(STR, 2),
    "ldm of three": Rule(LDM3, 4),
    "push of five": Rule(PUSH, 6),
    "pop of five with pc: 3 + 4": Rule(POP, 7, taken=1),
    "branch not taken": Rule(BNE, 1),
    "branch taken": Rule(BNE, 2, taken=1),
    "unconditional": Rule(B, 2, taken=1),
    "bl": Rule(BL, 3, taken=1),
    "bx": Rule(BX_LR, 2, taken=1),
    "mrs": Rule(MRS, 3),
    "barrier": Rule(DSB, 3),
}
M0 = {
    "branch taken": Rule(BNE, 3, taken=1),
    "bl": Rule(BL, 4, taken=1),
    "bx": Rule(BX_LR, 3, taken=1),
    "pop of five with pc: 4 + 4": Rule(POP, 8, taken=1),
    "mrs": Rule(MRS, 4),
    "load": Rule(LDR, 2),
}
M4 = {
    "alu": Rule(ADDS, 1),
    "mul, mla": Rule(MUL + MLA, 2),
    "long multiplications": Rule(SMULL + SMLAL, 2),
    "smlad": Rule(SMLAD, 1),
    "load": Rule(LDR, 2),
    "loads overlap": Rule(LDR + LDR_R2, 3),
    "not when the address is loaded": Rule(LDR + LDR_NEXT, 4),
    "a written-back base is ready": Rule(LDR_POST + LDR_POST_2, 3),
    "load, then store": Rule(LDR + STR_R3, 3),
    "store": Rule(STR, 1),
    "store at an index": Rule(STR_INDEX, 2),
    "load at an index": Rule(LDR_INDEX, 2),
    "arithmetic between loads": Rule(LDR + ADDS + LDR_R2, 5),
    "ldrd": Rule(LDRD, 3),
    "ldm of three": Rule(LDM3, 4),
    "push of five": Rule(PUSH, 6),
    "pop of five with pc": Rule(POP, 8, taken=1),
    "branch not taken": Rule(BNE, 1),
    "branch taken": Rule(BNE, 3, taken=1),
    "bl": Rule(BL, 3, taken=1),
    "table branch": Rule(TBB, 4, taken=1),
    "it": Rule(IT_EQ + ADDS, 2),
    "division": Rule(SDIV, 6),
    "vadd, vmla, vdiv": Rule(VADD + VMLA + VDIV, 1 + 3 + 14),
    "vldr of one and of two words": Rule(VLDR, 2),
    "vldr, double": Rule(VLDR_D, 3),
    "two misaligned wide instructions": Rule(WIDE + WIDE, 2, at=2),
    "three aligned wide instructions": Rule(WIDE * 3, 3),
    "three misaligned wide instructions": Rule(WIDE * 3, 3 + 1.19, at=2),
    "seven misaligned wide instructions": Rule(WIDE * 7, 7 + 2 * 1.19, at=2),
    "a narrow one ends the run": Rule(WIDE * 2 + ADDS + WIDE, 4, at=2),
}
M3 = {
    "mla": Rule(MLA, 2),
    "mul": Rule(MUL, 1),
    "smull": Rule(SMULL, 4),
    "smlal": Rule(SMLAL, 5),
    "loads overlap": Rule(LDR + LDR_R2, 3),
    "branch taken": Rule(BNE, 3, taken=1),
}
# Of cores with a pipeline: cycles of a loop's body in its steady state.
M33 = {
    "alu": Rule(ADDS * 4, 4),
    "load, then something else": Rule(LDR + "5b19", 2),
    "load, then its use": Rule(LDR + ADDS, 3),
    "chain of macs": Rule(SMLAD_CHAIN * 4, 4),
    "mac, then its use": Rule(SMLAD + ADDS, 3),
    "shifted operand, then its use": Rule(ADD_SHIFTED + "1b18", 3),  # adds r3, r3, r0
    "ldm of three": Rule(LDM3, 3),
    "ldrd": Rule(LDRD, 2),
    "branch not taken pairs": Rule(ADDS + BNE, 1),
    "branch taken": Rule(ADDS + BNE, 2, taken=1),
}
M7 = {
    "two independent additions": Rule("4018" + "5b19", 1),  # adds r0, r0, r1; adds r3, r3, r5
    "two dependent additions": Rule(ADDS + ADDS, 2),
    "load and addition": Rule(LDR_R2 + "5b19", 1),
    "two multiplications": Rule(SMLAD_CHAIN + "24fb0533", 2),  # smlad r3, r4, r5, r3
    "chain of macs": Rule(SMLAD_CHAIN * 4, 4),
    "word load, then its use": Rule("0a68" + "9318", 1),  # ldr r2, [r1]; adds r3, r2, r2
    "byte load, then its use": Rule("0a78" + "9318", 2),
    "simd is never the younger": Rule("5b19" + SXTB16 + NOP, 2),
    "mac and store do not pair": Rule(SMLAD_CHAIN + "3360", 2),  # str r3, [r6]
    "ldm of three": Rule(LDM3, 2),
}
CASES = [
    (core, name, rule)
    for core, rules in {
        "cortex-m0plus": M0PLUS,
        "cortex-m0": M0,
        "cortex-m4": M4,
        "cortex-m3": M3,
        "cortex-m33": M33,
        "cortex-m7": M7,
    }.items()
    for name, rule in rules.items()
]
FLASH = FlashTiming(
    wait_states=5,
    clock_limits_hz=(20_000_000, 40_000_000, 60_000_000),
    sector=8,
    line=32,
    instruction_lines=32,
    data_lines=8,
    random_fetch=1.0,
    sequential_fetch=0.5,
    data_read=0.8,
)


def run(pricing: Pricing, rule: Rule, executions: int = 10, events: Events | None = None) -> float:
    code = bytes.fromhex(rule.code)
    block = BlockCount(rule.at, len(code), executions, rule.taken * executions)
    seen = {rule.at: events} if events else None
    return pricing.run((block,), lambda address, size: code, seen).total


@pytest.mark.parametrize(("core", "name", "rule"), CASES, ids=lambda value: str(value)[:40])
def test_rule(core: str, name: str, rule: Rule) -> None:
    assert run(Pricing(MODELS[core]), rule) == pytest.approx(10 * rule.cycles), name


@pytest.mark.parametrize("core", MODELS)
def test_parts_add_up_to_each_instruction(core: str) -> None:
    code = bytes.fromhex(LDR + WIDE * 4 + SDIV + LDR_POST + BNE)
    block = BlockCount(2, len(code), 7, 3)
    events = Events(2, 3, 4, 1, 7, 40)
    total, shares = Pricing(MODELS[core], FLASH).block(block, code, events)
    assert sum(shares) == pytest.approx(total.total)
    assert len(shares) == 8
    assert total.instructions == 7 * 8


def test_flash_is_priced_by_what_had_to_be_read() -> None:
    pricing = Pricing(MODELS["cortex-m4"], FLASH)
    plain = run(pricing, M4["alu"])
    seen = Events(fetch_random=3, fetch_sequential=4, data=6)
    assert run(pricing, M4["alu"], events=seen) - plain == pytest.approx(
        5 * (3 + 0.5 * 4 + 0.8 * 6)
    )


def test_unaligned_accesses_cost_a_cycle() -> None:
    pricing = Pricing(MODELS["cortex-m4"])
    assert run(pricing, M4["load"], events=Events(unaligned=4)) == 20 + 4


@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m4"])
def test_divisions_take_what_their_operands_ask_for(core: str) -> None:
    seen = Events(divisions=10, divide_cycles=35)
    assert run(Pricing(MODELS[core]), M4["division"], events=seen) == 35


def test_wait_states_follow_the_clock() -> None:
    assert [FLASH.at(hz).wait_states for hz in (16_000_000, 20_000_000, 20_000_001)] == [0, 0, 1]
    assert FLASH.at(60_000_000, wait_states=4).wait_states == 4
