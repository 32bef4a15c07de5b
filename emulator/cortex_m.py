"""A Cortex-M that runs one image: boot it, call its functions, measure them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import unicorn
from unicorn import Uc, UcError

from emulator import elf, isa, memory, postmortem, unicorn_core
from emulator.blocks import BlockCount, BlockCounter, block_counter
from emulator.bus import Bus
from emulator.exceptions import uses_floats
from emulator.fault import Fault
from emulator.memory import GATE
from emulator.monitor import Events, Monitor
from emulator.shadow import ArenaMap, Shadow
from emulator.stack import StackGauge
from emulator.timing.instruction import Instruction, decode
from targets.errors import UsageError
from targets.target import Target

TIMEOUT_S = 60.0
INSTRUCTION_LIMIT = 1_000_000_000  # of one call; two to five seconds
_LONGEST = 4  # bytes of an instruction

ARGUMENTS = ("r0", "r1", "r2", "r3")
PRESERVED = {f"r{i}": 0xC0DE_0000 + i for i in range(4, 12)}  # a callee must keep them
_NO_VECTORS = "the vector table holds no {what}: 0x{value:08x}"


@dataclass(frozen=True, slots=True)
class Measured:
    """One call and what it took."""

    result: int
    stack: int  # bytes
    blocks: tuple[BlockCount, ...]  # empty when the machine does not count
    events: Mapping[int, Events] = field(default_factory=dict)  # by block; empty when not watched


class CortexM:
    """A target's core and memory, loaded with an image.

    boot() first; then call() and measure() any number of times. After a Fault the machine is of no
    more use.
    """

    def __init__(
        self,
        target: Target,
        image: Path,
        *,
        count: bool = False,
        watch: bool = False,
        instruction_limit: int = INSTRUCTION_LIMIT,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Maps memory and loads the image.

        Args:
            target: the board.
            image: an ELF file.
            count: count blocks, for Measured.blocks; and refuse instructions that the core has not.
            watch: check every access, and see the events for Measured.events; some ten times slower.
            instruction_limit: a call that executes more is a Fault, when blocks are counted.
            timeout_s: a call that takes longer is a Fault.
        """
        if not target.core.unicorn_cpu:
            raise UsageError(f"Unicorn has no {target.core.name}", hint="use QEMU: --engine qemu")
        self._image = elf.read(image)
        self._timeout_us = max(1, round(timeout_s * 1e6))
        self._limit = instruction_limit
        self._target = target
        self._uc = unicorn_core.make(target)
        memory.map_memory(self._uc, target)
        memory.load(self._uc, target, self._image)
        self._bus = Bus(self._uc)
        self._bus.map(memory.SYSTEM_CONTROL, memory.PAGE)
        self._floats = _FloatSwitch(self._uc)
        self._bus.attach(memory.CPACR, 4, self._floats)
        self._stack_limit = memory.stack_limit(target.ram, self._image)
        self._refused: tuple[str, int | None] | None = None
        self._uc.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._on_invalid_access)
        self._uc.hook_add(unicorn.UC_HOOK_INTR, self._on_exception)
        self._counter: BlockCounter | None = block_counter(self._uc) if count else None
        self._known_blocks: set[tuple[int, int]] = set()
        self._monitor = Monitor(self._uc, target, self._image) if watch else None

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
        stack, reset = self.read_word(table), self.read_word(table + 4)
        if not any(r.base < stack <= r.end and r.kind == "ram" for r in self._target.regions):
            raise self.fault(_NO_VECTORS.format(what="stack in RAM", value=stack), table)
        if not reset & 1 or not self._image.code(reset & ~1, 2):
            raise self.fault(_NO_VECTORS.format(what="reset handler", value=reset), table + 4)
        self._set("sp", stack)
        self._execute(reset, self.address("app_idle"))

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
        if self._monitor:
            self._monitor.take()
        result = self.call(function, *arguments)
        blocks = self._counted
        stack = gauge.used()
        if stack == gauge.size:
            raise self.fault(f"stack of {stack} bytes overflowed", symbol=function)
        events = self._monitor.take() if self._monitor else {}
        return Measured(result, stack, blocks, events)

    def address(self, symbol: str) -> int:
        """Address of a global symbol, without the Thumb bit."""
        if symbol not in self._image.symbols:
            raise UsageError(f"the image has no symbol '{symbol}'")
        return self._image.symbols[symbol]

    def function_at(self, address: int) -> str:
        """Name of the function around an address, or an empty string."""
        return self._image.function_at(address)

    def code(self, address: int, size: int) -> bytes:
        """What the image holds at an address: code that a run has executed."""
        return self._image.code(address, size)

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
        if self._monitor:
            self._monitor.define(address, len(data))

    def poison(self, address: int, size: int) -> None:
        """Overwrites memory with what no program may rely on."""
        self.write(address, bytes((memory.POISON,)) * size)
        if self._monitor:
            self._monitor.forget(address, size)

    def confine(self, *variables: str) -> None:
        """From here on, RAM is the stack and these variables; a watched run may access no other."""
        if not self._monitor:
            return
        for region in self._target.regions:
            if region.kind == "ram":
                self._monitor.forbid(region.base, region.size)
        floor = self._stack_limit + memory.RED_ZONE
        self._monitor.allow(floor, self._target.ram.end - floor)
        own = (o for o in self._image.objects if not o.name.startswith("app_"))
        named = (o for o in self._image.objects if o.name in variables)
        for variable in (*own, *named):
            self._monitor.allow(variable.address, variable.size)

    def shadow(self, base: int, arena: ArenaMap) -> Shadow | None:
        """Tags on every byte of an arena; None when the run is not watched."""
        return self._monitor.shadow(base, arena) if self._monitor else None

    def fault(self, reason: str, address: int | None = None, symbol: str = "") -> Fault:
        """A Fault with this reason, where the machine stands; after a wild jump, where it began."""
        return self._fault_at(self._get("pc"), reason, address, symbol)

    def _fault_at(self, pc: int, reason: str, address: int | None, symbol: str = "") -> Fault:
        registers = unicorn_core.registers(self._uc) | {"pc": pc}
        facts = (self._image, self._target, partial(unicorn_core.peek, self._uc), registers)
        return Fault(postmortem.report(reason, *facts, address, symbol))

    def _execute(self, start: int, stop: int) -> None:
        """Runs until pc is at stop; anything else is a Fault."""
        self._refused = None
        self._counted: tuple[BlockCount, ...] = ()
        if self._counter:
            self._counter.limit(self._limit * _LONGEST)
        try:
            # Unicorn's own limit on instructions (count=) would halve the speed.
            self._uc.emu_start(start | 1, stop, timeout=self._timeout_us)
        except UcError as error:
            self._raise_violation()
            raise self.fault(*(self._refused or (unicorn_core.named(error), None))) from error
        self._raise_violation()
        if self._refused:
            raise self.fault(*self._refused)
        if self._get("pc") != stop:
            raise self.fault(self._stuck())
        if self._counter:
            self._counter.finish(stop)
            self._counted = self._counter.take()
            self._check_instructions()
        if self._floats.too_early or (not self._floats.enabled and uses_floats(self._uc)):
            reason = "floating-point instruction before CPACR enables the unit"
            raise self._fault_at(self._float_executed(), reason, None)

    def _stuck(self) -> str:
        if self._counter and self._counter.exhausted:
            return f"did not return within {self._limit:,} instructions"
        if self._uc.query(unicorn.UC_QUERY_TIMEOUT):
            return f"did not return within {self._timeout_us / 1e6:g} s"
        return "stopped by itself (wfi or wfe)"

    def _raise_violation(self) -> None:
        violation = self._monitor.violation() if self._monitor else None
        if violation:
            raise self._fault_at(violation.pc, violation.reason, violation.address)

    def _check_instructions(self) -> None:
        """Refuses what Unicorn executes and the core would not."""
        for block in self._counted:
            if (block.address, block.size) not in self._known_blocks:
                self._known_blocks.add((block.address, block.size))
                for address, instruction in self._instructions(block):
                    reason = isa.violation(instruction, self._target.core)
                    if reason:
                        raise self._fault_at(address, reason, None)

    def _instructions(self, block: BlockCount) -> Iterator[tuple[int, Instruction]]:
        address = block.address
        for instruction in decode(self.read(block.address, block.size)):
            yield address, instruction
            address += instruction.size

    def _float_executed(self) -> int:
        """Address of a floating-point instruction that was executed; where the core is, if unknown."""
        executed = (at for block in self._counted for at in self._instructions(block))
        floats = (address for address, instruction in executed if instruction.is_float)
        return next(floats, self._get("pc"))

    def _on_invalid_access(
        self, uc: Uc, access: int, address: int, size: int, value: int, user: object
    ) -> bool:
        self._refused = (unicorn_core.ACCESSES.get(access, "invalid access"), address)
        return False

    def _on_exception(self, uc: Uc, number: int, user: object) -> None:
        self._refused = (unicorn_core.EXCEPTIONS.get(number, f"exception {number}"), None)
        uc.emu_stop()

    def _get(self, register: str) -> int:
        return int(self._uc.reg_read(unicorn_core.REGISTERS[register]))

    def _set(self, register: str, value: int) -> None:
        self._uc.reg_write(unicorn_core.REGISTERS[register], value)


class _FloatSwitch:
    """CPACR: notes whether floating-point registers were touched before it enabled them."""

    def __init__(self, uc: Uc) -> None:
        self._uc = uc
        self._value = 0
        self.too_early = False

    @property
    def enabled(self) -> bool:
        """Full access for all code."""
        return self._value >> 20 & 0xF == 0xF

    def peek(self, offset: int) -> int:
        """What it holds."""
        return self._value

    def read(self, offset: int) -> int:
        """What it holds."""
        return self._value

    def write(self, offset: int, value: int) -> None:
        """From here on."""
        if not self.enabled and uses_floats(self._uc):
            self.too_early = True
        self._value = value
