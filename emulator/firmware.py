"""A whole firmware image on a target: core, exceptions, peripherals, time. Nothing is called by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, Self

import unicorn
from unicorn import Uc, UcError, arm_const

from emulator import elf, exceptions, memory, postmortem, unicorn_core
from emulator.blocks import BlockCount, BlockCounter
from emulator.board import Board
from emulator.clock import NEVER, Watch, block_clock
from emulator.exceptions import SVCALL, BadReturn
from emulator.fault import Fault
from emulator.interrupts import Masks
from emulator.monitor import Events, Monitor
from emulator.semihosting import Semihosting
from emulator.timing.price import pricing
from targets import family
from targets.errors import UsageError
from targets.target import Target

Stop = Literal["until", "stopped", "idle", "starved", "cycles", "reset", "exit"]

DEFAULT_SECONDS = 60  # of the board's time
_NOWHERE = 0xFFFF_FFFE  # where no run ends
_SVC, _PREFETCH_ABORT, _BREAKPOINT, _EXCEPTION_EXIT = 2, 3, 7, 8  # numbers of QEMU's exceptions
_SEMIHOSTING = 0xBEAB  # bkpt 0xab
_WFE, _YIELD = 0xBF20, 0xBF10


class Firmware:
    """A board running an image from reset on, as far as its family's data describes it.

    The same image with the same input does the same at the same modelled time, on every machine:
    nothing here looks at the host's clock. After a Fault the machine is of no more use.
    """

    def __init__(
        self,
        target: Target,
        image: Path,
        *,
        counter: Callable[[Uc], BlockCounter] | None = None,
        watch: bool = False,
        cycles_model: str | None = None,
    ) -> None:
        """Loads an image and resets.

        Args:
            target: a board whose file names a family of peripherals.
            image: an ELF file, or a raw binary that begins at the start of flash.
            counter: what counts blocks for take_blocks(), like blocks.block_counter.
            watch: see what flash has to be read for, for take_events().
            cycles_model: how to price blocks; this is what time is made of. None: as the target's core.
        """
        if not target.family:
            hint = "name a 'family' and a 'console' in its TOML"
            raise UsageError(f"no peripherals are known of '{target.name}'", hint=hint)
        self._target = target
        described = family.load(target.family)
        self._image = elf.read_or_raw(image, target.flash.base)
        self._uc = unicorn_core.make(target)
        memory.map_regions(self._uc, target)
        memory.load(self._uc, target, self._image)
        for alias in described.aliases:
            memory.map_alias(self._uc, target, alias.base, alias.of)
        self._clock = block_clock(
            self._uc, _pricing(self.read, cycles_model or target.core.cycle_model)
        )
        # After the clock: Unicorn asks no further hook about a block that the clock has stopped.
        self._counter = counter(self._uc) if counter else None
        self._monitor = Monitor(self._uc, target) if watch else None
        self._event: int | None = None
        self._refused: tuple[str, int] | None = None
        self._uc.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._on_invalid_access)
        self._uc.hook_add(unicorn.UC_HOOK_INTR, self._on_exception)
        self._board = Board(self._uc, target, described, self._clock)
        self._board.console.on_transmit = self._on_transmit
        self._board.console.on_starved = self._on_starved
        self._received = bytearray()
        self._until = b""
        self._seen = 0  # bytes received before run() was called
        self._host = Semihosting(self.read, self.write, lambda: self._clock.cycles, target.clock_hz)
        self._uc.reg_write(arm_const.UC_ARM_REG_MSP, self._word(target.vector_table))
        self._uc.reg_write(arm_const.UC_ARM_REG_LR, 0xFFFF_FFFF)
        self._pc = self._word(target.vector_table + 4) & ~1
        self._asleep = False
        self._stop_asked = False
        self._starved = False
        self.stops_starved = False  # end run() when the firmware polls its console in vain

    def __enter__(self) -> Self:
        """Returns itself: the image is at reset."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes."""
        self.close()

    def close(self) -> None:
        """Gives the memory back."""
        for region in self._target.regions:
            self._uc.mem_unmap(region.base, region.size)

    @property
    def on_time_read(self) -> Callable[[int], None]:
        """Called with the address at each read of a timer's count or of CYCCNT, before it is answered."""
        return self._board.on_time_read

    @on_time_read.setter
    def on_time_read(self, call: Callable[[int], None]) -> None:
        self._board.on_time_read = call

    @property
    def board(self) -> str:
        """Name of the target."""
        return self._target.name

    @property
    def cycles(self) -> int:
        """Modelled cycles since reset."""
        return self._clock.cycles

    @property
    def received(self) -> bytes:
        """What the firmware has sent on its console."""
        return bytes(self._received)

    def received_from(self, start: int) -> bytes:
        """What the firmware has sent on its console after so many bytes."""
        return bytes(self._received[start:])

    @property
    def clock_hz(self) -> int:
        """Cycles per second of the board's time."""
        return self._target.clock_hz

    @property
    def text(self) -> bytes:
        """What the firmware has printed by semihosting."""
        return bytes(self._host.text)

    @property
    def exit_code(self) -> int | None:
        """What the firmware has ended with by semihosting, or None."""
        return self._host.exit_code

    def send(self, data: bytes) -> None:
        """Sends bytes to the firmware's console."""
        self._board.console.send(data)

    def stop(self) -> None:
        """Ends run() soon; may be used within on_time_read."""
        self._stop_asked = True
        self._clock.stop_soon()

    def take_events(self) -> Mapping[int, Events]:
        """What blocks caused since the last call, by address; nothing when not watched."""
        return self._monitor.take() if self._monitor else {}

    def take_blocks(self) -> tuple[BlockCount, ...]:
        """Blocks counted since the last call; within on_time_read, the one that reads is counted."""
        return self._counter.take() if self._counter else ()

    def run(self, until: bytes = b"", max_cycles: int | None = None) -> Stop:
        """Runs on.

        Args:
            until: stop when the console has sent this since the call.
            max_cycles: modelled cycles to run at most; default: 60 seconds of the board's.

        Returns:
            "until"; "stopped" by stop(); "idle" when the firmware sleeps and nothing can wake it
            but input; "starved" when it polls its console in vain and stops_starved is set; "cycles"
            at the limit; "reset" when it asked for one; "exit" by semihosting.

        Raises:
            Fault: it did what hardware would answer with a fault.
        """
        cycles = DEFAULT_SECONDS * self._target.clock_hz if max_cycles is None else max_cycles
        limit = self._clock.cycles + cycles
        self._until, self._seen = until, len(self._received)
        self._asleep = False  # a core may always wake up
        while True:
            self._collect()
            stop = self._stopped(limit)
            if stop:
                return stop
            if self._asleep:
                self._clock.skip(min(limit, self._board.systick.next_event))
            elif not self._enter_due():
                self._slice(limit)

    def register(self, address: int) -> int:
        """A peripheral's register, without the effects of reading it."""
        return self._board.bus.peek(address)

    def read(self, address: int, size: int) -> bytes:
        """Reads memory."""
        try:
            return bytes(self._uc.mem_read(address, size))
        except UcError as error:
            raise self.fault(f"host read of {size} bytes", address) from error

    def write(self, address: int, data: bytes) -> None:
        """Writes memory."""
        try:
            self._uc.mem_write(address, data)
        except UcError as error:
            raise self.fault(f"host write of {len(data)} bytes", address) from error

    def fault(self, reason: str, address: int | None = None) -> Fault:
        """A Fault with this reason, where the machine stands."""
        registers = unicorn_core.registers(self._uc)
        facts = (self._image, self._target, partial(unicorn_core.peek, self._uc), registers)
        return Fault(postmortem.report(reason, *facts, address))

    def _collect(self) -> None:
        """Brings pending exceptions up to date, and wakes the core for them."""
        self._board.collect()
        self._asleep = self._asleep and not self._board.interrupts.wakes(self._masks())

    def _stopped(self, limit: int) -> Stop | None:
        """Why to return from run(), if for anything."""
        if self.exit_code is not None:
            return "exit"
        if self._board.system.reset_requested:
            return "reset"
        if self._until and self._until in self._received[self._seen :]:
            return "until"
        if self._stop_asked or self._starved:
            stop: Stop = "stopped" if self._stop_asked else "starved"
            self._stop_asked = self._starved = False
            return stop
        if self._clock.cycles >= limit:
            return "cycles"
        return "idle" if self._asleep and self._board.systick.next_event == NEVER else None

    def _enter_due(self) -> bool:
        """Enters the handler of the exception that is due, if one is."""
        number = self._board.interrupts.next(self._masks())
        if number is None:
            return False
        self._enter(number)
        return True

    def _enter(self, number: int) -> None:
        core = self._target.core
        handler = self._word(self._board.system.vector_table + 4 * number)
        if not handler & 1:
            raise self.fault(f"vector {number} is not the address of Thumb code", handler)
        if self._counter:
            self._counter.finish(self._pc)
        self._clock.arrive(self._pc, exceptions.entry_cycles(core.thumb2))
        try:
            v8 = core.unicorn_cpu == "CORTEX_M33"
            exceptions.enter(self._uc, number, self._pc, fpu=core.fpu, v8=v8)
        except UcError as error:
            raise self.fault(f"no memory to stack registers for exception {number}") from error
        self._board.interrupts.pending.discard(number)
        self._board.interrupts.active.append(number)
        self._pc = handler & ~1

    def _leave(self, magic: int) -> None:
        if self._counter:
            self._counter.finish(magic)
        self._clock.arrive(magic, exceptions.RETURN_CYCLES)
        try:
            self._pc = exceptions.leave(self._uc, magic)
        except BadReturn as error:
            raise self.fault(str(error)) from error
        except UcError as error:
            raise self.fault(f"no memory to unstack registers: return 0x{magic:08x}") from error
        self._board.interrupts.active.pop()
        if not self._board.interrupts.active and self._board.system.sleeps_on_exit:
            self._asleep = True

    def _slice(self, limit: int) -> None:
        """Runs to the next event: a deadline, an exception, or something for the host to do."""
        masks = self._masks()
        watch: Watch = ()
        if self._board.interrupts.held_back(masks):
            watch = (
                (arm_const.UC_ARM_REG_PRIMASK, masks.primask),
                (arm_const.UC_ARM_REG_BASEPRI, masks.basepri),
            )
        self._event = self._refused = None
        self._clock.start(min(limit, self._board.systick.next_event), watch)
        error = None
        try:
            self._uc.emu_start(self._pc | 1, _NOWHERE)
        except UcError as raised:
            error = raised
        self._clock.check()
        self._pc = int(self._uc.reg_read(arm_const.UC_ARM_REG_PC))
        if self._target.core.fpu and not self._board.system.floats_enabled:
            self._check_floats()
        self._after(error)

    def _after(self, error: UcError | None) -> None:
        """Does what the end of a slice asks for."""
        if self._pc >= exceptions.MAGIC and exceptions.current(self._uc):
            self._leave(self._pc | 1)
        elif self._event == _SVC:
            self._supervisor_call()
        elif self._event == _BREAKPOINT:
            self._breakpoint()
        elif self._event is not None:
            known = unicorn_core.EXCEPTIONS.get(self._event, f"exception {self._event}")
            raise self.fault(known, self._refused[1] if self._refused else None)
        elif error is not None:
            self._after_error(error)
        elif not self._clock.stopped:
            self._asleep = True  # wfi

    def _after_error(self, error: UcError) -> None:
        """Unicorn answers wfe and yield with an error, behind the instruction."""
        if error.errno == unicorn.UC_ERR_INSN_INVALID and self._clock.end == self._pc:
            hint = int.from_bytes(self.read(self._pc - 2, 2), "little")
            if hint in (_WFE, _YIELD):
                self._asleep = hint == _WFE
                return
        reason, address = self._refused or (unicorn_core.named(error), None)
        raise self.fault(reason, address) from error

    def _supervisor_call(self) -> None:
        self._board.interrupts.pending.add(SVCALL)
        if self._board.interrupts.next(self._masks()) != SVCALL:
            raise self.fault("supervisor call where its priority does not allow it")
        self._enter(SVCALL)

    def _breakpoint(self) -> None:
        if int.from_bytes(self.read(self._pc, 2), "little") != _SEMIHOSTING:
            raise self.fault("breakpoint")
        registers = (arm_const.UC_ARM_REG_R0, arm_const.UC_ARM_REG_R1)
        answer = self._host.answer(*(int(self._uc.reg_read(register)) for register in registers))
        self._uc.reg_write(arm_const.UC_ARM_REG_R0, answer)
        self._pc += 2

    def _check_floats(self) -> None:
        if exceptions.uses_floats(self._uc):
            raise self.fault("floating-point instruction before CPACR allows it")

    def _masks(self) -> Masks:
        primask = int(self._uc.reg_read(arm_const.UC_ARM_REG_PRIMASK))
        if not self._target.core.thumb2:
            return Masks(primask)
        basepri = int(self._uc.reg_read(arm_const.UC_ARM_REG_BASEPRI))
        return Masks(primask, basepri, int(self._uc.reg_read(arm_const.UC_ARM_REG_FAULTMASK)))

    def _word(self, address: int) -> int:
        return int.from_bytes(self.read(address, 4), "little")

    def _on_transmit(self, byte: int) -> None:
        self._received.append(byte)
        if self._until and self._received.endswith(self._until):
            self._clock.stop_soon()

    def _on_starved(self) -> None:
        if self.stops_starved:
            self._starved = True
            self._clock.stop_soon()

    def _on_invalid_access(
        self, uc: Uc, access: int, address: int, size: int, value: int, user: object
    ) -> bool:
        self._refused = (unicorn_core.ACCESSES.get(access, "invalid access"), address)
        return False

    def _on_exception(self, uc: Uc, number: int, user: object) -> None:
        self._event = number
        uc.emu_stop()


def _pricing(
    code: Callable[[int, int], bytes], model: str
) -> Callable[[int, int], tuple[int, int]]:
    """Cycles of one execution of a block, and of its taken exit."""
    priced = pricing(model)

    def of(address: int, size: int) -> tuple[int, int]:
        cost, _ = priced.block(BlockCount(address, size, 1, 1), code(address, size))
        return round(cost.total - cost.branch), round(cost.branch)

    return of
