"""Machine code of a block -> instructions as the cycle models see them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from capstone import CS_ARCH_ARM, CS_MODE_MCLASS, CS_MODE_THUMB, CS_MODE_V8, Cs, CsInsn
from capstone.arm import ARM_OP_MEM, ARM_OP_REG

Kind = Literal[
    "alu",
    "multiply",
    "accumulate",
    "multiply_long",
    "accumulate_long",
    "divide",
    "load",
    "store",
    "load_dual",
    "store_dual",
    "load_multiple",
    "store_multiple",
    "branch",
    "call",
    "branch_register",
    "table_branch",
    "it",
    "system",
    "float",
    "float_accumulate",
    "float_divide",
    "unknown",
]

# First match wins. Mnemonics come without width and type suffix.
_KINDS: tuple[tuple[str, Kind], ...] = (
    (r"v?push|v?stm(ia|db|ea|fd)?", "store_multiple"),
    (r"v?pop|v?ldm(ia|db|ea|fd)?", "load_multiple"),
    (r"ldrd|ldaexd|ldrexd", "load_dual"),
    (r"strd", "store_dual"),
    (r"v?(ldr|lda)(ex)?(b|h|sb|sh)?t?", "load"),
    (r"v?(str|stl)(ex)?(b|h)?t?", "store"),
    (r"tb[bh]", "table_branch"),
    (r"bl|blx", "call"),
    (r"bx|bxns|blxns", "branch_register"),
    (r"cbn?z|b(eq|ne|hs|cs|lo|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|al)?", "branch"),
    (r"[su]div", "divide"),
    (r"it[te]{0,3}", "it"),
    (r"[us]mull", "multiply_long"),
    (r"[us]mlal.*|smlsld.*|umaal", "accumulate_long"),
    (r"ml[as]|smla.*|smlsd.*|smmla.*|smmls.*", "accumulate"),
    (r"muls?|smul.*|smmul.*|smuad.*|smusd.*", "multiply"),
    (r"dsb|dmb|isb|mrs|msr|cps.*|svc|bkpt|wfi|wfe|sev|udf", "system"),
    (r"vdiv|vsqrt", "float_divide"),
    (r"vf?n?m(la|ls|a|s)", "float_accumulate"),
    (r"v.*", "float"),
    (r".+", "alu"),
)
_COMPILED = tuple((re.compile(pattern), kind) for pattern, kind in _KINDS)
_COMPARES = frozenset(("cmp", "cmn", "tst", "teq"))
_DESTINATIONS: dict[Kind, int] = {
    "multiply_long": 2,
    "accumulate_long": 2,
    "load_dual": 2,
    "store": 0,
    "store_dual": 0,
    "store_multiple": 0,
    "branch": 0,
    "call": 0,
    "branch_register": 0,
    "table_branch": 0,
    "system": 0,
}
# Of two operands, and their destination is not read.
_MOVES = ("mov", "mvn", "sxt", "uxt", "rev", "clz", "rbit", "adr")
_MULTIPLE: tuple[Kind, ...] = ("load_multiple", "store_multiple")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One Thumb instruction. Registers are named as capstone does: r0, sp, s15, d3."""

    mnemonic: str  # without width and type suffix, e.g. "ldrb"; empty when unknown
    operands: str
    size: int  # bytes
    kind: Kind
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    base: str = ""  # of an address
    index: str = ""
    offset: int = 0
    writeback: bool = False
    shifted: bool = False  # its second operand passes the shifter
    words: int = 0  # moved by a transfer of several registers

    @property
    def address(self) -> frozenset[str]:
        """Registers that form the address."""
        return frozenset(name for name in (self.base, self.index) if name)

    @property
    def is_load(self) -> bool:
        """A load of one register."""
        return self.kind == "load"

    @property
    def is_store(self) -> bool:
        """A store of one register."""
        return self.kind == "store"

    @property
    def conditional(self) -> bool:
        """A branch that may fall through."""
        return self.kind == "branch" and self.mnemonic != "b"

    @property
    def is_float(self) -> bool:
        """Needs the floating-point unit."""
        return self.mnemonic.startswith("v")

    @property
    def writes_pc(self) -> bool:
        """Jumps by loading or moving into pc."""
        return "pc" in self.writes


def decode(code: bytes) -> tuple[Instruction, ...]:
    """The Thumb instructions of a block."""
    return tuple(_decode_one(encoding) for encoding in encodings(code))


def encodings(code: bytes) -> Iterator[bytes]:
    """Cuts code into instructions of 2 or 4 bytes."""
    at = 0
    while at < len(code):
        size = 4 if code[at + 1] >> 3 in (0b11101, 0b11110, 0b11111) else 2
        yield code[at : at + size]
        at += size


def kind_of(mnemonic: str) -> Kind:
    """The class that prices an instruction."""
    return next((kind for pattern, kind in _COMPILED if pattern.fullmatch(mnemonic)), "unknown")


_DECODER = Cs(CS_ARCH_ARM, CS_MODE_THUMB | CS_MODE_MCLASS | CS_MODE_V8)
_DECODER.detail = True


# Decoded one by one, thus outside IT blocks: only a branch carries a condition.
@lru_cache(maxsize=1 << 16)
def _decode_one(encoding: bytes) -> Instruction:
    for found in _DECODER.disasm(encoding, 0):
        return _instruction(found)
    return Instruction("", "", len(encoding), "unknown")


def _instruction(found: CsInsn) -> Instruction:
    mnemonic = str(found.mnemonic).split(".")[0]
    kind = kind_of(mnemonic)
    registers = [found.reg_name(o.reg) for o in found.operands if o.type == ARM_OP_REG]
    memory = next((o.mem for o in found.operands if o.type == ARM_OP_MEM), None)
    base = index = ""
    if memory is not None:
        base = found.reg_name(memory.base) if memory.base else ""
        index = found.reg_name(memory.index) if memory.index else ""
    elif kind in _MULTIPLE:
        base = "sp" if mnemonic.lstrip("v") in ("push", "pop") else registers.pop(0)
    writeback = bool(found.writeback) or (
        kind in _MULTIPLE and mnemonic.lstrip("v") in ("push", "pop")
    )
    reads, writes = _roles(mnemonic, kind, registers, len(found.operands))
    return Instruction(
        mnemonic,
        str(found.op_str),
        int(found.size),
        kind,
        reads | {name for name in (base, index) if name},
        writes | ({base} if writeback and base else frozenset()),
        base,
        index,
        int(memory.disp) if memory is not None else 0,
        writeback,
        any(o.type == ARM_OP_REG and o.shift.type for o in found.operands),
        sum(2 if name.startswith("d") else 1 for name in registers) if kind in _MULTIPLE else 0,
    )


def _roles(
    mnemonic: str, kind: Kind, registers: list[str], operands: int
) -> tuple[frozenset[str], frozenset[str]]:
    """Which register operands are read and which written, by the operand order of the manual."""
    if kind == "load_multiple":
        return frozenset(), frozenset(registers)
    count = 0 if mnemonic in _COMPARES else _DESTINATIONS.get(kind, 1)
    if mnemonic == "mrs" or mnemonic.startswith("strex"):
        count = 1
    writes, reads = frozenset(registers[:count]), frozenset(registers[count:])
    in_place = kind == "alu" and operands == 2 and not mnemonic.startswith(_MOVES)
    if in_place or kind in ("accumulate_long", "float_accumulate"):
        reads |= writes
    if kind == "call":
        writes |= {"lr"}
    return reads, writes
