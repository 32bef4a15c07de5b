"""A Cortex-M that runs one image: boot it, call its functions, measure them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import unicorn
from unicorn import UC_ARCH_ARM, UC_MODE_THUMB, Uc, UcError, arm_const

from emulator import elf, memory
from emulator.blocks import BlockCount, BlockCounter, block_counter
from emulator.fault import Fault
from emulator.memory import GATE
from emulator.stack import StackGauge
from targets.errors import UsageError
from targets.target import Target

TIMEOUT_S = 60.0

_CORE = {f"r{i}": getattr(arm_const, f"UC_ARM_REG_R{i}") for i in range(13)}
_REGISTERS = {
    **_CORE,
    "sp": arm_const.UC_ARM_REG_SP,
    "lr": arm_const.UC_ARM_REG_LR,
    "pc": arm_const.UC_ARM_REG_PC,
}
ARGUMENTS = ("r0", "r1", "r2", "r3")
PRESERVED = {f"r{i}": 0xC0DE_0000 + i for i in range(4, 12)}  # a callee must keep them
_ACCESSES = {
    unicorn.UC_MEM_READ_UNMAPPED: "read of unmapped memory",
    unicorn.UC_MEM_WRITE_UNMAPPED: "write to unmapped memory",
    unicorn.UC_MEM_FETCH_UNMAPPED: "jump to unmapped memory",
    unicorn.UC_MEM_WRITE_PROT: "write to flash",
    unicorn.UC_MEM_READ_PROT: "read of protected memory",
    unicorn.UC_MEM_FETCH_PROT: "jump to memory that is not code",
}
# Numbers of QEMU's Arm exceptions.
_EXCEPTIONS = {
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


@dataclass(frozen=True, slots=True)
class Measured:
    """One call and what it took."""

    result: int
    stack: int  # bytes
    blocks: tuple[BlockCount, ...]  # empty when the machine does not count


class CortexM:
    """A target's core and memory, loaded with an image.

    boot() first; then call() and measure() any number of times. After a Fault the machine is of no
    more use.
    """

    def __init__(
        self, target: Target, image: Path, *, count: bool = False, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Maps memory and loads the image.

        Args:
            target: the board.
            image: an ELF file.
            count: count blocks, for Measured.blocks.
            timeout_s: a call that takes longer is a Fault.
        """
        if not target.core.unicorn_cpu:
            raise UsageError(f"Unicorn has no {target.core.name}", hint="use QEMU: --engine qemu")
        self._image = elf.read(image)
        self._timeout_us = max(1, round(timeout_s * 1e6))
        self._target = target
        # Not UC_MODE_MCLASS: it makes every core a Cortex-M33, whatever model is set.
        self._uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB)
        self._uc.ctl_set_cpu_model(getattr(arm_const, f"UC_CPU_ARM_{target.core.unicorn_cpu}"))
        memory.map_memory(self._uc, target)
        memory.load(self._uc, target, self._image)
        self._stack_limit = memory.stack_limit(target.ram, self._image)
        self._refused: tuple[str, int | None] | None = None
        self._uc.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._on_invalid_access)
        self._uc.hook_add(unicorn.UC_HOOK_INTR, self._on_exception)
        self._counter: BlockCounter | None = block_counter(self._uc) if count else None

    def __enter__(self) -> Self:
        """Boots."""
        self.boot()
        return self

    def __exit__(self, *error: object) -> None:
        """Closes."""
        self.close()

    def close(self) -> None:
        """Gives the memory back."""
        for region in self._target.regions:
            self._uc.mem_unmap(region.base, region.size)

    @property
    def counts(self) -> bool:
        """Whether calls count blocks."""
        return self._counter is not None

    def boot(self) -> None:
        """Runs from the reset vector until the application is idle."""
        table = self._target.vector_table
        self._set("sp", self.read_word(table))
        self._execute(self.read_word(table + 4), self.address("app_idle"))
        if self._target.core.fpu and self.read_word(memory.CPACR) >> 20 & 0xF != 0xF:
            raise self.fault("the firmware did not enable the floating-point unit")

    def call(self, function: str, *arguments: int) -> int:
        """Calls a C function of at most four words, and returns its first result word."""
        if len(arguments) > len(ARGUMENTS):
            raise ValueError(f"{function}: arguments on the stack are not supported")
        for name, value in zip(ARGUMENTS, arguments, strict=False):
            self._set(name, value & 0xFFFF_FFFF)
        self._set("lr", GATE | 1)
        preserved = {**PRESERVED, "sp": self._get("sp")}
        for name, value in preserved.items():
            self._set(name, value)
        self._execute(self.address(function) | 1, GATE)
        spoiled = [name for name, value in preserved.items() if self._get(name) != value]
        if spoiled:
            raise self.fault(f"{', '.join(spoiled)} not preserved", symbol=function)
        return self._get("r0")

    def measure(self, function: str, *arguments: int) -> Measured:
        """Calls a function, and reports its stack and, when the machine counts, its blocks."""
        gauge = StackGauge(self, self._stack_limit, self._get("sp"))
        gauge.paint()
        if self._counter:
            self._counter.take()
        result = self.call(function, *arguments)
        blocks = self._counter.take() if self._counter else ()
        stack = gauge.used()
        if stack == gauge.size:
            raise self.fault(f"stack of {stack} bytes overflowed", symbol=function)
        return Measured(result, stack, blocks)

    def address(self, symbol: str) -> int:
        """Address of a global symbol, without the Thumb bit."""
        if symbol not in self._image.symbols:
            raise UsageError(f"the image has no symbol '{symbol}'")
        return self._image.symbols[symbol]

    def function_at(self, address: int) -> str:
        """Name of the function around an address, or an empty string."""
        return self._image.function_at(address)

    def read(self, address: int, size: int) -> bytes:
        """Reads memory."""
        try:
            return bytes(self._uc.mem_read(address, size))
        except UcError as error:
            raise self.fault(f"host read of {size} bytes", address) from error

    def read_word(self, address: int) -> int:
        """Reads a word."""
        return int.from_bytes(self.read(address, 4), "little")

    def write(self, address: int, data: bytes) -> None:
        """Writes memory."""
        try:
            self._uc.mem_write(address, data)
        except UcError as error:
            raise self.fault(f"host write of {len(data)} bytes", address) from error

    def fault(self, reason: str, address: int | None = None, symbol: str = "") -> Fault:
        """A Fault with this reason, where the machine stands; after a wild jump, where it began."""
        registers = {name: self._get(name) for name in _REGISTERS}
        pc, caller = registers["pc"], registers["lr"] - 2
        symbol = symbol or self.function_at(pc) or self.function_at(caller)
        return Fault(reason, address=address, pc=pc, symbol=symbol, registers=registers)

    def _execute(self, start: int, stop: int) -> None:
        """Runs until pc is at stop; anything else is a Fault."""
        self._refused = None
        try:
            # A limit on instructions (count=) would halve the speed; the clock costs nothing.
            self._uc.emu_start(start | 1, stop, timeout=self._timeout_us)
        except UcError as error:
            raise self.fault(*(self._refused or (_named(error), None))) from error
        if self._refused:
            raise self.fault(*self._refused)
        if self._get("pc") != stop:
            stuck = self._uc.query(unicorn.UC_QUERY_TIMEOUT)
            limit = f"did not return within {self._timeout_us / 1e6:g} s"
            raise self.fault(limit if stuck else "stopped by itself (wfi or wfe)")
        if self._counter:
            self._counter.finish(stop)

    def _on_invalid_access(
        self, uc: Uc, access: int, address: int, size: int, value: int, user: object
    ) -> bool:
        self._refused = (_ACCESSES.get(access, "invalid access"), address)
        return False

    def _on_exception(self, uc: Uc, number: int, user: object) -> None:
        self._refused = (_EXCEPTIONS.get(number, f"exception {number}"), None)
        uc.emu_stop()

    def _get(self, register: str) -> int:
        return int(self._uc.reg_read(_REGISTERS[register]))

    def _set(self, register: str, value: int) -> None:
        self._uc.reg_write(_REGISTERS[register], value)


def _named(error: UcError) -> str:
    known = {unicorn.UC_ERR_INSN_INVALID: "undefined instruction"}
    return known.get(error.errno, str(error))
