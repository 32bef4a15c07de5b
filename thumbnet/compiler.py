"""ONNX file -> C project: the front half of the pipeline, in one readable function."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codegen import (
    __version__,
    check_plan,
    data,
    emit,
    execute,
    graph_file,
    importer,
    pipeline,
    plan,
    prune,
    recipe,
)
from codegen.ir import Array, Graph, macs, node_macs
from codegen.names import identifier
from codegen.quant import calibrate, lower, quantize
from targets import Target
from targets.errors import DoesNotFit, UsageError
from targets.target import load as load_target
from thumbnet import project
from thumbnet.options import CompileOptions

Progress = Callable[[str, int], Callable[[int], None]]
"""Starts a progress bar (text, total) and returns the function that moves it on."""


def silent(text: str, total: int) -> Callable[[int], None]:
    """Shows no progress."""
    return lambda done: None


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A model before it meets a target.

    Attributes:
        float_graph: after simplification.
        quantized: integers only, pruned.
        method: how it was calibrated; None when it brought all its grids.
        warnings: texts for the user.
    """

    float_graph: Graph
    quantized: Graph
    method: calibrate.Method | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """Everything that one compilation made."""

    float_graph: Graph
    plan: plan.Plan
    target: Target
    files: dict[str, bytes]
    manifest: dict[str, Any]
    warnings: tuple[str, ...]


def prepare(
    model: Path,
    options: CompileOptions,
    choices: recipe.Recipe | None = None,
    progress: Progress = silent,
) -> Prepared:
    """Imports, simplifies, quantizes and prunes a model."""
    graph = importer.load(model, shapes=options.shapes, simplify=options.simplify)
    if options.name:
        graph = _renamed(graph, options.name)
    graph = pipeline.run(graph, dump=options.dump)
    imported = any(tensor.quant for tensor in graph.tensors.values())
    method = options.method or (choices.calibration if choices else None) or "mse"
    warnings: list[str] = []
    ranges: dict[str, calibrate.Range] = {}
    if _needs_calibration(graph):
        samples, grid_source = _calibration(graph, options, warnings)
        graph = _adopt_input_grid(graph, grid_source)
        advance = progress("calibrating", len(samples[0]) * calibrate.passes(method))
        ranges = calibrate.ranges(graph, samples, method, advance)
    quantized = prune.prune(quantize.quantize(graph, ranges, imported))
    chosen = lower.choose(quantized, _formats(options, choices), imported)
    if chosen:
        wide = prune.prune(quantize.quantize(graph, ranges, imported, chosen))
        quantized = lower.lower(wide, chosen, options.force)
    return Prepared(graph, quantized, method if ranges else None, tuple(warnings))


def compile_model(model: Path, options: CompileOptions, progress: Progress = silent) -> Compiled:
    """Prepares a model, plans it for the target, checks the plan and renders the C project.

    Raises:
        ThumbnetError: anything that is wrong with the model, an option or a data file.
        DoesNotFit: a budget or the target's memory is exceeded.
    """
    target = load_target(options.target)
    choices = recipe.load(options.recipe) if options.recipe else recipe.Recipe()
    prepared = prepare(model, options, choices, progress)
    planned = check_plan.check(
        plan.make(prepared.quantized, target.core, options.optimize, choices.kernels)
    )
    _check_budget(planned, target, options)
    sha256 = importer.digest(model)
    written = emit.emit(planned, target, sha256)
    sources = {name: text.encode() for name, text in written.files.items()}
    manifest = describe(planned, prepared.float_graph, target, sha256, sources)
    manifest |= {"sources": written.sources, "host_sources": written.host_sources}
    files = sources | {
        project.MANIFEST: (json.dumps(manifest, indent=2) + "\n").encode(),
        project.REFERENCE: graph_file.dump(prepared.quantized),
        "recipe.toml": recipe.dump(planned, prepared.method).encode(),
    }
    return Compiled(prepared.float_graph, planned, target, files, manifest, prepared.warnings)


def _formats(options: CompileOptions, choices: recipe.Recipe | None) -> lower.Formats:
    """How flash is to hold weights."""
    given = lower.Format(options.weights, options.scheme)
    return lower.Formats(given, choices.weights if choices else {})


def _renamed(graph: Graph, name: str) -> Graph:
    if identifier(name) != name:
        raise UsageError(
            f"--name {name!r} is no usable C identifier", hint=f"for example {identifier(name)}"
        )
    return replace(graph, name=name)


