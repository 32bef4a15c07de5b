"""A firmware's console as an open serial port: what talks to a board talks to it, in the same thread."""

from __future__ import annotations

from emulator.firmware import Firmware

LONGEST_S = 60  # of the board's time, for one answer


class FirmwarePort:
    """The part of pyserial's interface that targets/link uses. Reading runs the firmware until it waits."""

    def __init__(self, firmware: Firmware, baud: int) -> None:
        """Takes over a firmware at reset; whoever made that closes it."""
        self._firmware = firmware
        self._seen = 0
        self.baudrate = baud
        firmware.stops_starved = True

    def read(self, size: int) -> bytes:
        """What the firmware has sent, at most `size` bytes."""
        if len(self._firmware.received) == self._seen:
            self._firmware.run(max_cycles=LONGEST_S * self._firmware.clock_hz)
        data = self._firmware.received_from(self._seen)[:size]
        self._seen += len(data)
        return data

    def write(self, data: bytes) -> int:
        """Sends to the firmware, which takes it at the next read."""
        self._firmware.send(data)
        return len(data)

    def close(self) -> None:
        """Nothing to do."""
