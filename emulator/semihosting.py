"""Semihosting: text to the host, time from the model, exit. Files and the host's clock are refused."""

from __future__ import annotations

from collections.abc import Callable

SYS_OPEN, SYS_CLOSE = 0x01, 0x02
SYS_WRITEC, SYS_WRITE0, SYS_WRITE, SYS_READ = 0x03, 0x04, 0x05, 0x06
SYS_ISTTY, SYS_CLOCK = 0x09, 0x10
SYS_EXIT, SYS_EXIT_EXTENDED = 0x18, 0x20
SYS_ELAPSED, SYS_TICKFREQ = 0x30, 0x31

REFUSED = 0xFFFF_FFFF
APPLICATION_EXIT = 0x2_0026
CONSOLE = 1  # the only handle; ":tt" opens it
_LONGEST = 1 << 16  # bytes of a string whose end is missing

Read = Callable[[int, int], bytes]
Write = Callable[[int, bytes], None]


class Semihosting:
    """Answers requests. Text is kept, and an exit code when the firmware has asked to end."""

    def __init__(self, read: Read, write: Write, cycles: Callable[[], int], clock_hz: int) -> None:
        """Takes access to the firmware's memory, and its time."""
        self._read = read
        self._write = write
        self._cycles = cycles
        self._clock_hz = clock_hz
        self.text = bytearray()
        self.exit_code: int | None = None
        self._requests: dict[int, Callable[[int], int]] = {
            SYS_OPEN: self._open,
            SYS_CLOSE: lambda block: 0,
            SYS_WRITEC: lambda at: self._print(self._read(at, 1)),
            SYS_WRITE0: lambda at: self._print(self._string(at)),
            SYS_WRITE: self._write_console,
            SYS_READ: lambda block: self._word(block + 8),  # nothing could be read
            SYS_ISTTY: lambda block: int(self._word(block) == CONSOLE),
            SYS_CLOCK: lambda block: self._cycles() * 100 // self._clock_hz & 0x7FFF_FFFF,
            SYS_EXIT: lambda reason: self._exit(0 if reason == APPLICATION_EXIT else 1),
            SYS_EXIT_EXTENDED: self._exit_extended,
            SYS_ELAPSED: self._elapsed,
            SYS_TICKFREQ: lambda block: self._clock_hz,
        }

    def answer(self, number: int, argument: int) -> int:
        """The value for r0 that a request is answered with; other requests are refused."""
        request = self._requests.get(number)
        return request(argument) & 0xFFFF_FFFF if request else REFUSED

    def _word(self, address: int) -> int:
        return int.from_bytes(self._read(address, 4), "little")

    def _print(self, data: bytes) -> int:
        self.text += data
        return 0

    def _string(self, address: int) -> bytes:
        text = bytearray()
        while len(text) < _LONGEST and (byte := self._read(address + len(text), 1)) != b"\0":
            text += byte
        return bytes(text)

    def _open(self, block: int) -> int:
        name, length = self._word(block), self._word(block + 8)
        return CONSOLE if length == 3 and self._read(name, 3) == b":tt" else REFUSED

    def _write_console(self, block: int) -> int:
        handle, start, length = (self._word(block + 4 * i) for i in range(3))
        return self._print(self._read(start, length)) if handle == CONSOLE else length

    def _exit(self, code: int) -> int:
        self.exit_code = code
        return 0

    def _exit_extended(self, block: int) -> int:
        reason, code = self._word(block), self._word(block + 4)
        return self._exit(code & 0xFF if reason == APPLICATION_EXIT else 1)

    def _elapsed(self, block: int) -> int:
        self._write(block, self._cycles().to_bytes(8, "little"))
        return 0
