"""The options of the command line, in groups that several verbs share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich_click as click

from codegen.quant.vocabulary import (
    ACTIVATION_GRIDS,
    ACTIVATIONS,
    CLIPS,
    CORRECTIONS,
    GRANULARITIES,
    METHODS,
    ROUNDING_NAMES,
    SCHEME_NAMES,
    STEP_SIZES,
    WEIGHTS,
)

Command = Callable[..., Any]


def stacked(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """One decorator made of several, in the order they are to be listed in the help."""
    return lambda command: functools.reduce(lambda f, d: d(f), reversed(decorators), command)


output_options = stacked(
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
    click.option("-q", "--quiet", is_flag=True, help="No progress, no warnings."),
    click.option("--debug", is_flag=True, help="Show tracebacks."),
)
model_options = stacked(
    click.option(
        "--shape",
        "shapes",
        multiple=True,
        metavar="NAME=1,3,96,96",
        help="Shape of an input with dynamic dimensions.",
    ),
    click.option("--simplify", is_flag=True, help="Run onnxslim on the model first."),
)
compile_options = stacked(
    click.option(
        "-t",
        "--target",
        default="generic-m4",
        show_default=True,
        help="Target name (see `thumbnet boards`) or a TOML of yours.",
    ),
    click.option(
        "--calib",
        metavar="FILE[:KEY]",
        help="Calibration data, or 'random'. Default: calib_x of --data.",
    ),
    click.option(
        "--method",
        type=click.Choice(METHODS),
        help="How calibration finds ranges. [default: mse]",
    ),
    click.option(
        "--calib-samples",
        default=1024,
        show_default=True,
        type=click.IntRange(1),
        help="Calibration samples to use at most.",
    ),
    click.option(
        "--activations",
        type=click.Choice(ACTIVATIONS),
        help="int4: 16 levels between layers; binary: insist on layers of signs; int8: signs in bytes too. "
        "[default: 256 levels, signs in bits]",
    ),
    click.option(
        "--weights",
        type=click.Choice(("float32", *WEIGHTS)),
        help="Weights of all layers but depthwise ones and small ends; float32: nothing is quantized. "
        "[default: int8]",
    ),
    click.option(
        "--scheme",
        type=click.Choice(SCHEME_NAMES),
        help="How flash holds them (see `thumbnet ops --schemes`).",
    ),
    click.option(
        "--rounding",
        type=click.Choice(ROUNDING_NAMES),
        help="How weights are rounded. [default: nearest; below 8 bits gptq]",
    ),
    click.option(
        "--clip",
        type=click.Choice(CLIPS),
        help="How scales of weights are found. [default: minmax; below 8 bits auto]",
    ),
    click.option(
        "--bias-correction",
        type=click.Choice(CORRECTIONS),
        help="Take mean errors of rounded weights out of biases. [default: off; below 8 bits auto]",
    ),
    click.option(
        "--granularity",
        type=click.Choice(GRANULARITIES),
        help="Scales of weights: one per output channel, or one per layer. [default: channel]",
    ),
    click.option(
        "--scales",
        type=click.Choice(STEP_SIZES),
        help="pow2 rounds all scales up to powers of two. [default: free]",
    ),
    click.option(
        "--activation-grid",
        type=click.Choice(ACTIVATION_GRIDS),
        help="symmetric has zero points of 0. [default: asymmetric]",
    ),
    click.option(
        "--equalize",
        is_flag=True,
        help="Give channels between layers ranges alike first; outputs of the float model stay.",
    ),
    click.option(
        "--force", is_flag=True, help="Round weights even to 2 bits and less without training."
    ),
    click.option(
        "--optimize",
        type=click.Choice(["speed", "sram", "flash", "balanced"]),
        default="balanced",
        show_default=True,
        help="What to save.",
    ),
    click.option(
        "--recipe",
        type=click.Path(path_type=Path),
        metavar="FILE.toml",
        help="Per-layer choices (DIR/recipe.toml of an earlier build).",
    ),
    click.option(
        "--explain",
        metavar="LAYER",
        help="Show a layer's candidates, why each serves or not, and why one was chosen; or 'all'.",
    ),
    click.option(
        "--integers-only",
        is_flag=True,
        help="Refuse operators that would compute in float32 for want of an integer form.",
    ),
    click.option(
        "--state",
        "states",
        multiple=True,
        metavar="INPUT=OUTPUT",
        help="An input that holds what an output was in the run before (NAME_reset begins anew).",
    ),
    click.option(
        "--per-frame",
        is_flag=True,
        help="A causal network takes one frame at a time and keeps what it still needs.",
    ),
    click.option(
        "--stream-input",
        is_flag=True,
        help="The input arrives row by row (NAME_push_row) and never exists whole.",
    ),
    click.option("--name", help="Name of the model in C. [default: from the file's name]"),
    click.option("--sram", metavar="SIZE", help="SRAM budget, like 64K."),
    click.option("--flash", metavar="SIZE", help="Flash budget, like 512K."),
    click.option("--cycles", metavar="COUNT", help="Budget of predicted cycles, like 20M."),
    click.option(
        "--dump",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Write the graph after every pass.",
    ),
    model_options,
)
format_option = click.option(
    "--format",
    "layout",
    type=click.Choice(["table", "md", "csv", "json"]),
    default="table",
    show_default=True,
    help="How to print the table.",
)
data_option = click.option("--data", metavar="FILE[:KEY]", help="Samples, with labels to score.")
models_data_option = click.option(
    "--data",
    multiple=True,
    metavar="[MODEL=]FILE[:KEY]",
    help="Samples, with labels to score; of linked models once for each, like kws=kws.npz.",
)
seed_option = click.option("--seed", default=0, show_default=True, help="Seed of random data.")
toolchain_option = click.option(
    "--toolchain",
    type=click.Choice(["auto", "gcc", "zig"]),
    default="auto",
    show_default=True,
    help="C compiler.",
)
metric_option = click.option("--metric", help="Metric to score with. [default: the data file's]")
run_options = stacked(
    metric_option,
    click.option(
        "--accuracy",
        type=click.Choice(["host", "emulator", "none"]),
        default="host",
        show_default=True,
        help="Where the whole data set is run.",
    ),
    click.option(
        "--max-samples",
        default=20,
        show_default=True,
        type=click.IntRange(1),
        help="Samples to emulate.",
    ),
    toolchain_option,
    click.option(
        "--profile/--no-profile",
        default=True,
        show_default=True,
        help="Count instructions and cycles per layer.",
    ),
    click.option(
        "--engine",
        type=click.Choice(["unicorn", "qemu"]),
        default="unicorn",
        show_default=True,
        help="What runs the firmware; qemu needs qemu-system-arm and a target that it has.",
    ),
    click.option(
        "--checks",
        type=click.Choice(["first", "all", "none"]),
        default="first",
        show_default=True,
        help="Samples on which every memory access is checked.",
    ),
    click.option(
        "--cycles-model",
        default="m4-simple",
        show_default=True,
        help="Cycle model of the table; latency comes from the target's own.",
    ),
    click.option(
        "--what-if",
        multiple=True,
        metavar="clock=80M,ws=2",
        help="Price the same run at another clock or other wait states.",
    ),
    click.option(
        "--speedscope",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE.json",
        help="Write the profile by layer, function and source line, for speedscope.app.",
    ),
)
check_options = stacked(
    metric_option,
    click.option(
        "--accuracy",
        type=click.Choice(["host", "none"]),
        default="host",
        show_default=True,
        help="Whether to run the whole data set on this machine.",
    ),
    click.option(
        "--max-samples",
        default=20,
        show_default=True,
        type=click.IntRange(1),
        help="Samples to run on the board.",
    ),
    toolchain_option,
)
serve_option = click.option(
    "--serve",
    metavar="socket://HOST:PORT|pty",
    help="Run the whole firmware instead, its serial port on a TCP port or a pseudo-terminal.",
)
by_option = click.option(
    "--by",
    type=click.Choice(["layers", "kernels", "symbols", "lines", "mix"]),
    default="layers",
    show_default=True,
    help="What the table shows; --json has all.",
)
RUN_KEYS = (
    *("metric", "accuracy", "max_samples", "toolchain", "profile", "engine", "checks"),
    *("cycles_model", "what_if", "speedscope"),
)
tune_options = stacked(
    click.option(
        "--formats",
        default="int8,int4,int3,int2",
        show_default=True,
        metavar="LIST",
        help="Weights to choose from; a scheme follows a colon, like int4:vsq16.",
    ),
    click.option(
        "--accuracy-drop",
        type=click.FloatRange(0, 100),
        metavar="PERCENT",
        help="Calibration samples that may change their class. [default: 1, or what budgets leave]",
    ),
    click.option(
        "--measure",
        type=click.Choice(["mse", "kl"]),
        default="mse",
        show_default=True,
        help="Loss of outputs: squared error (before a softmax), or divergence of classes.",
    ),
    click.option(
        "--search",
        type=click.Choice(["milp", "rl"]),
        default="milp",
        show_default=True,
        help="Exact search, or a small actor-critic that proves nothing.",
    ),
    click.option(
        "--points",
        default=25,
        show_default=True,
        type=click.IntRange(1),
        help="Points of the front, for each of five limits of cycles, at most.",
    ),
    click.option(
        "--verify",
        default=5,
        show_default=True,
        type=click.IntRange(1),
        help="Points to build and measure, the recommended one among them.",
    ),
    click.option(
        "--jobs",
        default=1,
        show_default=True,
        type=click.IntRange(1),
        help="Processes that measure.",
    ),
    click.option(
        "--dask", metavar="tcp://HOST:PORT", help="Measure on the workers of a Dask cluster."
    ),
)
