"""What `inspect`, `boards` and `ops` tell, as JSON-ready data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from targets import target as targets
from thumbnet.options import CompileOptions

SCHEMA_VERSION = 1


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
    return {"schema_version": SCHEMA_VERSION, "boards": [_board(board) for board in chosen]}


def _board(board: targets.Target) -> dict[str, Any]:
    hardware, validated = board.hardware, board.validated
    return {
        "name": board.name,
        "description": board.description,
        "core": board.core.name,
        "clock_hz": board.clock_hz,
        "fpu": board.core.fpu,
        "dsp": board.core.dsp,
        "qemu": board.qemu or None,
        "validated": (
            {"error": validated.error, "against": validated.against} if validated else None
        ),
        "flash": board.flash.size,
        "ram": board.ram.size,
        "total_ram": board.total_ram,
        "regions": [
            {"name": r.name, "kind": r.kind, "base": r.base, "size": r.size} for r in board.regions
        ],
        "flash_methods": list(hardware.flashers),
        "usb": [{"id": str(known), "role": known.role} for known in hardware.usb_ids],
        "uf2_family": hardware.uf2_family,
        "bootloader": hardware.bootloader,
        "wiring": hardware.wiring,
        "link": hardware.link or None,
        "sources": [
            {"repository": s.repository, "path": s.path, "commit": s.commit} for s in board.sources
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
