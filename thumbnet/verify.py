"""C project -> proof: build it, run it in the emulator and on the host, compare every byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codegen import data, execute, graph_file, metrics, reference, states
from codegen.ir import Array, FloatArray, Graph, Port, Tensor
from codegen.plain import with_one_nan
from emulator.host import HostModel
from emulator.model import EmulatedInference
from targets import sizes, toolchain
from targets.errors import UsageError
from targets.machine import Inference, ModelImage
from targets.target import Target
from targets.target import load as load_target
from thumbnet import emulation, memory_map, project, stack, timing
from thumbnet.compiler import Progress, silent
from thumbnet.options import RunOptions

Int8Array = npt.NDArray[np.int8]
BUILD = "build"
NOT_COUNTED = "QEMU cannot count here: it loads no plugins, or there is no C compiler to make ours"


@dataclass(frozen=True, slots=True)
class Built:
    """Where a build put its results."""

    elf: Path
    toolchain: str
    sizes: sizes.Sizes


def build(folder: Path, choice: str = "auto", progress: Progress = silent) -> Built:
    """Compiles a project's firmware into DIR/build."""
    manifest = project.read_any(folder)
    target = load_target(manifest["target"])
    compiler = toolchain.find(choice)
    sources = (*project.sources(manifest, "firmware"), *project.sources(manifest))
    elf = folder / BUILD / f"{manifest['model']}.elf"
    advance = progress(f"compiling with {compiler.kind}", 1)
    toolchain.build_firmware(compiler, target, folder, sources, "link.ld", elf)
    advance(1)
    return Built(elf, compiler.version, sizes.sizes(elf))


@dataclass(frozen=True, slots=True, eq=False)
class Verified:
    """What an emulation found: the JSON object of `emulate`, and every inference."""

    found: dict[str, Any]
    runs: tuple[EmulatedInference, ...]


