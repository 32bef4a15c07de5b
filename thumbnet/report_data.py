"""Everything a report says, as one JSON object: the page shows nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codegen import plan
from codegen.ir import Graph
from codegen.select import Objective
from targets.target import Target
from thumbnet import diagnosis, inspection, project

Found = Mapping[str, Any]
KEPT = (
    *("thumbnet", "model", "model_sha256", "build_id", "target", "toolchain", "optimize"),
    *("macs", "macs_executed", "params", "inputs", "outputs", "sram", "flash", "memory_map"),
)
MEASURED = (
    *("engine", "samples", "mismatched_bytes", "instructions", "cycles", "cycles_model"),
    *("latency_ms", "timing", "accuracy", "host"),
)
LAYER = (
    *("name", "op", "kernel", "macs", "output_shape", "arena_bytes", "scratch"),
    *("weight_bytes", "constant_bytes", "nodes"),
)


def collect(
    found: Found,
    target: Target,
    graph: Graph,
    errors: Mapping[str, Found] | None = None,
    errors_against: str | None = None,
) -> dict[str, Any]:
    """The report's data.

    Args:
        found: of the last emulation, or the manifest of a project that was never emulated.
        target: the board.
        graph: the quantized graph.
        errors: by tensor (analysis.layer_errors).
        errors_against: what the errors were measured against.
    """
    objective: Objective = found.get("optimize") or "balanced"
    kernels = {layer["name"]: layer["kernel"] for layer in found["layers"]}
    planned = plan.make(graph, target.core, objective, kernels)
    choices = {step.name: _candidates(step) for step in planned.steps}
    return {
        "schema_version": project.SCHEMA_VERSION,
        **{key: found.get(key) for key in (*KEPT, *MEASURED)},
        "clock_hz": target.clock_hz,
        "core": target.core.name,
        "ram": target.ram.size,
        "flash_size": target.flash.size,
        "errors_against": errors_against,
        "diverges_at": diagnosis.first_below(found["layers"], errors or {}),
        "layers": [
            _layer(layer, found, target, choices, errors or {}) for layer in found["layers"]
        ],
        "boards": inspection.fits(graph, objective),
    }


def _layer(
    layer: Found,
    found: Found,
    target: Target,
    choices: Mapping[str, list[dict[str, Any]]],
    errors: Mapping[str, Found],
) -> dict[str, Any]:
    cycles = layer.get("timing_cycles")
    total = (found.get("timing") or {}).get("cycles")
    error = errors.get(layer["output"])
    return {
        **{key: layer.get(key) for key in LAYER},
        "instructions": layer.get("instructions"),
        "cycles": cycles,
        "ms": None if cycles is None else cycles / target.clock_hz * 1e3,
        "share": cycles / total if cycles is not None and total else None,
        "error": None if error is None else dict(error),
        "candidates": choices[layer["name"]],
    }


def _candidates(step: plan.Step) -> list[dict[str, Any]]:
    """The kernels that can run a layer, cheapest first, as the planner saw them."""
    layer = step.layer
    able = plan.serving(layer)
    rows = [
        {
            "kernel": kernel.name,
            "cycles": round(kernel.cycles(layer)),
            "scratch": kernel.scratch(layer),
            "assembly": kernel.assembly is not None,
            "chosen": kernel.name == step.kernel.name,
        }
        for kernel in able
    ]
    return sorted(rows, key=lambda row: row["cycles"])
