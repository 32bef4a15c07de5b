"""Finds and runs C compilers: sources -> firmware for a target, or a library for this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from targets.errors import BuildFailed, DoesNotFit, ThumbnetError, ToolMissing, UsageError
from targets.target import Target

Kind = Literal["gcc", "zig"]
JOBS = 2
TIMEOUT_S = 600  # zig builds its runtime library at the first link for a core
SHOWN_LINES = 5

GCC = "arm-none-eabi-gcc"
ZIG = (sys.executable, "-m", "ziglang", "cc")

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
FLOATS = ("-ffp-contract=off",)  # a product and a sum are two roundings, on every machine
_COMPILE = (
    *("-std=c99", "-O2", "-g", *FLOATS, *WARNINGS),
    *("-ffunction-sections", "-fdata-sections", "-fno-common", "-fomit-frame-pointer"),
    *("-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-fno-stack-protector"),
)
# Both compilers must see memcpy(&word, bytes, 4) as a load, yet need no C library's headers: gcc
# takes its own stdint.h when freestanding, and -fbuiltin gives the builtins back; zig passes
# -ffreestanding by itself, which only -fhosted takes back.
_GCC_COMPILE = ("-ffreestanding", "-fbuiltin")
_ZIG_COMPILE = ("-fhosted", "-fno-sanitize=undefined")
_LAYOUT = ("-Wl,--entry=Reset_Handler", "-Wl,-z,max-page-size=4096")
_LINK = ("-nostartfiles", "-Wl,--gc-sections", "-Wl,--build-id=none", *_LAYOUT)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A C compiler for Arm Cortex-M."""

    kind: Kind
    command: tuple[str, ...]

    @property
    def version(self) -> str:
        """The compiler and its version, e.g. "arm-none-eabi-gcc 12.2.1"."""
        return _version(self.kind, self.command)

    def cpu_flags(self, target: Target) -> tuple[str, ...]:
        """What selects the target's core."""
        if self.kind == "gcc":
            return ("-mthumb", *target.core.gcc_flags)
        return ("-target", "thumb-freestanding-eabi", f"-mcpu={target.core.zig_cpu}")

    def float_flags(self, target: Target, source: Path) -> tuple[str, ...]:
        """What lets a source that computes in float32 use the target's floating-point unit."""
        computes = source.suffix == ".c" and re.search(rb"\bfloat\b", source.read_bytes())
        return target.core.fpu_flags if computes and self.kind == "gcc" else ()


def find(name: str = "auto") -> Toolchain:
    """The compiler called "gcc" or "zig"; "auto" prefers gcc where it is installed."""
    if name not in ("auto", "gcc", "zig"):
        raise UsageError(f"unknown toolchain '{name}'", hint="known: auto, gcc, zig")
    gcc = shutil.which(GCC)
    if name != "zig" and gcc:
        return Toolchain("gcc", (gcc,))
    if name == "gcc":
        raise ToolMissing(f"{GCC} is not on PATH", hint="install it, or use --toolchain zig")
    if find_spec("ziglang"):
        return Toolchain("zig", ZIG)
    raise ToolMissing("no C compiler for Arm was found", hint=f"pip install ziglang, or {GCC}")


def build_firmware(
    toolchain: Toolchain,
    target: Target,
    project: Path,
    sources: tuple[str, ...],
    linker_script: str,
    output: Path,
) -> None:
    """Compiles and links an image.

    Args:
        toolchain: what find() returned.
        target: the board that the image is for.
        project: folder of the sources.
        sources: names of C and assembly files in it.
        linker_script: name of a file in it.
        output: the ELF file to write; it appears whole or not at all.
    """
    stems = [Path(source).stem for source in sources]
    if len(set(stems)) != len(stems):
        raise UsageError("two sources share a name", hint=", ".join(sorted(sources)))
    cpu = toolchain.cpu_flags(target)
    mode = _GCC_COMPILE if toolchain.kind == "gcc" else _ZIG_COMPILE
    with _scratch(output) as folder:
        # Copied, and its path mapped away, so that no path of this machine reaches the image.
        work = folder / "work"
        shutil.copytree(project, work, ignore=_other_than_sources)
        objects = tuple(f"{stem}.o" for stem in stems)

        def compile_one(source: str, built: str) -> None:
            # gcc hands only the second to the assembler, though the first includes it.
            unmapped = tuple(
                f"-f{what}-prefix-map={work.resolve()}=." for what in ("file", "debug")
            )
            floats = toolchain.float_flags(target, work / source)
            options = (*cpu, *floats, *_COMPILE, *mode, *unmapped)
            _run((*toolchain.command, *options, "-c", source, "-o", built), work)

        with ThreadPoolExecutor(JOBS) as pool:
            list(pool.map(compile_one, sources, objects))
        # zig adds its runtime library by itself, unless it is told of libraries at all.
        libraries = ("-nodefaultlibs", "-lgcc") if toolchain.kind == "gcc" else ()
        link = (*cpu, *_LINK, "-T", linker_script, *objects, *libraries, "-o", "image.elf")
        _run((*toolchain.command, *link), work)
        os.replace(work / "image.elf", output)


def build_host(
    project: Path, sources: tuple[str, ...], output: Path, options: tuple[str, ...] = ()
) -> None:
    """Builds a shared library for this machine from C sources relative to a folder."""
    with _scratch(output) as folder:
        built = folder / output.name
        usual = ("-std=c99", "-O3", *FLOATS, "-fPIC", "-shared", "-fno-sanitize=undefined")
        command = (*host_compiler(), *usual, *options, "-o", str(built.resolve()), *sources)
        _run(command, project)
        os.replace(built, output)


def host_compiler() -> tuple[str, ...]:
    """The command of a C compiler for this machine."""
    for name in ("cc", "gcc", "clang"):
        path = shutil.which(name)
        if path:
            return (path,)
    if find_spec("ziglang"):
        return ZIG
    raise ToolMissing("no C compiler was found", hint="pip install ziglang, or gcc or clang")


@contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """A temporary folder on the disk of the output, so that moving a file out of it is atomic."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".build-") as folder:
            yield Path(folder)
    except OSError as error:
        raise BuildFailed(f"cannot build {output}: {error}") from error


def _other_than_sources(folder: str, entries: list[str]) -> list[str]:
    suffixes = (".c", ".h", ".S", ".s", ".inc", ".ld")
    return [entry for entry in entries if not entry.endswith(suffixes)]


def _run(command: tuple[str, ...], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired as error:
        raise BuildFailed(f"the compiler did not finish in {TIMEOUT_S} s") from error
    if done.returncode:
        raise _refusal(done.stderr.splitlines() or [f"exit code {done.returncode}, no message"])


def _refusal(lines: list[str]) -> ThumbnetError:
    """The error in a compiler's or linker's words, less those that only say that there is one."""
    lines = [line for line in lines if "collect2:" not in line and "all warnings being" not in line]
    too_big = [line for line in lines if re.search(r"overflowed by|RAM is too small", line)]
    if too_big:
        return DoesNotFit("the firmware does not fit:\n" + "\n".join(too_big[:SHOWN_LINES]))
    errors = [line for line in lines if "error:" in line] or lines
    return BuildFailed("the compiler refused the sources:\n" + "\n".join(errors[:SHOWN_LINES]))


@lru_cache
def _version(kind: Kind, command: tuple[str, ...]) -> str:
    ask = (*command, "-dumpfullversion") if kind == "gcc" else (*command[:-1], "version")
    try:
        done = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolMissing(f"{command[0]} does not run: {error}") from error
    return f"{GCC if kind == 'gcc' else 'zig'} {done.stdout.strip()}"