def verify(
    folder: Path,
    options: RunOptions,
    float_graph: Graph | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The JSON object of `emulate`; see `measure`."""
    return measure(folder, options, float_graph, progress).found


def measure(
    folder: Path,
    options: RunOptions,
    float_graph: Graph | None = None,
    progress: Progress = silent,
) -> Verified:
    """Builds and runs a project, and keeps the result with it.

    Args:
        folder: a generated project.
        options: samples, toolchain and scoring.
        float_graph: the model before quantization, for the float accuracy; None leaves that out.
        progress: progress bars.
    """
    manifest = project.read_manifest(folder)
    graph = graph_file.load(folder / project.REFERENCE)
    target = load_target(manifest["target"])
    image = project.image(manifest)
    built = build(folder, options.toolchain, progress)
    samples = samples_of(graph, options)
    inputs = stored_inputs(graph, samples.head(options.max_samples))
    if not inputs:
        raise UsageError("nothing to emulate", hint="the model has no inputs")
    if not len(inputs[0]):
        raise UsageError("nothing to emulate", hint="--max-samples must be at least 1")
    expected = reference.run(graph, inputs)
    job = job_of(target, built, manifest, image, options)
    stored = emulation.samples(inputs)
    runs, checked = emulation.infer(job, stored, progress("emulating", len(stored)))
    compared = compare(expected, runs)
    found = manifest | {
        "toolchain": built.toolchain,
        "engine": options.engine,
        "samples": len(runs),
        "checked_samples": checked,
        **compared,
        **measured(runs, target, built, manifest, options),
        "not_counted": NOT_COUNTED if options.profile and not runs[0].steps else None,
        "first_divergence": None,
    }
    if compared["first_mismatch"]:
        wrong = compared["first_mismatch"]["sample"]
        arenas = emulation.trace(job, stored[wrong])
        sample = tuple(x[wrong : wrong + 1] for x in inputs)
        found["first_divergence"] = divergence(graph, manifest, sample, arenas)
    found["sram"] = manifest["sram"] | {
        "stack": max(run.stack for run in runs),
        "stack_bound": stack.bound_of(built.elf, image.name),
        "arena_high_water": max(run.arena_high_water for run in runs),
    }
    found["sram"]["total"] = found["sram"]["total_static"] + found["sram"]["stack"]
    found["accuracy"] = None
    found["host"] = None
    if options.accuracy != "none" and options.data is not None:
        found |= scored(folder, graph, float_graph, samples, image, options, progress)
    project.write_result(folder, found)
    return Verified(found, tuple(runs))


def job_of(
    target: Target,
    built: Built,
    manifest: dict[str, Any],
    image: ModelImage,
    options: RunOptions,
) -> emulation.Job:
    """The emulation of a project; its watchdog leaves portable code some five times what it needs."""
    layers = tuple(layer["name"] for layer in manifest["layers"])
    limit = 10_000_000 + 30 * manifest["macs"] + 1_000 * image.arena_size
    arena = memory_map.arena_map(manifest)
    return emulation.Job(target, built.elf, image, layers, limit, options, arena)


def samples_of(graph: Graph, options: RunOptions) -> data.DataSet:
    """The user's data set; without one, random inputs, which still prove every byte."""
    if options.data is not None:
        return states.completed(graph, data.load(options.data, states.fed(graph)))
    generator = np.random.default_rng(options.seed)
    x = tuple(
        generator.integers(-128, 128, (options.max_samples, *port.shape[1:])).astype(np.int8)
        if graph.tensors[port.tensor].dtype is None
        else plain_samples(
            generator, graph.tensors[port.tensor], (options.max_samples, *port.shape[1:])
        )
        for port in graph.inputs
    )
    grids = tuple(graph.tensors[port.tensor].quant for port in graph.inputs)
    return data.DataSet(x, grids)


def plain_samples(generator: np.random.Generator, tensor: Tensor, shape: tuple[int, ...]) -> Array:
    """Random plain numbers: standard normal floats, small counts, truth values."""
    if tensor.dtype == "float32":
        return generator.standard_normal(shape, np.float32)
    return generator.integers(0, 2, shape).astype(tensor.numpy)


def stored_inputs(graph: Graph, samples: data.DataSet) -> tuple[reference.Stored, ...]:
    """Samples on the device's input grids, device layout."""
    stored = tuple(
        reference.to_stored(graph, port, execute.to_device(port, x))
        for port, x in zip(graph.inputs, samples.real(), strict=True)
    )
    return states.followed(graph, stored, partial(reference.run, graph))


def divergence(
    graph: Graph, manifest: dict[str, Any], inputs: tuple[Int8Array, ...], arenas: Iterable[bytes]
) -> dict[str, Any] | None:
    """The first layer whose output differs from the reference: where the mismatch was born."""
    values: dict[str, Int8Array] = {}
    reference.run(graph, inputs, values.__setitem__)
    # Not strict: a board is asked for no further arena once the layer is found.
    for layer, arena in zip(manifest["layers"], arenas, strict=False):
        wanted = values[layer["output"]][0]
        offset = layer["output_offset"]
        found = np.frombuffer(arena[offset : offset + wanted.nbytes], wanted.dtype)
        got = found.reshape(wanted.shape)
        wrong = np.argwhere(_bytes_of(got) != _bytes_of(wanted))
        if len(wrong):
            at = tuple(int(i) for i in wrong[0][: wanted.ndim])
            return {
                "layer": layer["name"],
                "kernel": layer["kernel"],
                "element": list(at),
                "expected": wanted[at].item(),
                "found": got[at].item(),
                "wrong_elements": len(wrong),
            }
    return None


def _bytes_of(array: Array) -> Int8Array:
    """An array's bytes, one more axis; equal bytes are equal numbers, NaN included."""
    return (
        np.ascontiguousarray(with_one_nan(array))
        .view(np.int8)
        .reshape(*array.shape, array.itemsize)
    )


def _as_bytes(array: Array) -> Int8Array:
    """The bytes of every sample, (samples, bytes)."""
    return np.ascontiguousarray(with_one_nan(array)).reshape(len(array), -1).view(np.int8)


def _numbers(graph: Graph, port: Port, stored: Int8Array) -> Array:
    """What an output's bytes, (samples, bytes), hold: device layout, samples first."""
    tensor = graph.tensors[port.tensor]
    return stored.view(tensor.numpy).reshape(-1, *tensor.shape[1:])


def compare(expected: tuple[Int8Array, ...], runs: Sequence[Inference]) -> dict[str, Any]:
    """Bytes that differ from the reference, and where the first of them is."""
    mismatched, first = 0, None
    for sample, run in enumerate(runs):
        for output, (wanted, got) in enumerate(zip(expected, run.outputs, strict=True)):
            stored = np.ascontiguousarray(wanted[sample]).reshape(-1)
            values = np.frombuffer(got, stored.dtype)
            wrong = np.flatnonzero(
                with_one_nan(values).view(np.int8) != with_one_nan(stored).view(np.int8)
            )
            mismatched += wrong.size
            if wrong.size and first is None:
                at = int(wrong[0]) // stored.itemsize
                first = {
                    "sample": sample,
                    "output": output,
                    "element": at,
                    "expected": stored[at].item(),
                    "found": values[at].item(),
                }
    return {
        "mismatched_bytes": int(mismatched),
        "matches_reference": mismatched == 0,
        "first_mismatch": first,
    }


def measured(
    runs: list[EmulatedInference],
    target: Target,
    built: Built,
    manifest: dict[str, Any],
    options: RunOptions,
) -> dict[str, Any]:
    """Instructions and cycles (medians over the samples), latency, and the sizes of the image."""
    return {
        "clock_hz": target.clock_hz,
        "flash": flash_sizes(built, manifest),
        **timing.measured(runs, target, built.elf, manifest, options),
    }


def flash_sizes(built: Built, manifest: dict[str, Any]) -> dict[str, int]:
    """Bytes that the model takes of the image."""
    weights: int = manifest["flash"]["weights"]
    return {
        "code": built.sizes.code,
        "weights": weights,
        "constants": built.sizes.constants - weights,
        "total": built.sizes.code + built.sizes.constants,
    }


def scored(
    folder: Path,
    graph: Graph,
    float_graph: Graph | None,
    samples: data.DataSet,
    image: ModelImage,
    options: RunOptions,
    progress: Progress,
) -> dict[str, Any]:
    """Accuracy over the whole set by the host build of the same C, which is compared byte for byte too."""
    if options.accuracy == "emulator":
        samples = _first(samples, options.max_samples)
    stored = stored_inputs(graph, samples)
    library = folder / BUILD / "host" / f"lib{image.name}.so"
    sources = project.sources(project.read_any(folder), "host_sources")
    toolchain.build_host(folder, sources, library)
    outputs = HostModel(library, image).run(stored, progress("host build", len(samples)))
    advance = progress("reference", len(samples))
    wrong = sum(
        int(np.count_nonzero(_as_bytes(got.view(wanted.dtype)) != _as_bytes(wanted)))
        for got, wanted in zip(outputs, _reference(graph, stored, advance), strict=True)
    )
    found: dict[str, Any] = {"host": {"samples": len(samples), "mismatched_bytes": wrong}}
    name = options.metric or samples.metric
    if samples.y is None or name is None:
        return found
    score = metrics.find(name)
    device = _scored_set(samples, _real_outputs(graph, outputs))
    found["accuracy"] = {
        "metric": name,
        "float": None,
        "device": score(device),
        "samples": len(samples),
        "confusion": metrics.confusion(device) if name == "top1" else None,
    }
    if float_graph is not None:
        real = _float_outputs(float_graph, samples, progress("float model", len(samples)))
        found["accuracy"]["float"] = score(_scored_set(samples, real))
    return found


def _first(samples: data.DataSet, count: int) -> data.DataSet:
    labels = None if samples.y is None else samples.y[:count]
    return replace(samples.head(count), y=labels)


def _reference(
    graph: Graph, stored: tuple[Int8Array, ...], advance: Callable[[int], None]
) -> tuple[Int8Array, ...]:
    parts = []
    for start in range(0, len(stored[0]), reference.BATCH):
        batch = tuple(x[start : start + reference.BATCH] for x in stored)
        parts.append(reference.run(graph, batch))
        advance(len(batch[0]))
    return tuple(np.concatenate(outputs) for outputs in zip(*parts, strict=True))


def _real_outputs(graph: Graph, outputs: tuple[Int8Array, ...]) -> Array:
    """The first output in real values and ONNX layout."""
    port = graph.outputs[0]
    stored = _numbers(graph, port, outputs[0])
    return execute.from_device(port, reference.to_real(graph, port, stored))


def real_outputs(graph: Graph, runs: tuple[EmulatedInference, ...]) -> tuple[FloatArray, ...]:
    """What the emulated core computed: real values in ONNX layout, samples first, per output."""
    found = []
    for index, port in enumerate(graph.outputs):
        stored = np.frombuffer(b"".join(run.outputs[index] for run in runs), np.int8)
        real = reference.to_real(graph, port, _numbers(graph, port, stored.reshape(len(runs), -1)))
        found.append(execute.from_device(port, real).astype(np.float32, copy=False))
    return tuple(found)


def _float_outputs(graph: Graph, samples: data.DataSet, advance: Callable[[int], None]) -> Array:
    parts = []
    for start in range(0, len(samples), reference.BATCH):
        real = samples.real(start, start + reference.BATCH)
        inputs = tuple(
            execute.to_device(port, x) for port, x in zip(graph.inputs, real, strict=True)
        )
        outputs = execute.run_float(graph, inputs)
        parts.append(execute.from_device(graph.outputs[0], outputs[0]))
        advance(len(real[0]))
    return np.concatenate(parts)


def _scored_set(samples: data.DataSet, outputs: Array) -> metrics.Scored:
    assert samples.y is not None
    inputs = samples.real()[0] if samples.group is not None else samples.x[0]
    return metrics.Scored(inputs, outputs, samples.y, samples.group)
