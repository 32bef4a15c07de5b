"""ONNX file -> C project: the front half of the pipeline, in one readable function."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from codegen import (
    advice,
    check_plan,
    emit,
    execute,
    graph_file,
    importer,
    memory_svg,
    pipeline,
    plan,
    prune,
    recipe,
    states,
    streaming,
)
from codegen.floats import all_floats
from codegen.ir import Array, Graph, verify
from codegen.names import identifier
from codegen.passes import force_binary
from codegen.passes.binarize import binarize
from codegen.passes.lift_signs import lift_signs
from codegen.quant import calibrate, clipping, compact, equalize, few_levels, lower, quantize
from codegen.quant import weights as quant_weights
from codegen.quant.vocabulary import Activations, Method
from codegen.select import Budget
from targets import Target
from targets.errors import DoesNotFit, UsageError
from targets.target import load as load_target
from thumbnet import analysis, calibration, description, diagnosis, explain, project
from thumbnet.options import CompileOptions

Progress = Callable[[str, int], Callable[[int], None]]
"""Starts a progress bar (text, total) and returns the function that moves it on."""


SHOWN = 5
FLOATS = "float32"  # of --weights: nothing is quantized


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
        rounding: what was chosen of how weights become integers.
        samples: real calibration inputs, one array per input, device layout; none where they are random.
    """

    float_graph: Graph
    quantized: Graph
    method: Method | None
    warnings: tuple[str, ...]
    rounding: quant_weights.Choices
    samples: tuple[Array, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """Everything that one compilation made."""

    float_graph: Graph
    plan: plan.Plan
    target: Target
    files: dict[str, bytes]
    manifest: dict[str, Any]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """A float model and what its activations were seen to be.

    Attributes:
        graph: after simplification.
        imported: whether the model brought grids of its own.
        rounds: whether it brought some of activations: then results are rounded as ONNX rounds them.
        method: how values become ranges.
        ranges: of activations; none where the model brought all grids.
        samples: calibration inputs, one array per input, device layout; none without ranges.
        is_real: whether they are the user's, not random ones.
        warnings: texts for the user.
    """

    graph: Graph
    imported: bool
    rounds: bool
    method: Method
    ranges: Mapping[str, clipping.Range]
    samples: tuple[Array, ...]
    is_real: bool
    warnings: tuple[str, ...]


def calibrated(
    model: Path,
    options: CompileOptions,
    choices: recipe.Recipe | None = None,
    progress: Progress = silent,
) -> Calibrated:
    """Imports, simplifies and calibrates a model."""
    floats = options.weights == FLOATS
    graph = importer.load(
        model,
        shapes=options.shapes,
        simplify=options.simplify,
        floats=floats,
        islands=not options.integers_only,
    )
    if options.name:
        graph = _renamed(graph, options.name)
    rounding = rounding_of(options, choices)
    graph = states.declared(_simplified(graph, options, rounding.activations), options.states)
    imported = any(tensor.quant for tensor in graph.tensors.values())
    # Weights alone on a grid, as weight-only quantizers leave them, say nothing about rounding.
    rounds = any(tensor.quant and tensor.data is None for tensor in graph.tensors.values())
    method = options.method or (choices.calibration if choices else None) or "mse"
    warnings = [] if floats else _float_layers(graph)
    ranges: dict[str, clipping.Range] = {}
    samples: tuple[Array, ...] = ()
    is_real = False
    if _needs_calibration(graph):
        graph, samples, is_real = calibration.inputs(graph, options, warnings)
        if rounding.equalize and not imported:
            graph = equalize.equalize(graph)
        advance = progress("calibrating", len(samples[0]) * calibrate.passes(method))
        samples = states.followed(graph, samples, partial(execute.run_float, graph))
        ranges = states.shared(graph, calibrate.ranges(graph, samples, method, advance))
    return Calibrated(graph, imported, rounds, method, ranges, samples, is_real, tuple(warnings))


def _float_layers(graph: Graph) -> list[str]:
    """A text for the user that names the layers that no integer kernel serves."""
    found = [n.label for n in graph.nodes if graph.tensors[n.output].dtype == "float32"]
    named = list(dict.fromkeys(found))
    if not named:
        return []
    shown = ", ".join(named[:SHOWN]) + (", ..." if len(named) > SHOWN else "")
    return [f"{len(named)} layers compute in float32, for want of an integer form: {shown}"]


def _simplified(graph: Graph, options: CompileOptions, activations: Activations | None) -> Graph:
    """The graph after all passes, its signs in bits or bytes as asked for."""
    passes = pipeline.PASSES
    if options.weights == FLOATS:
        passes = tuple(one for one in passes if one not in (binarize, lift_signs))
        return all_floats(pipeline.run(graph, passes, dump=options.dump))
    if activations == "int8":
        passes = tuple(one for one in passes if one is not binarize)
    graph = pipeline.run(graph, passes, dump=options.dump)
    if activations == "binary":
        graph = verify(force_binary.binary_activations(graph, options.force))
    return graph


def prepare(
    model: Path,
    options: CompileOptions,
    choices: recipe.Recipe | None = None,
    progress: Progress = silent,
) -> Prepared:
    """Imports, simplifies, quantizes and prunes a model."""
    found = calibrated(model, options, choices, progress)
    graph, imported, ranges, samples = found.graph, found.imported, found.ranges, found.samples
    rounding = rounding_of(options, choices)
    style = rounding.style()
    if rounding.activations == "int4":
        graph = _narrowed(graph, samples, found.method, imported)
    quantized = prune.prune(quantize.quantize(graph, ranges, found.rounds, style=style))
    if imported:
        quantized = compact.compact(quantized)
    chosen = lower.choose(quantized, _formats(options, choices), imported)
    force = options.force or (choices is not None and choices.force)
    rules = quant_weights.settings(graph, chosen, rounding, options.seed, force)
    if chosen or (rules and not imported):
        rounded = graph
        if rules and not imported:
            rounded = quant_weights.rounded(graph, ranges, samples, rules, progress, style)
        wide = prune.prune(quantize.quantize(rounded, ranges, found.rounds, chosen, style))
        quantized = lower.lower(wide, chosen, force, imported)
        if imported:
            quantized = compact.compact(quantized)
    if options.per_frame:
        quantized = streaming.per_frame(quantized)
    method = found.method if ranges else None
    real = samples if found.is_real else ()
    return Prepared(found.graph, quantized, method, found.warnings, rounding, real)


def compile_model(model: Path, options: CompileOptions, progress: Progress = silent) -> Compiled:
    """Prepares a model, plans it for the target, checks the plan and renders the C project.

    Raises:
        ThumbnetError: anything that is wrong with the model, an option or a data file.
        DoesNotFit: a budget or the target's memory is exceeded.
    """
    target = load_target(options.target)
    choices = recipe.load(options.recipe) if options.recipe else recipe.Recipe()
    prepared = prepare(model, options, choices, progress)
    planned = check_plan.check(_planned(prepared.quantized, target, choices, options))
    sha256 = importer.digest(model)
    written = emit.emit(planned, target, sha256)
    sources = {name: text.encode() for name, text in written.files.items()}
    manifest = description.describe(planned, prepared.float_graph, target, sha256, sources)
    if options.explain:
        for index in explain.layers(planned, options.explain):
            step = planned.steps[index]
            named = step.name in choices.kernels
            found = explain.candidates(planned, step, options.optimize, named)
            manifest["layers"][index]["candidates"] = found
        if prepared.samples:
            _explain_errors(manifest, prepared)
    manifest |= {
        "optimize": options.optimize,
        "sources": written.sources,
        "host_sources": written.host_sources,
        "firmware": written.firmware,
        "build_id": written.build_id,
    }
    files = sources | {
        project.MANIFEST: (json.dumps(manifest, indent=2) + "\n").encode(),
        project.REFERENCE: graph_file.dump(prepared.quantized),
        "memory.svg": memory_svg.draw(planned).encode(),
        "recipe.toml": _recipe(planned, prepared, choices),
    }
    return Compiled(prepared.float_graph, planned, target, files, manifest, prepared.warnings)


def _explain_errors(manifest: dict[str, Any], prepared: Prepared) -> None:
    """Adds what the layers that are explained lose on calibration data, and where the network diverges."""
    errors = analysis.errors_on(prepared.quantized, prepared.float_graph, prepared.samples)
    for layer in manifest["layers"]:
        if "candidates" in layer:
            layer["error"] = errors.get(layer["output"])
    manifest["diverges_at"] = diagnosis.first_below(manifest["layers"], errors)


def _recipe(planned: plan.Plan, prepared: Prepared, choices: recipe.Recipe) -> bytes:
    """The choices of this build."""
    return recipe.dump(planned, prepared.method, prepared.rounding, choices.force).encode()


def _formats(options: CompileOptions, choices: recipe.Recipe | None) -> lower.Formats:
    """How flash is to hold weights."""
    weights = None if options.weights == FLOATS else options.weights
    given = lower.Format(weights, options.scheme)
    return lower.Formats(given, choices.weights if choices else {})


def rounding_of(
    options: CompileOptions, choices: recipe.Recipe | None = None
) -> quant_weights.Choices:
    """How weights become integers: options before the recipe."""
    given = quant_weights.Choices(
        options.rounding,
        options.clip,
        options.bias_correction,
        options.activations,
        options.granularity,
        options.scales,
        options.activation_grid,
        options.equalize or None,
    )
    return given.over(choices.rounding) if choices else given


def _narrowed(graph: Graph, samples: tuple[Array, ...], method: Method, imported: bool) -> Graph:
    """The graph with 16 levels between layers, their ranges found for as many."""
    if imported:
        raise UsageError(
            "the model brings integer activations of its own",
            hint="--activations is for float models",
        )
    ranges = calibrate.ranges(graph, samples, method, width=few_levels.BITS)
    return few_levels.narrow(graph, ranges)


def _renamed(graph: Graph, name: str) -> Graph:
    if identifier(name) != name:
        raise UsageError(
            f"--name {name!r} is no usable C identifier", hint=f"for example {identifier(name)}"
        )
    return replace(graph, name=name)


def _needs_calibration(graph: Graph) -> bool:
    """Whether some activation has no grid of its own: only then is data needed."""
    return any(
        t.quant is None and t.data is None and t.dtype is None for t in graph.tensors.values()
    )


def _planned(
    graph: Graph, target: Target, choices: recipe.Recipe, options: CompileOptions
) -> plan.Plan:
    """The plan within all budgets; where there is none, the error names what takes the SRAM."""
    budget = limits_of(target, options.budget)
    try:
        return plan.make(
            graph,
            target.core,
            options.optimize,
            choices.kernels,
            choices.chains,
            budget,
            target.flash_timing,
            options.stream_input,
        )
    except DoesNotFit as error:
        smallest = plan.make(
            graph,
            target.core,
            "sram",
            choices.kernels,
            choices.chains,
            stream=options.stream_input,
        )
        limit, peak = budget.sram, advice.peak(smallest)
        if peak is None or limit is None or smallest.size <= limit:
            raise
        raise DoesNotFit(
            f"SRAM: needs {smallest.size:,}, {budget.limits['sram']} allows {limit:,}: "
            f"{smallest.size - limit:,} too many; the largest step is {peak.layer} ({peak.bytes:,} B)",
            hint="; or ".join(
                [error.hint, *(f"not enough alone: {advice.in_words(a)}" for a in peak.advice[:2])]
            ),
        ) from error


def limits_of(target: Target, wanted: Budget) -> Budget:
    """The user's limits, or the target's memory where that is less."""
    sizes, limits = {"sram": target.ram.size, "flash": target.flash.size}, dict(wanted.limits)
    least: dict[str, int] = {}
    for name, size in sizes.items():
        given = getattr(wanted, name)
        least[name] = size if given is None else min(given, size)
        if least[name] == size:
            limits[name] = f"{'RAM' if name == 'sram' else 'flash'} of {target.name}"
    return replace(wanted, sram=least["sram"], flash=least["flash"], limits=limits)
