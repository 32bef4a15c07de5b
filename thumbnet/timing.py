"""Emulated inferences -> latency, profile and what-if, as JSON."""

from __future__ import annotations

import json
import os
import re
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from emulator import elf, lines, profile
from emulator.model import EmulatedInference
from emulator.timing.price import Cost, Pricing, calibrated, pricing
from targets.errors import UsageError
from targets.target import Target
from thumbnet.options import RunOptions

SHOWN_LINES = 100  # source lines in the JSON; the file for speedscope has all


def measured(
    runs: list[EmulatedInference],
    target: Target,
    path: Path,
    manifest: Mapping[str, Any],
    options: RunOptions,
) -> dict[str, Any]:
    """Instructions and cycles of each layer and of all, latency, profile and what-if.

    Args:
        runs: the inferences. Counts are their medians; events of memory are those of the first.
        target: the board.
        path: the image.
        manifest: of the project.
        options: the cycle model, conditions to reprice under, and where to write the profile.
    """
    layers = manifest["layers"]
    if not runs[0].blocks:
        return _unmeasured(layers, options)
    image = elf.read(path)
    chosen = pricing(options.cycles_model)
    counts = [priced(run, image, chosen) for run in runs]
    events = runs[0].events
    own = [priced(replace(run, events=events), image, calibrated(target)) for run in runs]
    middle = own[sorted(range(len(own)), key=lambda i: _sum(own[i]).total)[(len(own) - 1) // 2]]
    where, flame = profiled(runs[0], target, path, layers)
    if options.speedscope:
        _write(options.speedscope, flame)
    estimate = latency(middle, target, manifest["macs"], any(events))
    return {
        "instructions": _median([_sum(costs).instructions for costs in counts]),
        "cycles": _median([_sum(costs).cycles for costs in counts]),
        "cycles_model": options.cycles_model,
        "latency_ms": estimate["latency_ms"],
        "timing": estimate,
        "what_if": [what_if(runs[0], target, image, text) for text in options.what_if],
        "profile": where,
        "layers": [
            layer
            | {
                "instructions": _median([costs[i].instructions for costs in counts]),
                "cycles": _median([costs[i].cycles for costs in counts]),
                "timing_cycles": middle[i].cycles,
            }
            for i, layer in enumerate(layers)
        ],
    }


def _unmeasured(layers: list[dict[str, Any]], options: RunOptions) -> dict[str, Any]:
    """The same keys of a run that was not counted."""
    for name, given in (("what-if", options.what_if), ("speedscope", options.speedscope)):
        if given:
            raise UsageError(f"--{name} needs --profile", hint="leave out --no-profile")
    nothing = ("instructions", "cycles", "cycles_model", "latency_ms", "timing", "profile")
    bare = [
        layer | {"instructions": None, "cycles": None, "timing_cycles": None} for layer in layers
    ]
    return dict.fromkeys(nothing) | {"what_if": [], "layers": bare}


def priced(run: EmulatedInference, image: elf.Image, model: Pricing) -> tuple[Cost, ...]:
    """Each step of an inference by a model."""
    events = run.events or ({},) * len(run.blocks)
    pairs = zip(run.blocks, events, strict=True)
    return tuple(model.run(blocks, image.code, seen) for blocks, seen in pairs)


def latency(
    costs: tuple[Cost, ...], target: Target, macs: int, watched: bool = True
) -> dict[str, Any]:
    """What the target's own model says of an inference, and how far it can be trusted.

    Without a watched inference nothing is known of what flash costs, and no error can be stated.
    """
    total = _sum(costs)
    flash = target.flash_timing
    checked = target.validated if watched else None
    return {
        "model": target.core.cycle_model,
        "cycles": total.cycles,
        "latency_ms": _milliseconds(total, target.clock_hz),
        "wait_states": flash.wait_states if flash else None,
        "error": checked.error if checked else None,
        "validated": checked.against if checked else None,
        "macs_per_cycle": round(macs / total.total, 4) if total.total else None,
        "breakdown": {
            key: round(getattr(total, key))
            for key in ("core", "branch", "alignment", "fetch", "data")
        },
    }


def at_clock(
    run: EmulatedInference, target: Target, image: elf.Image, clock_hz: int
) -> tuple[Cost, ...]:
    """Each step of an inference by the target's own model, with the wait states of another clock."""
    flash = target.flash_timing
    model = calibrated(target)
    if flash is not None and flash.clock_limits_hz:
        model = replace(model, flash=flash.at(clock_hz))
    return priced(run, image, model)


def what_if(run: EmulatedInference, target: Target, image: elf.Image, text: str) -> dict[str, Any]:
    """The same inference at another clock, other wait states, or on another core.

    Args:
        run: what was emulated.
        target: the board.
        image: for the code.
        text: like "clock=80M,ws=2": one or both.
    """
    clock_hz, wait_states = _conditions(text, target)
    flash = target.flash_timing
    if flash is None and wait_states is not None:
        raise UsageError(
            f"--what-if {text}: nothing is known of the flash of '{target.name}'",
            hint="give its TOML a [flash_timing] table",
        )
    if flash is not None:
        flash = flash.at(clock_hz, wait_states)
    total = _sum(priced(run, image, replace(calibrated(target), flash=flash)))
    return {
        "clock_hz": clock_hz,
        "wait_states": flash.wait_states if flash else None,
        "cycles": total.cycles,
        "latency_ms": _milliseconds(total, clock_hz),
    }


def profiled(
    run: EmulatedInference, target: Target, path: Path, layers: list[dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, object]]:
    """Where the cycles go, as JSON and as a file for speedscope."""
    image = elf.read(path)
    events = run.events or ({},) * len(run.blocks)
    parts = zip(layers, run.blocks, events, strict=True)
    steps = [profile.Step(layer["name"], blocks, seen) for layer, blocks, seen in parts]
    found = tuple(profile.spent(steps, calibrated(target), image, lines.read(path)))
    kernels = {layer["name"]: layer["kernel"] for layer in layers}
    by_line = profile.group(found, lambda one: one.line)
    tables = {
        "kernels": _rows("kernel", profile.group(found, lambda one: kernels[one.layer])),
        "symbols": _rows("symbol", profile.group(found, lambda one: one.symbol or "?")),
        "lines": [
            {"file": line.file, "line": line.line, **_row(total)}
            for line, total in list(by_line.items())[:SHOWN_LINES]
            if line.line
        ],
        "mix": _rows("kind", profile.group(found, lambda one: one.kind)),
    }
    return tables, profile.speedscope(path.stem, found)


def _rows(key: str, groups: dict[Any, profile.Total]) -> list[dict[str, Any]]:
    return [{key: name, **_row(total)} for name, total in groups.items()]


def _row(total: profile.Total) -> dict[str, Any]:
    return {"instructions": total.instructions, "cycles": round(total.cycles)}


def _sum(costs: tuple[Cost, ...]) -> Cost:
    return sum(costs, Cost())


def _median(values: list[int]) -> int:
    return int(statistics.median(values))


def _write(path: Path, content: dict[str, object]) -> None:
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as stream:
            json.dump(content, stream)
        os.replace(stream.name, path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _milliseconds(cost: Cost, clock_hz: int) -> float:
    return cost.total / clock_hz * 1e3


def _conditions(text: str, target: Target) -> tuple[int, int | None]:
    clock_hz, wait_states = target.clock_hz, None
    for part in text.split(","):
        found = re.fullmatch(r"\s*(?:(clock)=(\d+(?:\.\d+)?)([kKM]?)|ws=(\d+))\s*", part)
        if found is None:
            raise UsageError(f"--what-if '{text}'", hint="like clock=80M, ws=2 or clock=80M,ws=2")
        if found[1]:
            clock_hz = round(float(found[2]) * {"": 1, "k": 1e3, "K": 1e3, "M": 1e6}[found[3]])
        else:
            wait_states = int(found[4])
    if clock_hz <= 0:
        raise UsageError(f"--what-if '{text}': the clock must be positive")
    return clock_hz, wait_states
