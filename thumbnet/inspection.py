"""What `inspect`, `boards` and `ops` tell, as JSON-ready data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.select import Objective
from targets import target as targets
from thumbnet.options import CompileOptions

if TYPE_CHECKING:  # loads NumPy
    from codegen.ir import Graph

SCHEMA_VERSION = 1


def inspect(
    model: Path, shapes: Mapping[str, tuple[int, ...]], simplify: bool, calib: str | None = None
) -> dict[str, Any]:
    """A model's layers and sizes, which targets it fits, and which layers would hurt with fewer bits.

    With calibration data also what int8 loses in every layer, and the first one that loses much.
    """
    from codegen import importer, plan
    from thumbnet import analysis, compiler, description, diagnosis

    options = CompileOptions(calib="random", shapes=shapes, simplify=simplify, method="minmax")
    if calib is not None:
        options = replace(options, calib=calib, method="mse")
    prepared = compiler.prepare(model, options)
    usual = targets.load(options.target)
    manifest = description.describe(
        plan.make(prepared.quantized, usual.core),
        prepared.float_graph,
        usual,
        importer.digest(model),
        {},
    )
    layers, diverges = manifest["layers"], None
    if prepared.samples:
        errors = analysis.errors_on(prepared.quantized, prepared.float_graph, prepared.samples)
        diverges = diagnosis.first_below(layers, errors)
        for layer in layers:
            layer["sqnr_db"] = errors.get(layer["output"], {}).get("sqnr_db")
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
        "warnings": diagnosis.weak_layers(prepared.float_graph, layers),
        "diverges_at": diverges,
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
    from codegen.lowering.plain import PLAIN
    from codegen.ops import KERNELS

    return {
        "schema_version": SCHEMA_VERSION,
        "onnx": list(SUPPORTED),
        "onnx_float": sorted(PLAIN.keys() - set(SUPPORTED)),
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
                "activations": "int8",
                "summary": scheme.summary,
                "needs_training": weights in scheme.needs_training,
                "kernels": scheme_table.kernels(scheme, weights),
            }
            for scheme in SCHEMES.values()
            for weights in scheme.weights
        ]
        + [scheme_table.binary_activations()],
    }
