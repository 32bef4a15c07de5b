"""Unicorn as a Cortex-M: how to make one, and words for what it says."""

from __future__ import annotations

import unicorn
from unicorn import UC_ARCH_ARM, UC_MODE_THUMB, Uc, UcError, arm_const

from targets.target import Target

_CORE = {f"r{i}": getattr(arm_const, f"UC_ARM_REG_R{i}") for i in range(13)}
REGISTERS = {
    **_CORE,
    "sp": arm_const.UC_ARM_REG_SP,
    "lr": arm_const.UC_ARM_REG_LR,
    "pc": arm_const.UC_ARM_REG_PC,
}
ACCESSES = {
    unicorn.UC_MEM_READ_UNMAPPED: "read of unmapped memory",
    unicorn.UC_MEM_WRITE_UNMAPPED: "write to unmapped memory",
    unicorn.UC_MEM_FETCH_UNMAPPED: "jump to unmapped memory",
    unicorn.UC_MEM_WRITE_PROT: "write to flash",
    unicorn.UC_MEM_READ_PROT: "read of protected memory",
    unicorn.UC_MEM_FETCH_PROT: "jump to memory that is not code",
}
# Numbers of QEMU's Arm exceptions.
EXCEPTIONS = {
    1: "undefined instruction",
    2: "supervisor call",
    3: "jump to memory that is not code",
    4: "unaligned or invalid access",
    7: "breakpoint",
    8: "exception return outside an exception",
    17: "floating-point or coprocessor instruction that this core has not",
    18: "switch to Arm state (a function pointer without its Thumb bit)",
    19: "stack overflow",
    23: "unaligned access",
}


def make(target: Target) -> Uc:
    """An engine with the target's core and no memory."""
    # Not UC_MODE_MCLASS: it makes every core a Cortex-M33, whatever model is set.
    uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB)
    uc.ctl_set_cpu_model(getattr(arm_const, f"UC_CPU_ARM_{target.core.unicorn_cpu}"))
    return uc


def named(error: UcError) -> str:
    """What ended a run."""
    known = {unicorn.UC_ERR_INSN_INVALID: "undefined instruction"}
    return known.get(error.errno, str(error))


def peek(uc: Uc, address: int, size: int) -> bytes:
    """Memory for a report: what cannot be read is zeros."""
    try:
        return bytes(uc.mem_read(address, size))
    except UcError:
        return bytes(size)


def registers(uc: Uc) -> dict[str, int]:
    """Core registers by name."""
    return {name: int(uc.reg_read(number)) for name, number in REGISTERS.items()}
