"""A project against the board that runs it: same data, same bytes; its cycles beside the prediction."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from codegen import graph_file, reference
from codegen.ir import Graph
from emulator import elf
from emulator.model import EmulatedInference
from targets import console
from targets import load as load_target
from targets.errors import DeviceError, UsageError
from targets.link.board import Board, DeviceInference, answering_baud
from targets.link.client import Faulted, Garbage, NoAnswer
from targets.target import Target
from thumbnet import emulation, project, stack, timing, verify
from thumbnet.compiler import Progress, silent
from thumbnet.options import RunOptions

CYCLES_PER_MAC = 100  # at most: a layer may take so long before the board counts as lost
UNMEASURED = ("instructions", "cycles", "cycles_model", "latency_ms", "timing", "profile")


def check(
    folder: Path,
    port: str,
    options: RunOptions,
    baud: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Runs a project's samples on a board; the JSON object of `check`.

    Args:
        folder: a generated project, whose firmware the board runs.
        port: a device, socket://HOST:PORT or any URL of pyserial.
        options: samples and scoring.
        baud: bits per second; None: the board's own.
        progress: progress bars.

    Raises:
        DeviceError: the board cannot be reached, runs another build, or faults.
    """
    manifest = project.read_manifest(folder)
    target = load_target(manifest["target"])
    described = console.of(target)
    if described is None:
        hint = "thumbnet boards shows the targets; docs/serial.md, what a board's file must say"
        raise UsageError(f"firmware for {target.name} has no console to check", hint=hint)
    graph = graph_file.load(folder / project.REFERENCE)
    samples = verify.samples_of(graph, options)
    inputs = verify.stored_inputs(graph, samples.head(options.max_samples))
    stored = emulation.samples(inputs)
    expected = reference.run(graph, inputs)
    built = verify.build(folder, options.toolchain, progress)
    slowest = max((layer["macs"] for layer in manifest["layers"]), default=0) * CYCLES_PER_MAC
    board = Board(
        port,
        project.image(manifest),
        manifest["build_id"],
        baud=baud or described.baud,
        step_s=slowest / described.clock_hz,
    )
    answered = on_board(board, graph, manifest, inputs, expected, progress, built.elf)
    predicted = _predicted(target, built, manifest, stored[0], options)
    steps = _step_cycles(predicted, target, built.elf, described.clock_hz)
    found: dict[str, Any] = manifest | {
        "toolchain": built.toolchain,
        "engine": "board",
        "port": port,
        "board": target.name,
        "samples": len(stored),
        "checked_samples": 0,
        "host": None,
        "accuracy": None,
        "not_counted": None,
    }
    found |= _counted(predicted, target, built, manifest, options) | answered
    found["layers"] = _layers(found, steps)
    found["sram"] = _sram(manifest, built, found["device_stack"])
    if options.accuracy != "none" and options.data is not None:
        image = project.image(manifest)
        found |= verify.scored(folder, graph, None, samples, image, options, progress)
    return found


def _sram(manifest: dict[str, Any], built: verify.Built, used: int) -> dict[str, Any]:
    """The plan's SRAM with the stack that the board used, and its bound."""
    sram: dict[str, Any] = manifest["sram"]
    bound = stack.bound_of(built.elf, manifest["model"])
    return sram | {"stack": used, "stack_bound": bound, "total": sram["total_static"] + used}


def on_board(
    board: Board,
    graph: Graph,
    manifest: dict[str, Any],
    inputs: tuple[verify.Int8Array, ...],
    expected: tuple[verify.Int8Array, ...],
    progress: Progress,
    image: Path,
) -> dict[str, Any]:
    """What the board answers, compared.

    Raises:
        DeviceError: the link failed, or the firmware faulted; with names from the image.
    """
    stored = emulation.samples(inputs)
    advance = progress("on the board", len(stored))
    try:
        with board:
            if not board.client.weights_are_intact():
                raise DeviceError(
                    "the weights in the board's flash are damaged", hint="flash again"
                )
            runs = []
            for sample in stored:
                runs.append(board.infer(sample))
                advance(1)
            compared = verify.compare(expected, runs)
            born = None
            if compared["first_mismatch"]:
                wrong = compared["first_mismatch"]["sample"]
                one = tuple(x[wrong : wrong + 1] for x in inputs)
                born = verify.divergence(graph, manifest, one, board.trace(stored[wrong]))
    except Faulted as fault:
        raise _named(fault, manifest, image) from fault
    except (NoAnswer, Garbage) as error:
        raise error if board.greeted else _with_baud(error, board) from error
    return compared | {"first_divergence": born, **_measured(board, runs)}


