"""What the user asked for, as plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from codegen.quant.vocabulary import Activations, Correction, Method
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
        weights: of all layers but depthwise ones and small ends, unless a recipe names them.
        scheme: how flash holds such weights; None = the plain way.
        rounding: how weights are rounded; None = the usual for their width.
        clip: how scales of weights are found; None = the usual for their width.
        bias_correction: whether mean errors are taken out of biases; None = the usual for their width.
        activations: "int4" takes 16 levels between layers, "binary" insists on layers of signs, "int8" keeps
            signs in bytes; None = 256 levels, and signs in bits.
        granularity: of scales of weights: "channel" (None) or "tensor".
        scales: "pow2" for powers of two; None = as they come.
        activation_grid: "symmetric" for zero points of 0; None = asymmetric.
        equalize: whether channels between layers get ranges alike beforehand.
        force: whether float weights are rounded even to what is of no use without training.
        shapes: shapes of inputs with dynamic dimensions.
        explain: the layer whose candidates are wanted, or "all".
        stream_input: whether the input arrives row by row and never exists whole.
        integers_only: whether operators that have no integer form are refused.
        per_frame: whether a causal network is to take a frame at a time and keep what it still needs.
        states: names of inputs, and of the outputs that they take over from the run before.
    """

    target: str = "generic-m4"
    calib: str | None = None
    data: str | None = None
    method: Method | None = None
    weights: str | None = None
    scheme: str | None = None
    rounding: str | None = None
    clip: str | None = None
    bias_correction: Correction | None = None
    activations: Activations | None = None
    granularity: str | None = None
    scales: str | None = None
    activation_grid: str | None = None
    equalize: bool = False
    force: bool = False
    optimize: Objective = "balanced"
    recipe: Path | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    simplify: bool = False
    name: str | None = None
    calib_samples: int = 1024
    seed: int = 0
    budget: Budget = field(default_factory=Budget)
    dump: Path | None = None
    explain: str | None = None
    stream_input: bool = False
    integers_only: bool = False
    per_frame: bool = False
    states: Mapping[str, str] = field(default_factory=dict)


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


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """Options of `tune` that shape the search.

    Attributes:
        formats: to choose from: "int4", or "int4:vsq16" with a scheme.
        accuracy_drop: most samples of the calibration data, in percent, that may change their class.
        measure: of the loss: squared error ("mse"; of logits where there is a softmax), or divergence ("kl").
        search: "milp" proves that it has found the best, "rl" learns.
        points: of the front, per limit of cycles, at most.
        verify: points whose accuracy and size are measured on built firmware.
        jobs: local processes that measure.
        dask: address of a scheduler whose workers measure instead.
    """

    formats: tuple[str, ...] = ("int8", "int4", "int3", "int2")
    accuracy_drop: float | None = None
    measure: Literal["kl", "mse"] = "mse"
    search: Literal["milp", "rl"] = "milp"
    points: int = 25
    verify: int = 5
    jobs: int = 1
    dask: str | None = None
