"""QEMU as an engine: the same image on QEMU's model of a whole board, driven through its GDB stub.

A call sets registers and lets the core run to a breakpoint at the return address: the last word of
flash, where no code lies, because QEMU runs every page that holds a breakpoint one instruction at a time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Self

from emulator import elf, hard_fault, memory, postmortem, qemu_counter, qemu_process
from emulator.blocks import BlockCount
from emulator.cortex_m import ARGUMENTS, PRESERVED, TIMEOUT_S, Measured
from emulator.fault import Fault, Report
from emulator.gdb_remote import Disconnected, GdbRemote, RemoteError
from emulator.memory import POISON
from emulator.qemu_counter import QemuCounter
from emulator.qemu_process import QemuProcess, plugin_option
from emulator.shadow import ArenaMap, Shadow
from emulator.stack import StackGauge
from targets import target as targets
from targets.errors import ThumbnetError, UsageError
from targets.target import Target

BOOT_S = 10.0  # at least; starting QEMU and filling RAM take some of it
LARGE = 1 << 14  # bytes: read through a file, which takes milliseconds per megabyte
# 1: stmia r0!, {r1}; cmp r0, r2; bne 1b; 2: b 2b. The same on every core.
_FILL = bytes.fromhex("02c0 9042 fcd1 fee7")
_FILLED = 6  # offset of its last instruction


class QemuMachine:
    """A target's QEMU machine, loaded with an image. An Engine; QEMU runs from boot() to close()."""

    def __init__(
        self, target: Target, image: Path, *, count: bool = False, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Starts nothing yet.

        Args:
            target: a board that QEMU has a machine for.
            image: an ELF file.
            count: count blocks, for Measured.blocks, where this QEMU can.
            timeout_s: a call that takes longer is a Fault.
        """
        self._machine = machine_of(target)
        self._program = qemu_process.find()
        self._target = target
        self._path = image
        self._image = elf.read(image)
        memory.check_fits(target, self._image)
        self._stack_limit = memory.stack_limit(target.ram, self._image)
        self._gate = target.flash.end - 4
        self._timeout_s = timeout_s
        self._count = count
        self._counter: QemuCounter | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: QemuProcess | None = None
        self.instructions = 0  # of the last measure(), as QEMU itself decodes them

    def __enter__(self) -> Self:
        """Boots."""
        self.boot()
        return self

    def __exit__(self, *error: object) -> None:
        """Closes."""
        self.close()

    def close(self) -> None:
        """Kills QEMU; may be called twice."""
        if self._process:
            self._process.close()
        if self._folder:
            self._folder.cleanup()
        self._process = self._folder = self._counter = None

    @property
    def counts(self) -> bool:
        """Whether calls count blocks; known once booted."""
        return self._counter is not None

    def boot(self) -> None:
        """Starts QEMU, and runs from the reset vector until the application is idle."""
        self.close()
        try:
            self._start()
            self._poison()
            idle = self.address("app_idle")
            self._remote.set_breakpoint(self._gate)
            self._remote.set_breakpoint(idle)
            self._execute(idle, max(self._timeout_s, BOOT_S))
            self._remote.clear_breakpoint(idle)
        except BaseException:
            self.close()
            raise

    def call(self, function: str, *arguments: int) -> int:
        """Calls a C function of at most four words, and returns its first result word."""
        if len(arguments) > len(ARGUMENTS):
            raise ValueError(f"{function}: arguments on the stack are not supported")
        preserved = {**PRESERVED, "sp": self._remote.registers()["sp"]}
        passed = dict(zip(ARGUMENTS, arguments, strict=False))
        start = {"lr": self._gate | 1, "pc": self.address(function)}
        self._remote.set_registers({**passed, **preserved, **start})
        self._execute(self._gate, self._timeout_s)
        registers = self._remote.registers()
        spoiled = [name for name, value in preserved.items() if registers[name] != value]
        if spoiled:
            raise self.fault(f"{', '.join(spoiled)} not preserved", symbol=function)
        return registers["r0"]

    def measure(self, function: str, *arguments: int) -> Measured:
        """Calls a function, and reports its stack and, when the machine counts, its blocks."""
        gauge = StackGauge(self, self._stack_limit, self._remote.registers()["sp"])
        gauge.paint()
        if self._counter:
            self._counter.take()
        result = self.call(function, *arguments)
        blocks: tuple[BlockCount, ...] = ()
        if self._counter:
            self.instructions = self._counter.instructions
            blocks = self._counter.take()
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
            if size >= LARGE:
                return self._read_by_file(address, size)
            return self._remote.read(address, size)
        except RemoteError as error:
            raise self.fault(f"host read of {size} bytes", address) from error

    def read_word(self, address: int) -> int:
        """Reads a word."""
        return int.from_bytes(self.read(address, 4), "little")

    def write(self, address: int, data: bytes) -> None:
        """Writes memory."""
        try:
            self._remote.write(address, data)
        except RemoteError as error:
            raise self.fault(f"host write of {len(data)} bytes", address) from error

    def code(self, address: int, size: int) -> bytes:
        """What the image holds at an address: code that a run has executed."""
        return self._image.code(address, size)

    def poison(self, address: int, size: int) -> None:
        """Overwrites memory with what no program may rely on."""
        self.write(address, bytes((POISON,)) * size)

    def confine(self, *variables: str) -> None:
        """QEMU lets the firmware access all RAM."""

    def shadow(self, base: int, arena: ArenaMap) -> Shadow | None:
        """QEMU watches no accesses."""
        return None

    def fault(self, reason: str, address: int | None = None, symbol: str = "") -> Fault:
        """A Fault with this reason, where the machine stands; after a wild jump, where it began."""
        try:
            registers = self._remote.registers()
        except ThumbnetError:  # QEMU is gone, and the core with it
            return Fault(Report(reason, 0, address, symbol=symbol))
        return self._fault(reason, address, symbol, registers)

    @property
    def _remote(self) -> GdbRemote:
        if self._process is None:
            raise ThumbnetError("QEMU is not running")
        return self._process.remote

    def _start(self) -> None:
        """Starts QEMU: with the counter where that is asked for and loads, else without."""
        self._folder = tempfile.TemporaryDirectory(prefix="thumbnet-qemu-")
        folder = Path(self._folder.name)
        log = folder / "log"
        release = qemu_process.release(self._program)
        plugin = qemu_counter.plugin(release) if self._count else None
        if plugin:
            counter = QemuCounter(folder / "blocks")
            option = plugin_option(plugin, table=folder / "blocks")
            try:
                self._process = QemuProcess(self._machine, self._path, log, option)
            except ThumbnetError:  # a QEMU built without plugins, or with others than we know
                plugin = None
            else:
                self._counter = counter
        if not plugin:
            self._process = QemuProcess(self._machine, self._path, log)
        self._remote.set_breakpoint(self.address("Fault_Handler"))

    def _poison(self) -> None:
        """Fills RAM as the other engine does. The core does it: packets would take a second."""
        ram, remote = self._target.ram, self._remote
        reset = remote.registers()
        word = int.from_bytes(bytes((POISON,)) * 4, "little")
        remote.write(ram.base, _FILL)
        begin = {"r0": ram.base + len(_FILL), "r1": word, "r2": ram.end, "pc": ram.base}
        remote.set_registers(begin)
        remote.set_breakpoint(ram.base + _FILLED)
        self._execute(ram.base + _FILLED, max(self._timeout_s, BOOT_S))
        remote.clear_breakpoint(ram.base + _FILLED)
        remote.write(ram.base, bytes((POISON,)) * len(_FILL))
        remote.set_registers(reset)

    def _execute(self, stop: int, timeout_s: float) -> None:
        """Runs until pc is at stop; anything else is a Fault."""
        try:
            self._remote.resume(timeout_s)
        except TimeoutError as error:
            raise self._stuck(timeout_s) from error
        except Disconnected as error:
            assert self._process is not None
            self._process.close()
            raise self.fault(f"QEMU ended: {self._process.last_words()}") from error
        registers = self._remote.registers()
        if registers["pc"] != stop:
            raise self._stray(registers)
        if self._counter:
            self._counter.finish(stop)

    def _stuck(self, timeout_s: float) -> Fault:
        """The Fault of a core that runs on; QEMU is killed."""
        reason = f"did not return within {timeout_s:g} s"
        try:
            self._remote.interrupt()
        except (RemoteError, TimeoutError):
            return Fault(Report(reason, 0))
        else:
            return self.fault(reason)
        finally:
            self.close()

    def _stray(self, registers: dict[str, int]) -> Fault:
        """The Fault of a core that stopped elsewhere than it should."""
        if not hard_fault.in_exception(registers):
            return self._fault("stopped by itself", None, "", registers)
        if not self._target.ram.base <= registers["sp"] < self._target.ram.end:
            return self._fault("stack overflow", registers["sp"], "", registers)
        reason, address = hard_fault.fault_cause(self.read_word)
        stacked = hard_fault.stacked_registers(registers, self.read_word)
        return self._fault(reason, address, "", stacked)

    def _fault(
        self, reason: str, address: int | None, symbol: str, registers: dict[str, int]
    ) -> Fault:
        facts = (self._image, self._target, self._peek, registers)
        return Fault(postmortem.report(reason, *facts, address, symbol))

    def _peek(self, address: int, size: int) -> bytes:
        """Memory for a report: what cannot be read is zeros."""
        try:
            return self._remote.read(address, size)
        except ThumbnetError:
            return bytes(size)

    def _read_by_file(self, address: int, size: int) -> bytes:
        assert self._folder is not None
        path = Path(self._folder.name) / "memory"
        path.unlink(missing_ok=True)
        printed = self._remote.monitor(f'memsave {address:#x} {size:#x} "{path}"')
        if not path.is_file() or path.stat().st_size != size:
            raise RemoteError(f"QEMU cannot read memory: {printed.strip()}")
        return path.read_bytes()


def machine_of(target: Target) -> str:
    """The QEMU machine with a target's core and memory."""
    if target.qemu:
        return target.qemu
    known = (name for name in targets.names() if targets.load(name).qemu)
    raise UsageError(
        f"QEMU has no machine with the memory of {target.name}",
        hint="targets that run in QEMU: " + ", ".join(known),
    )
