"""Why a core is in its fault handler, from its fault status registers and its exception frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping

STATUS = 0xE000_ED28  # CFSR; Armv6-M has none and reads as zero
MEMORY_ADDRESS = 0xE000_ED34  # MMFAR
BUS_ADDRESS = 0xE000_ED38  # BFAR
_FRAME = ("r0", "r1", "r2", "r3", "r12", "lr", "pc")  # pushed by the core, then xpsr
_FRAME_SIZE = 32
_MEMORY_ADDRESS_VALID = 1 << 7
_BUS_ADDRESS_VALID = 1 << 15
# Bits of CFSR, most telling first.
_CAUSES: Mapping[int, str] = {
    20: "stack overflow",
    4: "stack overflow: its memory refused the exception's frame",
    12: "stack overflow: its memory refused the exception's frame",
    16: "undefined instruction",
    17: "switch to Arm state (a function pointer without its Thumb bit)",
    18: "exception return outside an exception",
    19: "floating-point or coprocessor instruction that this core has not, or that is not enabled",
    24: "unaligned access",
    25: "division by zero",
    0: "jump to memory that is not code",
    8: "jump to unmapped memory",
    1: "access that the memory protection refuses",
    9: "access to unmapped memory",
    10: "access to unmapped memory, noticed late",
}


def in_exception(registers: Mapping[str, int]) -> bool:
    """Whether lr holds what a core puts there when it takes an exception."""
    return registers["lr"] >> 24 == 0xFF


def fault_cause(read_word: Callable[[int], int]) -> tuple[str, int | None]:
    """The reason, and the address accessed where the core knows it."""
    status = read_word(STATUS)
    address = None
    if status & _MEMORY_ADDRESS_VALID:
        address = read_word(MEMORY_ADDRESS)
    elif status & _BUS_ADDRESS_VALID:
        address = read_word(BUS_ADDRESS)
    reasons = (reason for bit, reason in _CAUSES.items() if status >> bit & 1)
    return next(reasons, "hard fault"), address


def stacked_registers(
    registers: Mapping[str, int], read_word: Callable[[int], int]
) -> dict[str, int]:
    """The registers as they were when the exception was taken."""
    frame = registers["sp"]
    stacked = {name: read_word(frame + 4 * i) for i, name in enumerate(_FRAME)}
    return {**registers, **stacked, "sp": frame + _FRAME_SIZE}