def _needs_calibration(graph: Graph) -> bool:
    """Whether some activation has no grid of its own: only then is data needed."""
    return any(t.quant is None and t.data is None for t in graph.tensors.values())


def _calibration(
    graph: Graph, options: CompileOptions, warnings: list[str]
) -> tuple[tuple[Array, ...], data.DataSet | None]:
    """Calibration inputs in device layout, and the set that they came from."""
    if options.calib == "random":
        warnings.append(
            "calibrated on random inputs: sizes and cycles are close, accuracy is not to be trusted"
        )
        return calibrate.random_samples(graph, 32, options.seed), None
    spec = options.calib
    key = "calib_x" if spec is None or data.has_key(spec, "calib_x") else "x"
    spec = spec or options.data
    if spec is None:
        if any(t.quant for t in graph.tensors.values()):
            return _fallback(graph, options, warnings), None
        raise UsageError(
            "quantization needs calibration data",
            hint="pass --calib FILE.npz, or --calib random to try without (accuracy will be poor)",
        )
    if options.calib is None and not data.has_key(spec, "calib_x"):
        raise UsageError(
            f"{spec} holds no calib_x to calibrate on",
            hint="pass --calib FILE.npz, or --calib random to try without (accuracy will be poor)",
        )
    found = data.load(spec, graph.inputs, key).spread(options.calib_samples)
    samples = tuple(
        execute.to_device(port, x) for port, x in zip(graph.inputs, found.real(), strict=True)
    )
    return samples, found


def _fallback(graph: Graph, options: CompileOptions, warnings: list[str]) -> tuple[Array, ...]:
    """Random inputs for the few tensors that a quantized model leaves without a grid."""
    warnings.append(
        "some tensors of this quantized model have no grid; calibrated on random inputs "
        "(pass --calib FILE.npz for real ones)"
    )
    return calibrate.random_samples(graph, 32, options.seed)


def _adopt_input_grid(graph: Graph, found: data.DataSet | None) -> Graph:
    """Gives inputs the 8-bit grid that their data is stored on: then no input value is ever rounded."""
    if found is None:
        return graph
    changed = []
    for port, x, grid in zip(graph.inputs, found.x, found.grids, strict=True):
        tensor = graph.tensors[port.tensor]
        if grid is None or grid.width != 8 or tensor.quant is not None:
            continue
        shift = 128 if x.dtype.kind == "u" else 0
        zero_point = grid.zero_point - shift
        if -128 <= zero_point <= 127:
            adopted = replace(grid, zero_points=(zero_point,))
            changed.append(replace(tensor, quant=adopted))
    return graph.with_tensors(*changed)


def _check_budget(planned: plan.Plan, target: Target, options: CompileOptions) -> None:
    """Raises DoesNotFit when memory is short, by how much, and what would help."""
    figures = emit.figures(planned)
    flash = figures["weights"] + figures["constants"]
    cycles = int(sum(s.kernel.cycles(s.layer) for s in planned.steps))
    peak = max(planned.steps, key=lambda step: step.arena_bytes, default=None)
    where = f"; the largest step is {peak.layer.label} ({peak.arena_bytes} B)" if peak else ""
    checks = (
        ("SRAM", planned.size, options.budget.sram, "--sram", "--optimize sram"),
        ("SRAM", planned.size, target.ram.size, f"RAM of {target.name}", "a board with more RAM"),
        ("flash", flash, options.budget.flash, "--flash", "fewer or narrower weights"),
        ("flash", flash, target.flash.size, f"flash of {target.name}", "a board with more flash"),
        ("cycles", cycles, options.budget.cycles, "--cycles", "--optimize speed"),
    )
    for what, needed, limit, name, remedy in checks:
        if limit is not None and needed > limit:
            raise DoesNotFit(
                f"{what}: needs {needed:,}, {name} allows {limit:,}: {needed - limit:,} too many"
                + (where if what == "SRAM" else ""),
                hint=f"try {remedy}",
            )


