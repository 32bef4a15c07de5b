"""qemu-system-arm as a child: found, started halted under its GDB stub, never left behind."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import weakref
from functools import cache
from pathlib import Path

from emulator.gdb_remote import GdbRemote, PacketStream, RemoteError
from targets.errors import ThumbnetError, ToolMissing

PROGRAM = "qemu-system-arm"
_QUIET = ("-nographic", "-monitor", "none", "-serial", "none", "-nodefaults")


def find() -> str:
    """The path of the program."""
    found = shutil.which(PROGRAM)
    if not found:
        raise ToolMissing(
            f"{PROGRAM} is not on PATH",
            hint="install it (Debian, Ubuntu: apt install qemu-system-arm; macOS: brew install qemu)",
        )
    return found


@cache
def version(program: str) -> str:
    """The program's version, e.g. "7.2.22"."""
    try:
        done = subprocess.run(
            (program, "--version"), capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolMissing(f"{program} does not run: {error}") from error
    number = re.search(r"version (\d+\.\d+(\.\d+)?)", done.stdout)
    return number.group(1) if number else "0.0"


def release(program: str) -> tuple[int, int]:
    """Major and minor version."""
    major, minor, *_ = version(program).split(".")
    return int(major), int(minor)


def plugin_option(plugin: Path, **arguments: Path) -> str:
    """A TCG plugin with its arguments, as the command line takes it."""
    values = {"file": plugin, **arguments}
    return ",".join(f"{name}={str(path).replace(',', ',,')}" for name, path in values.items())


class QemuProcess:
    """A running QEMU whose core stands at its reset vector. It has no port, no display, no devices' I/O.

    The stub's packets pass over a pair of sockets that only the two processes hold.
    """

    def __init__(self, machine: str, image: Path, log: Path, plugin: str = "") -> None:
        """Starts QEMU.

        Args:
            machine: name of a QEMU machine.
            image: the ELF file to load.
            log: where QEMU's own messages go.
            plugin: what plugin_option() made; empty for none.
        """
        command = [find(), "-M", machine, *_QUIET, "-kernel", str(image), "-S", "-gdb", "stdio"]
        command += ["-plugin", plugin] if plugin else []
        ours, theirs = socket.socketpair()
        self._log = log
        pipe = theirs.fileno()
        with theirs, log.open("wb") as messages:
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=messages)
        stream = PacketStream(ours)
        # Runs at close(), and should that never be called, at the end of this object or program.
        self._end = weakref.finalize(self, _end, self._process, stream)
        self.remote = GdbRemote(stream)
        try:
            self.remote.registers()
        except RemoteError as error:
            self.close()
            raise ThumbnetError(f"QEMU did not start: {self.last_words()}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Kills QEMU; may be called twice."""
        self._end()

    def last_words(self) -> str:
        """QEMU's last message."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it gave no reason"


def _end(process: subprocess.Popen[bytes], stream: PacketStream) -> None:
    process.kill()
    process.wait()
    stream.close()
