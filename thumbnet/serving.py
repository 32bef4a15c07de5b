"""A project's firmware on an emulated board, its console on a line: what talks to a board talks to it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emulator import bridge
from emulator.firmware import Firmware
from emulator.qemu_console import QemuConsole
from targets import console
from targets import load as load_target
from targets.errors import DeviceError, UsageError
from thumbnet import project, verify
from thumbnet.compiler import Progress, silent
from thumbnet.options import RunOptions


def serve(
    folder: Path,
    line: str,
    options: RunOptions,
    progress: Progress = silent,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Builds a project and runs its firmware until it ends or the user interrupts.

    Args:
        folder: a generated project.
        line: "pty" or "socket://HOST:PORT"; port 0 takes a free one, and stderr says which.
        options: the engine and the toolchain.
        progress: progress bars.
        stopped: asked now and then whether to come back.

    Returns:
        What there is to print as JSON.
    """
    manifest = project.read_manifest(folder)
    target = load_target(manifest["target"])
    if console.of(target) is None:
        hint = "choose a board with a console (docs/serial.md)"
        raise UsageError(f"firmware for {target.name} has no console to serve", hint=hint)
    built = verify.build(folder, options.toolchain, progress)
    if options.engine == "qemu":
        with QemuConsole(target, built.elf, line) as board:
            _say(board.name)
            while board.runs and not stopped():
                time.sleep(bridge.WAIT_S)
            stop = "stopped" if board.runs else board.last_words()
    else:
        firmware, outside = Firmware(target, built.elf), bridge.link(line)
        _say(outside.name)
        try:
            stop = bridge.serve(firmware, outside, stopped=stopped)
        finally:
            outside.close()
    if stop not in ("stopped", "exit", "reset"):
        raise DeviceError(f"the emulated board stopped: {stop}")
    return {
        "schema_version": project.SCHEMA_VERSION,
        "model": manifest["model"],
        "target": target.name,
        "engine": options.engine,
        "stop": stop,
    }


def _say(name: str) -> None:
    print(f"console: {name}", file=sys.stderr, flush=True)
