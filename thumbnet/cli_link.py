"""The verb `check`: a project against the board that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from thumbnet.cli import command, finish, print_result
from thumbnet.cli_options import check_options, data_option, seed_option


@command("check")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--port",
    required=True,
    metavar="URL",
    help="The board's serial port: a device, socket://HOST:PORT or rfc2217://HOST:PORT.",
)
@click.option("--baud", type=click.IntRange(300), help="Bits per second. [default: the board's]")
@data_option
@check_options
@seed_option
def check(
    folder: Path, port: str, baud: int | None, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Run a project's samples on a board and compare them with the reference, byte for byte."""
    from thumbnet import checking, show, show_device
    from thumbnet.options import RunOptions

    with show.progress(quiet or as_json) as progress:
        found = checking.check(folder, port, RunOptions(**options), baud, progress)
    print_result(found, as_json, show_device.checked)
    finish(found)
