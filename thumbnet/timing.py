"""Emulated inferences -> latency, profile and what-if, as JSON."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from emulator import elf, lines, profile
from emulator.model import EmulatedInference
from emulator.timing.price import Cost, Pricing, calibrated
from targets.errors import UsageError
from targets.target import Target

SHOWN_LINES = 100  # source lines in the JSON; the file for speedscope has all


def priced(
    run: EmulatedInference, target: Target, image: elf.Image, pricing: Pricing | None = None
) -> tuple[Cost, ...]:
    """Each step of an inference by the target's calibrated model."""
    model = pricing or calibrated(target)
    pairs = zip(run.blocks, run.events, strict=True)
    return tuple(model.run(blocks, image.code, events) for blocks, events in pairs)


def latency(costs: tuple[Cost, ...], target: Target, macs: int) -> dict[str, Any]:
    """What the target's own model says of an inference, and how far it can be trusted."""
    total = sum(costs, Cost())
    flash, checked = target.flash_timing, target.validated
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
    total = sum(priced(run, target, image, replace(calibrated(target), flash=flash)), Cost())
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
    parts = zip(layers, run.blocks, run.events, strict=True)
    steps = [profile.Step(layer["name"], blocks, events) for layer, blocks, events in parts]
    found = tuple(profile.spent(steps, calibrated(target), image, lines.read(path)))
    kernels = {layer["name"]: layer["kernel"] for layer in layers}
    by_line = profile.group(found, lambda one: one.line)
    json = {
        "kernels": _rows("kernel", profile.group(found, lambda one: kernels[one.layer])),
        "symbols": _rows("symbol", profile.group(found, lambda one: one.symbol or "?")),
        "lines": [
            {"file": line.file, "line": line.line, **_row(total)}
            for line, total in list(by_line.items())[:SHOWN_LINES]
            if line.line
        ],
        "mix": _rows("kind", profile.group(found, lambda one: one.kind)),
    }
    return json, profile.speedscope(path.stem, found)


def _rows(key: str, groups: dict[Any, profile.Total]) -> list[dict[str, Any]]:
    return [{key: name, **_row(total)} for name, total in groups.items()]


def _row(total: profile.Total) -> dict[str, Any]:
    return {"instructions": total.instructions, "cycles": round(total.cycles)}


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