def _measured(board: Board, runs: list[DeviceInference]) -> dict[str, Any]:
    """Medians over the samples, and the line."""
    layers = zip(*(run.layer_cycles for run in runs), strict=True)
    counts = board.counts
    return {
        "device_cycles": int(statistics.median(run.cycles for run in runs)),
        "device_layer_cycles": [int(statistics.median(cycles)) for cycles in layers],
        "device_counter": board.hello.counter,
        "device_clock_hz": board.hello.clock_hz,
        "device_stack": max(run.stack for run in runs),
        "frames": {"sent": counts.sent, "again": counts.again, "damaged": counts.damaged},
    }


def _predicted(
    target: Target,
    built: verify.Built,
    manifest: dict[str, Any],
    sample: emulation.Sample,
    options: RunOptions,
) -> EmulatedInference | None:
    """One inference in the emulator; None for cores that it lacks."""
    if not target.core.unicorn_cpu:
        return None
    emulated = replace(options, engine="unicorn", profile=True, checks="first")
    job = verify.job_of(target, built, manifest, project.image(manifest), emulated)
    (run,), _ = emulation.infer(job, [sample], lambda done: None)
    return run


def _step_cycles(
    run: EmulatedInference | None, target: Target, image: Path, clock_hz: int
) -> list[int]:
    if run is None:
        return []
    return [cost.cycles for cost in timing.at_clock(run, target, elf.read(image), clock_hz)]


def _counted(
    run: EmulatedInference | None,
    target: Target,
    built: verify.Built,
    manifest: dict[str, Any],
    options: RunOptions,
) -> dict[str, Any]:
    """The keys that `emulate` prints of its counts: of the emulated inference."""
    if run is None:
        sizes = verify.flash_sizes(built, manifest)
        return dict.fromkeys(UNMEASURED) | {
            "what_if": [],
            "clock_hz": target.clock_hz,
            "flash": sizes,
        }
    return verify.measured([run], target, built, manifest, options)


def _layers(found: Mapping[str, Any], predicted: list[int]) -> list[dict[str, Any]]:
    """Layers with the board's cycles and, for the board's clock, the emulator's."""
    beside: Sequence[int | None] = predicted or [None] * len(found["layers"])
    rows = zip(found["layers"], found["device_layer_cycles"], beside, strict=True)
    return [
        layer | {"device_cycles": cycles, "predicted_cycles": guess}
        for layer, cycles, guess in rows
    ]


def _named(fault: Faulted, manifest: Mapping[str, Any], image: Path) -> DeviceError:
    """A fault with names for its addresses and its layer."""
    at = fault.fault
    known = elf.read(image)
    function = known.function_at(at.pc & ~1) or "no function"
    caller = known.function_at(at.lr & ~1) or "no function"
    layers = manifest["layers"]
    layer = f", layer {layers[at.step]['name']}" if 0 <= at.step < len(layers) else ""
    return fault.named(f"pc 0x{at.pc:08x} in {function}, lr 0x{at.lr:08x} in {caller}{layer}")


def _with_baud(error: DeviceError, board: Board) -> DeviceError:
    """The error, or a better one when the board answers at another rate."""
    baud = answering_baud(board.url, board.baud)
    if baud is None:
        return error
    return DeviceError(
        f"the board at {board.url} does not speak {board.baud} baud, but {baud}",
        hint=f"use --baud {baud}",
    )
