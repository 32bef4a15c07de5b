"""Watches the data reads of running code, which Unicorn 2.1 does not survive without help."""

from __future__ import annotations

from collections.abc import Callable

from unicorn import UC_HOOK_MEM_READ, Uc, arm_const

_IT_BITS = 0x0600_FC00  # of CPSR: the rest of an IT block


def watch_reads(uc: Uc, start: int, end: int, call: Callable[[int, int], None]) -> None:
    """Calls back with address and size for each load from start up to, but not including, end.

    Install it before any code has run: blocks that are translated already do not call it.

    When a load inside an IT block calls a hook, Unicorn stores the state of the IT block, for a fault
    that might follow, and does not take it back at the block's end: the next block is then executed
    as if it were conditional. No translated code reads that state before the end of the block, where
    it has to be zero, or is written anew when the IT block goes on behind it: so it is cleared here.
    """

    def on_read(engine: Uc, access: int, address: int, size: int, value: int, user: object) -> None:
        status = engine.reg_read(arm_const.UC_ARM_REG_CPSR)
        if status & _IT_BITS:
            engine.reg_write(arm_const.UC_ARM_REG_CPSR, status & ~_IT_BITS)
        call(address, size)

    uc.hook_add(UC_HOOK_MEM_READ, on_read, None, start, end - 1)
