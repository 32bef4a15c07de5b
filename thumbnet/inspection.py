"""What `inspect`, `boards`, `ops` and `doctor` tell, as JSON-ready data."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets import target as targets
from targets.errors import ToolMissing
from thumbnet.options import CompileOptions, Objective

if TYPE_CHECKING:  # loads NumPy
    from codegen.ir import Graph

SCHEMA_VERSION = 1
OPTIONAL = ("onnxruntime", "onnxslim")
REQUIRED = ("capstone", "jinja2", "numpy", "onnx", "pyelftools", "pyserial", "unicorn", "ziglang")


def inspect(model: Path, shapes: Mapping[str, tuple[int, ...]], simplify: bool) -> dict[str, Any]:
    """A model's layers and sizes, and which targets it fits."""
    from codegen import importer, plan
    from thumbnet import compiler

    options = CompileOptions(calib="random", shapes=shapes, simplify=simplify, method="minmax")
    prepared = compiler.prepare(model, options)
    usual = targets.load(options.target)
    manifest = compiler.describe(
        plan.make(prepared.quantized, usual.core),
        prepared.float_graph,
        usual,
        importer.digest(model),
        {},
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
    return {
        "schema_version": SCHEMA_VERSION,
        **{k: manifest[k] for k in kept},
        "boards": fits(prepared.quantized),
    }


def fits(quantized: Graph, objective: Objective = "balanced") -> list[dict[str, Any]]:
    """What a quantized model needs on every board, planned for its core, and whether it has that."""
    from codegen import emit, plan

    plans: dict[str, plan.Plan] = {}
    rows = []
    for name in targets.names():
        board = targets.load(name)
        if board.core.name not in plans:
            plans[board.core.name] = plan.make(quantized, board.core, objective)
        planned = plans[board.core.name]
        needs = emit.figures(planned)
        ram, flash = needs["arena"], needs["weights"] + needs["constants"]
        cycles = round(sum(step.kernel.cycles(step.layer) for step in planned.steps))
        rows.append(
            {
                "target": name,
                "core": board.core.name,
                "fits": ram <= board.ram.size and flash <= board.flash.size,
                "ram": ram,
                "ram_share": ram / board.ram.size,
                "flash": flash,
                "flash_share": flash / board.flash.size,
                "predicted_cycles": cycles,
                "predicted_ms": cycles / board.clock_hz * 1e3,
            }
        )
    return rows


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
