"""Flashers that are programs of others: each is an argument list, run without a shell."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from targets import usb
from targets.flashers.base import Job, run
from targets.hardware import probes

Arguments = Callable[[Job], tuple[str, ...]]


def _no_script(job: Job) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Tool:
    """An external program that writes flash.

    Attributes:
        method: its name, as in a board's TOML.
        program: the executable's name.
        form: the format of images that it takes.
        install: how to get it.
        arguments: what follows the program's name.
        roles: devices of the board that it writes through.
        probe: the only kind of probe that it knows, on the board or beside it; empty: the board's.
        hint: what to try when it fails; "{name}" is what it calls the part.
        script: text that it reads from beside the image.
        module: Python package that brings it, run with this interpreter.
    """

    method: str
    program: str
    form: str
    install: str
    arguments: Arguments
    roles: tuple[str, ...] = ("probe",)
    probe: str = ""
    hint: str = "check the cable, and that no other program uses the probe"
    script: Callable[[Job], str] = _no_script
    module: str = ""

    def installed(self) -> bool:
        """Whether the program, or its package, is here."""
        return bool(self.launcher())

    def launcher(self) -> tuple[str, ...]:
        """What starts the program; empty when it is not installed."""
        if self.module and find_spec(self.module):
            return (sys.executable, "-m", self.module)
        found = shutil.which(self.program)
        return (found,) if found else ()

    def reaches(self, job: Job) -> bool:
        """Whether a device that the tool writes through is attached."""
        if self.probe:
            known = {str(usb_id) for usb_id in probes()[self.probe].usb}
            numbers = [device.serial for device in job.devices if device.usb_id in known]
            return job.probe in numbers if job.probe else bool(numbers)
        found = usb.of_board(job.target, job.devices, job.port, job.probe)
        return any(usb.role(device, job.target) in self.roles for device in found)

    def command(self, job: Job) -> tuple[str, ...]:
        """The command line."""
        return (*(self.launcher() or (self.program,)), *self.arguments(job))

    def flash(self, job: Job) -> None:
        """Runs the command."""
        text = self.script(job)
        if text:
            script_path(job).write_text(text)
        run(self.command(job), self.hint.format(name=job.name(self.method)))


def script_path(job: Job) -> Path:
    """Where a tool's script lies: beside the image."""
    return job.image.with_suffix(".jlink")


def _pyocd(job: Job) -> tuple[str, ...]:
    chosen = ("--uid", job.probe) if job.probe else ()
    return ("flash", "--no-wait", "--target", job.name("pyocd"), *chosen, str(job.image))


def _openocd(job: Job) -> tuple[str, ...]:
    interface, *others = job.name("openocd").split()
    arguments = ["-f", interface]
    if "stlink" not in interface:  # whose configuration brings a transport of its own
        arguments += ["-c", "transport select swd"]
    if job.probe:
        arguments += ["-c", f"adapter serial {job.probe}"]
    for file in others:
        arguments += ["-f", file]
    return (*arguments, "-c", f"program {{{job.image}}} verify reset exit")


def _st_flash(job: Job) -> tuple[str, ...]:
    chosen = ("--serial", job.probe) if job.probe else ()
    return ("--reset", *chosen, "write", str(job.image), f"0x{job.target.flash.base:08x}")


def _stm32programmer(job: Job) -> tuple[str, ...]:
    chosen = (f"sn={job.probe}",) if job.probe else ()
    return ("-c", job.name("stm32programmer"), *chosen, "-w", str(job.image), "-v", "-rst")


def _jlink(job: Job) -> tuple[str, ...]:
    chosen = ("-SelectEmuBySN", job.probe) if job.probe else ()
    part = ("-device", job.name("jlink"), "-if", "SWD", "-speed", "4000", "-autoconnect", "1")
    return (
        *chosen,
        *part,
        "-ExitOnError",
        "1",
        "-NoGui",
        "1",
        "-CommandFile",
        str(script_path(job)),
    )


def _jlink_script(job: Job) -> str:
    return f'loadfile "{job.image}"\nr\ng\nexit\n'


def _teensy(job: Job) -> tuple[str, ...]:
    return (f"--mcu={job.name('teensy')}", "-w", "-v", str(job.image))


def _picotool(job: Job) -> tuple[str, ...]:
    chosen = ("--ser", job.probe) if job.probe else ()
    return ("load", "--verify", "--execute", str(job.image), *chosen)


TOOLS = (
    Tool(
        method="pyocd",
        program="pyocd",
        form="hex",
        install="pip install 'thumbnet[flash]'",
        arguments=_pyocd,
        hint="check the cable; if it does not know the part: pyocd pack install {name}",
        module="pyocd",
    ),
    Tool(
        method="openocd",
        program="openocd",
        form="hex",
        install="install OpenOCD 0.12 or newer (apt install openocd, brew install open-ocd)",
        arguments=_openocd,
    ),
    Tool(
        method="st-flash",
        program="st-flash",
        form="bin",
        install="install stlink-tools (apt install stlink-tools, brew install stlink)",
        arguments=_st_flash,
    ),
    Tool(
        method="stm32programmer",
        program="STM32_Programmer_CLI",
        form="hex",
        install="install STM32CubeProgrammer and put its bin folder on PATH",
        arguments=_stm32programmer,
    ),
    Tool(
        method="jlink",
        program="JLinkExe" if sys.platform != "win32" else "JLink",
        form="hex",
        install="install SEGGER's J-Link software",
        arguments=_jlink,
        probe="jlink",
        script=_jlink_script,
    ),
    Tool(
        method="teensy",
        program="teensy_loader_cli",
        form="hex",
        install="install teensy_loader_cli (apt install teensy-loader-cli, brew install teensy_loader_cli)",
        arguments=_teensy,
        roles=("bootloader", "serial"),
        hint="press the button on the board",
    ),
    Tool(
        method="picotool",
        program="picotool",
        form="uf2",
        install="install picotool 2.0 or newer (brew install picotool, or its releases)",
        arguments=_picotool,
        roles=("bootloader",),
        hint="hold BOOTSEL while the cable goes in",
    ),
)
