"""Exception entry and return of Armv6-M, Armv7-M and Armv8-M without security states.

Unicorn does neither: registers are stacked and unstacked here, between blocks. A frame with
floating-point registers is written at once, not lazily.
"""

from __future__ import annotations

from unicorn import Uc, arm_const

# Numbers of exceptions; interrupt n is IRQ0 + n.
NMI = 2
HARD_FAULT = 3
SVCALL = 11
PENDSV = 14
SYSTICK = 15
IRQ0 = 16

MAGIC = 0xFF00_0000  # a branch to here or above, in handler mode, is a return
RETURN_CYCLES = 10

_STACKED = (
    *(getattr(arm_const, f"UC_ARM_REG_{name}") for name in ("R0", "R1", "R2", "R3", "R12", "LR")),
)
_FLOATS = tuple(getattr(arm_const, f"UC_ARM_REG_S{i}") for i in range(16))
_BASIC, _EXTENDED = 0x20, 0x68  # bytes of a frame without and with floating-point registers
_SPSEL, _FPCA = 1 << 1, 1 << 2  # in CONTROL
_THUMB, _PADDED = 1 << 24, 1 << 9  # in xPSR


class BadReturn(Exception):
    """A return that hardware would answer with a usage fault; the text says why."""


def current(uc: Uc) -> int:
    """Number of the exception being handled; 0 in thread mode."""
    return int(uc.reg_read(arm_const.UC_ARM_REG_IPSR)) & 0x1FF


def uses_floats(uc: Uc) -> bool:
    """Whether the running code has touched floating-point registers."""
    return bool(uc.reg_read(arm_const.UC_ARM_REG_CONTROL) & _FPCA)


def entry_cycles(thumb2: bool) -> int:
    """Cycles from an interrupt to its handler, on memory without wait states."""
    return 12 if thumb2 else 15


def enter(uc: Uc, number: int, resume: int, *, fpu: bool, v8: bool) -> None:
    """Stacks the running code's state and goes into handler mode. The caller sets pc.

    Args:
        uc: the core, stopped between two instructions.
        number: of the exception.
        resume: address of the first instruction not executed.
        fpu: the core has floating-point registers.
        v8: the core is an Armv8-M one, whose returns look different.

    Raises:
        UcError: the stack lies outside memory.
    """
    control = int(uc.reg_read(arm_const.UC_ARM_REG_CONTROL))
    xpsr = int(uc.reg_read(arm_const.UC_ARM_REG_XPSR)) | _THUMB
    sp = int(uc.reg_read(arm_const.UC_ARM_REG_SP))
    handler = bool(xpsr & 0x1FF)
    extended = fpu and bool(control & _FPCA)
    frame = sp - (_EXTENDED if extended else _BASIC) & ~7 & 0xFFFF_FFFF
    saved = xpsr | (_PADDED if sp & 4 else 0)
    words = [*(int(uc.reg_read(register)) for register in _STACKED), resume & ~1, saved]
    if extended:
        words += [int(uc.reg_read(register)) for register in _FLOATS]
        words += [int(uc.reg_read(arm_const.UC_ARM_REG_FPSCR)), 0]
    uc.mem_write(frame, b"".join(word.to_bytes(4, "little") for word in words))

    process = not handler and bool(control & _SPSEL)
    magic = 0xFFFF_FFA0 if v8 else 0xFFFF_FFE1
    magic |= (0 if extended else 1 << 4) | (0 if handler else 1 << 3) | (1 << 2 if process else 0)
    uc.reg_write(arm_const.UC_ARM_REG_SP, frame)
    uc.reg_write(arm_const.UC_ARM_REG_CONTROL, control & ~(_SPSEL | _FPCA))
    uc.reg_write(arm_const.UC_ARM_REG_XPSR, _THUMB | number)
    uc.reg_write(arm_const.UC_ARM_REG_LR, magic)


def leave(uc: Uc, magic: int) -> int:
    """Unstacks what enter() stacked, from the stack that EXC_RETURN names; returns the address to go on.

    Raises:
        BadReturn: EXC_RETURN and the frame contradict each other.
        UcError: the stack lies outside memory.
    """
    thread, process, extended = bool(magic & 8), bool(magic & 4), not magic & 16
    stack = arm_const.UC_ARM_REG_PSP if process else arm_const.UC_ARM_REG_MSP
    frame = int(uc.reg_read(stack))
    size = _EXTENDED if extended else _BASIC
    data = bytes(uc.mem_read(frame, size))
    words = [int.from_bytes(data[i : i + 4], "little") for i in range(0, size, 4)]
    resume, saved = words[6], words[7]
    if thread != (saved & 0x1FF == 0):
        raise BadReturn(f"exception return 0x{magic:08x} to a frame of the other mode")
    if not saved & _THUMB:
        raise BadReturn("exception return to Arm state")
    for register, word in zip(_STACKED, words, strict=False):
        uc.reg_write(register, word)
    for register, word in zip(_FLOATS, words[8:24], strict=False):
        uc.reg_write(register, word)
    if extended:
        uc.reg_write(arm_const.UC_ARM_REG_FPSCR, words[24])
    uc.reg_write(stack, frame + size | (4 if saved & _PADDED else 0))
    uc.reg_write(arm_const.UC_ARM_REG_XPSR, saved & ~_PADDED)
    control = int(uc.reg_read(arm_const.UC_ARM_REG_CONTROL)) & ~(_SPSEL | _FPCA)
    control |= (_SPSEL if process else 0) | (_FPCA if extended else 0)
    uc.reg_write(arm_const.UC_ARM_REG_CONTROL, control)
    return resume & ~1
