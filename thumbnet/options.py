"""What the user asked for, as plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from codegen.quant.calibrate import Method
from codegen.select import Budget, Objective

Accuracy = Literal["host", "emulator", "none"]
EngineName = Literal["unicorn", "qemu"]


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """Options of `generate` and `run` that shape the C project.

    Attributes:
        target: name of a target, or the path of a user's TOML.
        calib: calibration data (`FILE.npz[:key]`), "random", or None to take it from `data`.
        method: how calibration turns values into ranges.
        shapes: shapes of inputs with dynamic dimensions.
        explain: the layer whose candidates are wanted, or "all".
        stream_input: whether the input arrives row by row and never exists whole.
    """

    target: str = "generic-m4"
    calib: str | None = None
    data: str | None = None
    method: Method | None = None
    weights: Literal["int8"] = "int8"
    optimize: Objective = "balanced"
    recipe: Path | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    simplify: bool = False
    name: str | None = None
    calib_samples: int = 256
    seed: int = 0
    budget: Budget = field(default_factory=Budget)
    dump: Path | None = None
    explain: str | None = None
    stream_input: bool = False


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of `emulate` and `run` that shape the check.

    Attributes:
        checks: on which samples every access is checked.
        cycles_model: for the keys `cycles`; latency always comes from the target's own model.
        what_if: conditions to price the inference under, like "clock=80M,ws=2".
        speedscope: file to write the profile to.
    """

    data: str | None = None
    metric: str | None = None
    accuracy: Accuracy = "host"
    max_samples: int = 20
    toolchain: Literal["auto", "gcc", "zig"] = "auto"
    profile: bool = True
    seed: int = 0
    engine: EngineName = "unicorn"
    checks: Literal["first", "all", "none"] = "first"
    cycles_model: str = "m4-simple"
    what_if: tuple[str, ...] = ()
    speedscope: Path | None = None
