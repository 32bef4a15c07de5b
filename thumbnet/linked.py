"""A linked project -> proof: all its models in one firmware, in turn, every byte compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codegen import data, graph_file, reference
from codegen.ir import Graph
from codegen.names import identifier
from emulator import elf
from emulator.model import EmulatedInference
from targets.errors import UsageError
from targets.target import Target
from targets.target import load as load_target
from thumbnet import emulation, memory_map, project, timing, verify
from thumbnet.compiler import Progress, silent
from thumbnet.linking import reference_file
from thumbnet.options import RunOptions
from thumbnet.stack import bound_of


@dataclass(frozen=True, slots=True, eq=False)
class _Model:
    """One of the models, ready to run.

    Attributes:
        manifest: its section.
        samples: the whole data set; inputs: those to emulate, on the device's grids.
        job: its emulation.
    """

    manifest: dict[str, Any]
    graph: Graph
    samples: data.DataSet
    inputs: tuple[verify.Int8Array, ...]
    job: emulation.Job


def check(
    folder: Path,
    options: RunOptions,
    files: tuple[str, ...] = (),
    progress: Progress = silent,
) -> dict[str, Any]:
    """Builds and runs a linked project: the JSON object of `emulate`.

    Args:
        folder: what `link` wrote.
        options: samples, toolchain and scoring; its `data` is not looked at.
        files: data sets as MODEL=FILE[:KEY]; models without one get random inputs.
        progress: progress bars.
    """
    manifest = project.read_any(folder)
    if options.speedscope:
        raise UsageError("--speedscope takes one model", hint="emulate the model's own project")
    target = load_target(manifest["target"])
    sections = _sections(folder, manifest)
    chosen = _data_by_model(files, tuple(sections))
    built = verify.build(folder, options.toolchain, progress)
    models = [
        _prepared(folder, section, target, built, replace(options, data=chosen.get(name)))
        for name, section in sections.items()
    ]
    stored = [emulation.samples(model.inputs) for model in models]
    advance = progress("emulating", sum(map(len, stored)))
    runs, checked = emulation.interleave([model.job for model in models], stored, advance)
    found = [
        _found(folder, model, of_model, target, built, min(checked, len(of_model)), progress)
        for model, of_model in zip(models, runs, strict=True)
    ]
    return _summary(manifest, found, target, built, options)


def _sections(folder: Path, manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the manifest says of each model, by name; the name becomes part of paths."""
    try:
        sections = {str(section["model"]): dict(section) for section in manifest["models"]}
        for section in sections.values():
            project.image(section)
            memory_map.arena_map(section)
        known = bool(sections) and all(identifier(name) == name for name in sections)
        users = [(one["function"], len(one["models"])) for one in manifest["kernels"]["shared"]]
        sizes = (manifest["sram"]["arena"], manifest["flash"]["weights"], *dict(users).values())
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder, str(error)) from error
    if not known or not all(isinstance(size, int) for size in sizes):
        raise _damaged(folder, "names or sizes")
    return sections


def _damaged(folder: Path, what: str) -> UsageError:
    return UsageError(
        f"{folder / project.MANIFEST}: damaged ({what})", hint="link the projects again"
    )


def _data_by_model(files: tuple[str, ...], names: tuple[str, ...]) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for text in files:
        name, equals, file = text.partition("=")
        if not equals or name not in names:
            raise UsageError(
                f"--data {text!r} names no model",
                hint=f"like --data {names[0]}=FILE.npz; models: {', '.join(names)}",
            )
        if name in chosen:
            raise UsageError(f"--data is given twice for {name}")
        chosen[name] = file
    return chosen


def _prepared(
    folder: Path,
    section: dict[str, Any],
    target: Target,
    built: verify.Built,
    options: RunOptions,
) -> _Model:
    graph = graph_file.load(folder / reference_file(section["model"]))
    samples = verify.samples_of(graph, options)
    inputs = verify.stored_inputs(graph, samples.head(options.max_samples))
    if not len(inputs[0]):
        raise UsageError(f"{section['model']}: nothing to emulate", hint="its data set is empty")
    image = project.image(section, context=f"app_ctx_{section['model']}")
    job = verify.job_of(target, built, section, image, options)
    return _Model(section, graph, samples, inputs, job)


def _found(
    folder: Path,
    model: _Model,
    runs: list[EmulatedInference],
    target: Target,
    built: verify.Built,
    checked: int,
    progress: Progress,
) -> dict[str, Any]:
    """What there is to say of one model: the keys of `emulate`."""
    manifest, options = model.manifest, model.job.options
    compared = verify.compare(reference.run(model.graph, model.inputs), runs)
    found = manifest | {
        "samples": len(runs),
        "checked_samples": checked,
        **compared,
        **timing.measured(runs, target, built.elf, manifest, options),
        "not_counted": verify.NOT_COUNTED if options.profile and not runs[0].steps else None,
        "first_divergence": None,
        "accuracy": None,
        "host": None,
    }
    if compared["first_mismatch"]:
        wrong = compared["first_mismatch"]["sample"]
        arenas = emulation.trace(model.job, emulation.samples(model.inputs)[wrong])
        sample = tuple(x[wrong : wrong + 1] for x in model.inputs)
        found["first_divergence"] = verify.divergence(model.graph, manifest, sample, arenas)
    found["sram"] = manifest["sram"] | {
        "stack": max(run.stack for run in runs),
        "stack_bound": bound_of(built.elf, manifest["model"]),
        "arena_high_water": max(run.arena_high_water for run in runs),
    }
    if options.accuracy != "none" and options.data is not None:
        image = model.job.image
        found |= verify.scored(folder, model.graph, None, model.samples, image, options, progress)
    return found


def _summary(
    manifest: dict[str, Any],
    models: list[dict[str, Any]],
    target: Target,
    built: verify.Built,
    options: RunOptions,
) -> dict[str, Any]:
    wrong = sum(model["mismatched_bytes"] for model in models)
    stack = max(model["sram"]["stack"] for model in models)
    hosts = [model["host"] for model in models if model["host"]]
    return manifest | {
        "toolchain": built.toolchain,
        "engine": options.engine,
        "clock_hz": target.clock_hz,
        "samples": sum(model["samples"] for model in models),
        "mismatched_bytes": wrong,
        "matches_reference": wrong == 0,
        "sram": manifest["sram"] | {"stack": stack, "total": manifest["sram"]["arena"] + stack},
        "flash": verify.flash_sizes(built, manifest) | _code(manifest, built.elf),
        "host": {key: sum(host[key] for host in hosts) for key in ("samples", "mismatched_bytes")}
        if hosts
        else None,
        "models": models,
    }


def _code(manifest: Mapping[str, Any], image: Path) -> dict[str, Any]:
    """Bytes of functions by whose they are, and what separate images would hold twice."""
    users = {one["function"]: len(one["models"]) for one in manifest["kernels"]["shared"]}
    names = sorted((model["model"] for model in manifest["models"]), key=len, reverse=True)
    own = dict.fromkeys((model["model"] for model in manifest["models"]), 0)
    shared = saved = 0
    for function in elf.read(image).functions:
        owner = next((name for name in names if function.name.startswith(f"{name}_")), None)
        if function.name in users:
            shared += function.size
            saved += function.size * (users[function.name] - 1)
        elif owner:
            own[owner] += function.size
    return {"own_code": own, "shared_code": shared, "saved_code": saved}
