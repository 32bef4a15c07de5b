"""Ways to write a board's flash, and the choice between them."""

from __future__ import annotations

from collections.abc import Mapping

from targets import tables, usb
from targets.errors import DeviceError, ToolMissing, UsageError
from targets.flashers.base import Flasher, Job
from targets.flashers.bossac import Bossac
from targets.flashers.copying import COPIES
from targets.flashers.tools import TOOLS, Tool
from targets.target import Target

FLASHERS: Mapping[str, Flasher] = {f.method: f for f in (*COPIES, *TOOLS, Bossac())}

__all__ = ["FLASHERS", "TOOLS", "Flasher", "Job", "Tool", "choose", "of_target"]


def of_target(target: Target) -> tuple[Flasher, ...]:
    """The ways to flash a board, in its order of preference."""
    if not target.hardware.flashers:
        raise UsageError(
            f"{target.name} is no board that can be flashed",
            hint="thumbnet boards lists those with a method",
        )
    return tuple(FLASHERS[method] for method in target.hardware.flashers)


def choose(job: Job, method: str = "", *, dry: bool = False) -> Flasher:
    """The first way to flash whose tool is installed and whose board is attached.

    Args:
        job: what is to be done; its image does not matter here.
        method: the one that the user wants; empty: any of the board's.
        dry: whether nothing will be written, so that the board need not be there.

    Raises:
        UsageError: the board cannot be flashed, or not by that method.
        ToolMissing: no tool is installed.
        DeviceError: the board is not attached.
    """
    usual = of_target(job.target)
    if method and method not in job.target.hardware.flashers:
        hint = tables.closest(method, tuple(job.target.hardware.flashers))
        raise UsageError(f"{job.target.name} is not flashed by '{method}'", hint=hint)
    wanted = tuple(f for f in usual if method in ("", f.method))
    installed = tuple(f for f in wanted if f.installed())
    if not installed:
        raise ToolMissing(
            f"no tool to flash {job.target.name} is installed",
            hint=" - or ".join(f"{f.method}: {f.install}" for f in wanted),
        )
    reaching = next((f for f in installed if f.reaches(job)), None)
    if reaching is not None:
        return reaching
    # A probe that the user names may be one that this machine cannot list.
    if dry or job.probe or job.port or not usb.lists_everything():
        return installed[0]
    raise DeviceError(f"no {job.target.name} was found", hint=_how_to_attach(job, wanted))


def _how_to_attach(job: Job, wanted: tuple[Flasher, ...]) -> str:
    hardware = job.target.hardware
    missing = [f"{f.method}: {f.install}" for f in wanted if not f.installed()]
    parts = [hardware.bootloader or "plug its USB cable in", "thumbnet doctor shows what is there"]
    return ". ".join([*parts, *(["Other ways: " + " - ".join(missing)] if missing else [])])
