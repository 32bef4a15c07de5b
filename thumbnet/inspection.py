"""What `inspect`, `boards`, `ops` and `doctor` tell, as JSON-ready data."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from targets import target as targets
from targets.errors import ToolMissing
from thumbnet.options import CompileOptions

SCHEMA_VERSION = 1
OPTIONAL = ("onnxruntime", "onnxslim")
REQUIRED = ("capstone", "jinja2", "numpy", "onnx", "pyelftools", "pyserial", "unicorn", "ziglang")


def inspect(model: Path, shapes: Mapping[str, tuple[int, ...]], simplify: bool) -> dict[str, Any]:
    """A model's layers and sizes, and which targets it fits."""
    from codegen import emit, importer, plan
    from thumbnet import compiler

    options = CompileOptions(calib="random", shapes=shapes, simplify=simplify, method="minmax")
    prepared = compiler.prepare(model, options)
    usual = targets.load(options.target)
    plans = {core.name: plan.make(prepared.quantized, core) for core in _cores(usual)}
    manifest = compiler.describe(
        plans[usual.core.name], prepared.float_graph, usual, importer.digest(model), {}
    )
    fits = []
    for name in targets.names():
        board = targets.load(name)
        needs = emit.figures(plans[board.core.name])
        ram, flash = needs["arena"], needs["weights"] + needs["constants"]
        fits.append(
            {
                "target": name,
                "fits": ram <= board.ram.size and flash <= board.flash.size,
                "ram_share": ram / board.ram.size,
                "flash_share": flash / board.flash.size,
            }
        )
    kept = (
        "model",
        "model_sha256",
        "macs",
        "macs_executed",
        "params",
        "inputs",
        "outputs",
        "sram",
        "flash",
        "layers",
    )
    return {"schema_version": SCHEMA_VERSION, **{k: manifest[k] for k in kept}, "boards": fits}


def _cores(first: targets.Target) -> list[targets.Core]:
    """The core of a target, then every other one that some board has."""
    boards = [first, *(targets.load(name) for name in targets.names())]
    return list({board.core.name: board.core for board in boards}.values())


def boards(name: str | None) -> dict[str, Any]:
    """All targets, or one."""
    chosen = [targets.load(name)] if name else [targets.load(n) for n in targets.names()]
    return {
        "schema_version": SCHEMA_VERSION,
        "boards": [
            {
                "name": board.name,
                "description": board.description,
                "core": board.core.name,
                "clock_hz": board.clock_hz,
                "fpu": board.core.fpu,
                "dsp": board.core.dsp,
                "qemu": board.qemu or None,
                "flash": board.flash.size,
                "ram": board.ram.size,
                "regions": [
                    {"name": r.name, "kind": r.kind, "base": r.base, "size": r.size}
                    for r in board.regions
                ],
            }
            for board in chosen
        ],
    }


def operators() -> dict[str, Any]:
    """Supported ONNX operators, and the kernels of every operator of ours."""
    from codegen.lowering import SUPPORTED
    from codegen.ops import KERNELS

    return {
        "schema_version": SCHEMA_VERSION,
        "onnx": list(SUPPORTED),
        "kernels": {kind: [k.name for k in kernels] for kind, kernels in sorted(KERNELS.items())},
    }


def schemes() -> dict[str, Any]:
    """Ways to store weights, and what runs them: by scheme and weights, operator and kind of core."""
    from codegen.quant.schemes import SCHEMES
    from thumbnet import scheme_table

    return {
        "schema_version": SCHEMA_VERSION,
        "schemes": [
            {
                "scheme": scheme.name,
                "weights": weights,
                "summary": scheme.summary,
                "needs_training": weights in scheme.needs_training,
                "kernels": scheme_table.kernels(scheme, weights),
            }
            for scheme in SCHEMES.values()
            for weights in scheme.weights
        ],
    }


def doctor() -> dict[str, Any]:
    """What is installed; `ok` when the whole chain can run."""
    tools = {name: _version(name) for name in REQUIRED}
    optional = {name: _version(name) for name in OPTIONAL} | {"qemu-system-arm": _qemu()}
    compilers = {choice: _compiler(choice) for choice in ("gcc", "zig")}
    ok = all(tools.values()) and any(compilers.values()) and _emulates()
    return {
        "schema_version": SCHEMA_VERSION,
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "packages": tools,
        "optional": optional,
        "compilers": compilers,
        "host_compiler": next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), "zig"),
        "emulator": _emulates(),
        "ok": ok,
    }


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
