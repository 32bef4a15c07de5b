"""A machine that stands still -> where it stands, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from emulator.elf import Image
from emulator.fault import Report
from emulator.timing.instruction import decode, encodings
from targets.target import Target

Read = Callable[[int, int], bytes]
MAX_CALLS = 16
SCANNED = 4096  # bytes of stack searched for return addresses


def report(
    reason: str,
    image: Image,
    target: Target,
    read: Read,
    registers: dict[str, int],
    address: int | None = None,
    symbol: str = "",
) -> Report:
    """A fault's facts.

    Args:
        reason: what happened.
        image: for the names of things.
        target: for the extent of RAM.
        read: reads memory; what cannot be read is to be zeros.
        registers: at least sp, lr and pc.
        address: what was accessed.
        symbol: the function concerned; empty: the one around pc, or its caller after a wild jump.
    """
    pc, caller = registers["pc"], registers["lr"] - 2
    in_ram = address is not None and target.ram.base <= address < target.ram.end
    return Report(
        reason,
        pc,
        address,
        location(image, address) if address is not None and in_ram else "",
        symbol or image.function_at(pc) or image.function_at(caller),
        instruction(read, image, pc),
        call_stack(read, image, registers, target.ram.end),
        registers,
    )


def instruction(read: Read, image: Image, pc: int) -> str:
    """The instruction at an address in assembly; empty outside of known code."""
    if not image.function_at(pc):
        return ""
    found = decode(next(encodings(read(pc, 4))))[0]
    return f"{found.mnemonic} {found.operands}".strip()


def location(image: Image, address: int) -> str:
    """What lies at an address of RAM: an object, or how far past the one before it."""
    found = image.object_before(address)
    if found is None:
        return ""
    offset = address - found.address
    if offset < found.size:
        return f"{found.name} + {offset}"
    return f"{offset - found.size + 1} bytes past {found.name}"


def call_stack(read: Read, image: Image, registers: dict[str, int], top: int) -> tuple[str, ...]:
    """Callers of where pc is, innermost first.

    There are no frame pointers: every word on the stack that points behind a call counts as a return
    address. One that a finished call left in a hole of a live frame would be listed too.

    Args:
        read: reads memory.
        image: for the functions.
        registers: at least sp, lr and pc.
        top: end of the stack.
    """
    found: list[str] = []
    for word in (registers["lr"], *_stack(read, registers["sp"], top)):
        name = image.function_at(word & ~1)
        if word & 1 and name and _follows_call(read, word & ~1) and len(found) < MAX_CALLS:
            found.append(name)
    here = image.function_at(registers["pc"])
    return tuple(found[1:] if found and found[0] == here and len(found) > 1 else found)


def _stack(read: Read, sp: int, top: int) -> Iterator[int]:
    if sp % 4 or not sp < top:
        return
    data = read(sp, min(top - sp, SCANNED))
    for i in range(0, len(data) - 3, 4):
        yield int.from_bytes(data[i : i + 4], "little")


def _follows_call(read: Read, address: int) -> bool:
    """Whether BL, or BLX of a register, ends at an address."""
    wide, narrow = read(address - 4, 4), read(address - 2, 2)
    is_bl = wide[1] >> 3 == 0b11110 and wide[3] >> 6 == 0b11 and bool(wide[3] & 0x10)
    return is_bl or (narrow[1] == 0x47 and narrow[0] >> 7 == 1)
