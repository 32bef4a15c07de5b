"""The verb `tune`: weights of mixed precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from thumbnet.cli import chosen_options, command, print_result, warn
from thumbnet.cli_options import (
    compile_options,
    data_option,
    format_option,
    metric_option,
    seed_option,
    toolchain_option,
    tune_options,
)

SEARCH_KEYS = ("accuracy_drop", "measure", "search", "points", "verify", "jobs", "dask")


@command("tune")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder for recipe.toml, the front and its picture.",
)
@data_option
@tune_options
@compile_options
@metric_option
@toolchain_option
@format_option
@seed_option
def tune(
    model: Path,
    output: Path,
    formats: str,
    metric: str | None,
    toolchain: Any,
    layout: str,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Choose each layer's weights: the Pareto front of loss, flash and cycles, and a recipe."""
    from thumbnet import show, show_tune, tuning
    from thumbnet.options import RunOptions, TuneOptions

    searching = {key: options.pop(key) for key in SEARCH_KEYS}
    wishes = TuneOptions(formats=tuple(formats.replace(" ", "").split(",")), **searching)
    running = RunOptions(
        data=options["data"],
        metric=metric,
        toolchain=toolchain,
        max_samples=2,
        seed=options["seed"],
    )
    with show.progress(quiet or as_json) as progress:
        found = tuning.tune(model, chosen_options(options), running, wishes, output, progress)
    warn(tuple(found["warnings"]), quiet)
    print_result(found, as_json, lambda found: show_tune.tuned(found, output), layout, "front")