def describe(
    planned: plan.Plan, graph: Graph, target: Target, sha256: str, sources: dict[str, bytes]
) -> dict[str, Any]:
    """The manifest: what `generate --json` prints.

    Args:
        planned: the plan.
        graph: the float graph.
        target: the board.
        sha256: of the ONNX file.
        sources: the project's files.
    """
    figures = emit.figures(planned)
    digests = {name: hashlib.sha256(text).hexdigest() for name, text in sources.items()}
    build_id = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    inputs = sum(planned.graph.tensors[p.tensor].size for p in planned.graph.inputs)
    return {
        "schema_version": project.SCHEMA_VERSION,
        "thumbnet": __version__,
        "model": planned.graph.name,
        "model_sha256": sha256,
        "target": target.name,
        "toolchain": None,
        "weights": _weights_of(planned),
        "macs": macs(graph),
        "macs_executed": figures["macs"],
        "params": _parameters(graph),
        "arena_size": figures["arena"],
        "sram": {
            "arena": planned.arena,
            "arena_bound": planned.bound,
            "input_counted": True,
            "input": inputs,
            "scratch": planned.scratch,
            "total_static": figures["arena"],
        },
        "flash": {
            "weights": figures["weights"],
            "constants": figures["constants"],
            "code": None,
        },
        "inputs": [_port(planned, port) for port in planned.graph.inputs],
        "outputs": [_port(planned, port) for port in planned.graph.outputs],
        "layers": [_layer(planned, step) for step in planned.steps],
        "memory_map": list(_memory_map(planned)),
        "files": digests,
        "build_id": build_id,
    }


def _parameters(graph: Graph) -> int:
    return sum(tensor.size for tensor in graph.tensors.values() if tensor.data is not None)


def _port(planned: plan.Plan, port: Any) -> dict[str, Any]:
    tensor = planned.graph.tensors[port.tensor]
    assert tensor.quant is not None
    return {
        "name": port.name,
        "shape": list(tensor.shape),
        "onnx_shape": list(port.shape),
        "perm": list(port.perm),
        "size": tensor.size,
        "scale": tensor.quant.scale,
        "zero_point": tensor.quant.zero_point,
    }


def _layer(planned: plan.Plan, step: plan.Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "op": step.layer.node.op.kind,
        "kernel": step.kernel.name,
        "function": planned.functions[step.function].name,
        "macs": node_macs(planned.graph, step.layer.node),
        "weights": _stored_as(step),
        "weights_bits": _weights_bits(step),
        "bits_per_weight": _bits_per_weight(step),
        "arena_bytes": step.arena_bytes,
        "scratch": step.scratch.size if step.scratch else 0,
        "weight_count": step.layer.inputs[1].size if step.weight_bytes else None,
        "weight_bytes": step.weight_bytes,
        "constant_bytes": step.constant_bytes,
        "output": step.layer.output.name,
        "output_offset": step.output.offset,
        "output_shape": list(step.layer.output.shape),
        "nodes": list(step.layer.node.sources),
    }


def _stored_as(step: plan.Step) -> str | None:
    """How flash holds a layer's weights: "int8", "int4", "int4 vsq16", ..."""
    if not step.weight_bytes:
        return None
    storage = step.layer.inputs[1].storage
    if storage is None:
        return "int8"
    plain = storage.scheme in ("uniform", storage.weights)
    return storage.weights if plain else f"{storage.weights} {storage.scheme}"


def _weights_of(planned: plan.Plan) -> str:
    """What is not int8, or int8."""
    found = {_stored_as(step) for step in planned.steps} - {None, "int8"}
    return ", ".join(sorted(map(str, found))) or "int8"


def _weights_bits(step: plan.Step) -> int | None:
    """Bits of a weight's code."""
    storage = step.layer.inputs[1].storage if step.weight_bytes else None
    return storage.bits if storage else (8 if step.weight_bytes else None)


def _bits_per_weight(step: plan.Step) -> float | None:
    """Bits of flash per weight: codes, factors and tables, and a 32-bit scale per channel."""
    if not step.weight_bytes:
        return None
    weights = step.layer.inputs[1]
    return round((8 * step.weight_bytes + 32 * weights.shape[0]) / weights.size, 3)


def _memory_map(planned: plan.Plan) -> Iterator[dict[str, Any]]:
    """Every place in the arena over time: offset, size, first and last step."""
    slots = {slot.name: slot for slot in planned.slots.values()}
    scratch = [step.scratch for step in planned.steps if step.scratch]
    for slot in (*slots.values(), *scratch):
        yield {
            "name": slot.name,
            "offset": slot.offset,
            "size": slot.size,
            "first": slot.first,
            "last": slot.last,
        }
