"""Firmware onto a board: build it, find the board and a tool, write, and ask the board what it runs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from targets import console, flashers, images, usb
from targets.errors import DeviceError
from targets.link import ports
from targets.link.client import Client
from targets.target import Target
from targets.target import load as load_target
from thumbnet import project, verify
from thumbnet.compiler import Progress, silent

Confirm = Callable[[Target, str, str], None]
"""Asks the board (target, serial port, build id) what it runs; raises DeviceError if it is another."""
START_S = 10.0  # after writing: a board restarts, and USB finds it again
AGAIN_S = 0.3
LOADER_PORT = "bossac"  # the method whose port is that of a boot loader


@dataclass(frozen=True, slots=True)
class FlashOptions:
    """Options of `flash`.

    Attributes:
        port: serial port, or folder of a mounted drive; empty: found.
        probe: serial number of a debug probe; empty: the only one.
        method: a key of the board's flashers; empty: the first that works here.
        dry_run: only say what would be done.
    """

    port: str = ""
    probe: str = ""
    method: str = ""
    toolchain: Literal["auto", "gcc", "zig"] = "auto"
    dry_run: bool = False


def flash(
    folder: Path,
    options: FlashOptions,
    confirm: Confirm | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Builds a project's firmware and writes it to a board; what there is to print as JSON.

    Args:
        folder: a generated project.
        options: which board, and by which way.
        confirm: called after writing, when the console's port is known; None: nothing is asked.
        progress: progress bars.

    Raises:
        ToolMissing: no tool for the board is installed.
        DeviceError: the board is not attached, writing failed, or it runs another image.
    """
    manifest = project.read_any(folder)
    target = load_target(manifest["target"])
    devices = usb.attached()
    wanted = flashers.Job(target, folder, devices, options.port, options.probe)
    flasher = flashers.choose(wanted, options.method, dry=options.dry_run)
    built = verify.build(folder, options.toolchain, progress)
    image = images.convert(built.elf, flasher.form, target)
    job = flashers.Job(target, image, devices, options.port, options.probe)
    command = flasher.command(job)
    port = _console(options, target, flasher.method)
    confirmed = False
    if not options.dry_run:
        advance = progress(f"writing by {flasher.method}", 1)
        flasher.flash(job)
        advance(1)
        if confirm is not None and port:
            confirm(target, port, manifest["build_id"])
            confirmed = True
    return {
        "schema_version": project.SCHEMA_VERSION,
        "model": manifest["model"],
        "target": target.name,
        "method": flasher.method,
        "image": str(image),
        "command": shlex.join(command),
        "dry_run": options.dry_run,
        "port": port or None,
        "build_id": manifest["build_id"],
        "confirmed": confirmed,
    }


def confirm_over_link(
    target: Target, port: str, build_id: str, patience_s: float = START_S
) -> None:
    """Asks a board over its serial port which build it runs, once it has restarted.

    Raises:
        DeviceError: it runs another build, or nothing answers in time.
    """
    described = console.of(target)
    assert described is not None  # who has no console has no port
    give_up = time.monotonic() + patience_s
    while True:
        try:
            said = _hello(port, described.baud)
            break
        except DeviceError as error:
            if time.monotonic() > give_up:
                hint = "the image was written; thumbnet check says more of the link"
                raise DeviceError(f"not confirmed: {error.message}", hint=hint) from error
            time.sleep(AGAIN_S)
    if said != build_id:
        raise DeviceError(
            f"the board at {port} runs build {said[:12]}, not {build_id[:12]}, which was written",
            hint="is it the board that was flashed? name its port with --port",
        )


def _hello(port: str, baud: int) -> str:
    client = Client(ports.open_port(port, baud))
    try:
        return client.hello().build_id
    finally:
        client.close()


def _console(options: FlashOptions, target: Target, method: str) -> str:
    """The port of the board's console: the one given, or the only one there is; empty: not known.

    A drive is none, and a boot loader's own port is not the console.
    """
    if console.of(target) is None:
        return ""
    if options.port and method != LOADER_PORT and not Path(options.port).is_dir():
        return options.port
    return usb.console_port(target, usb.attached())
