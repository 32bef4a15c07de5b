"""Runs any firmware image on an emulated board, with its console on a line to the outside."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from emulator import bridge
from emulator.firmware import Firmware
from targets import load
from thumbnet.project import SCHEMA_VERSION


def boot(
    image: Path, target: str, uart: str, cycles: int | None, *, silent: bool
) -> dict[str, Any]:
    """Runs an image until it ends, its limit is reached or nothing can happen any more.

    Args:
        image: an ELF file or a raw binary for the start of flash.
        target: a board's name or file.
        uart: the line for the console: "pty", "tcp:PORT" or "-", this terminal.
        cycles: modelled cycles to run at most, or None.
        silent: print nothing; a console on this terminal is only recorded then, and gets no input.

    Returns:
        What there is to print as JSON.
    """
    firmware = Firmware(load(target), image)
    line = bridge.Unheard() if silent and uart == "-" else bridge.link(uart)
    if line.name != "-":  # also when silent: nobody could connect otherwise
        print(f"console: {line.name}", file=sys.stderr, flush=True)
    try:
        stop = bridge.serve(firmware, line, max_cycles=cycles)
    finally:
        line.close()
    return {
        "schema_version": SCHEMA_VERSION,
        "image": str(image),
        "target": firmware.board,
        "stop": stop,
        "exit_code": firmware.exit_code,
        "cycles": firmware.cycles,
        "seconds": firmware.cycles / firmware.clock_hz,
        "console": firmware.received.decode("utf-8", "replace"),
        "semihosting": firmware.text.decode("utf-8", "replace"),
    }
