"""What `doctor` tells: what is installed, what is attached, and how to get what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from targets import drives, flashers, usb
from targets import target as targets
from targets.errors import ToolMissing
from targets.usb import Device

SCHEMA_VERSION = 1
REQUIRED = ("capstone", "jinja2", "numpy", "onnx", "pyelftools", "pyserial", "unicorn", "ziglang")
OPTIONAL = ("onnxruntime", "onnxslim", "pyocd", "scipy", "joblib", "dask")
EXTRAS = {
    "onnxslim": "simplify",
    "pyocd": "flash",
    "scipy": "tune",
    "joblib": "tune",
    "dask": "dask",
}
# How each tool is asked for its version; bossac and teensy_loader_cli show theirs with their help.
VERSION_FLAGS = {"bossac": "--help", "teensy": "--help", "picotool": "version"}
VERSION_S = 20


def doctor() -> dict[str, Any]:
    """What is installed and attached; `ok` when the whole chain up to emulation can run."""
    packages = {name: _version(name) for name in REQUIRED}
    optional = {name: _version(name) for name in OPTIONAL} | {"qemu-system-arm": _qemu()}
    compilers = {choice: _compiler(choice) for choice in ("gcc", "zig")}
    emulates = _emulates()
    devices = usb.attached()
    tools = {tool.method: _tool(tool) for tool in flashers.FLASHERS.values()}
    found = {
        "schema_version": SCHEMA_VERSION,
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "packages": packages,
        "optional": optional,
        "compilers": compilers,
        "host_compiler": next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), "zig"),
        "emulator": emulates,
        "flashers": {method: version for method, version in tools.items() if method not in COPIES},
        "devices": [_device(device) for device in devices if device.port or _boards(device)],
        "drives": [_drive(drive) for drive in drives.mounted()],
        "ok": all(packages.values()) and any(compilers.values()) and emulates,
    }
    return found | {"advice": [*_advice(found), *_permissions(devices)]}


COPIES = ("uf2", "daplink")  # they need no tool


def _device(device: Device) -> dict[str, Any]:
    boards = _boards(device)
    known = {usb.role(device, targets.load(name)) for name in boards}
    return {
        "usb": device.usb_id,
        "port": device.port or None,
        "serial": device.serial or None,
        "description": device.description,
        "role": known.pop() if len(known) == 1 else None,
        "boards": boards,
    }


def _boards(device: Device) -> list[str]:
    """The boards that a device may belong to."""
    return [name for name in targets.names() if usb.role(device, targets.load(name)) is not None]


def _drive(drive: drives.Drive) -> dict[str, Any]:
    boards = []
    for name in targets.names():
        hardware = targets.load(name).hardware
        ids = hardware.board_ids if drive.kind == "daplink" else (hardware.flashers.get("uf2"),)
        if drive.kind in hardware.flashers and drive.board in ids:
            boards.append(name)
    return {"path": str(drive.path), "kind": drive.kind, "id": drive.board, "boards": boards}


def _tool(flasher: flashers.Flasher) -> str | None:
    """The version of a flasher's tool; None: not installed."""
    if not flasher.installed():
        return None
    if flasher.method == "jlink":  # it has no option for it, and would wait for a probe
        return "installed"
    launcher = flasher.launcher() if isinstance(flasher, flashers.Tool) else (flasher.method,)
    try:
        done = subprocess.run(
            (*launcher, VERSION_FLAGS.get(flasher.method, "--version")),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=VERSION_S,
            check=False,
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return "does not run"
    number = re.search(r"\d+\.\d+[\w.+-]*", done.stdout)
    return number[0] if number else "installed"


def _advice(found: dict[str, Any]) -> Iterator[str]:
    """How to get what is missing, most important first."""
    for name, version in found["packages"].items():
        if version is None:
            yield f"{name} is missing: pip install {name}"
    if not any(found["compilers"].values()):
        yield "no compiler for Arm: pip install ziglang, or install arm-none-eabi-gcc"
    for name, version in found["optional"].items():
        if version is None and name in EXTRAS:
            yield f"for {EXTRAS[name]}: pip install 'thumbnet[{EXTRAS[name]}]' ({name})"
    if found["optional"]["qemu-system-arm"] is None:
        yield "for a second emulator: install qemu-system-arm"
    attached = {name for device in found["devices"] for name in device["boards"]}
    if len(attached) == 1:
        board = targets.load(attached.pop())
        ready = any(flasher.installed() for flasher in flashers.of_target(board))
        if not ready:
            ways = " - or ".join(f.install for f in flashers.of_target(board))
            yield f"to flash {board.name}: {ways}"


def _permissions(devices: tuple[Device, ...]) -> Iterator[str]:
    for device in devices:
        if device.port and os.path.exists(device.port) and not os.access(device.port, os.R_OK):
            yield f"no permission for {device.port}: sudo usermod -aG dialout $USER, then log in again"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _compiler(choice: str) -> str | None:
    from targets import toolchain

    try:
        return toolchain.find(choice).version
    except ToolMissing:
        return None


def _qemu() -> str | None:
    from emulator import qemu_process

    try:
        return qemu_process.version(qemu_process.find())
    except ToolMissing:
        return None


def _emulates() -> bool:
    """Whether the emulator's native library loads here."""
    if importlib.util.find_spec("unicorn") is None:
        return False
    try:
        from emulator.cortex_m import CortexM

        return CortexM is not None
    except (ImportError, OSError):
        return False
