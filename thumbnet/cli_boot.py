"""The verb `boot`: any firmware image on an emulated board."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import rich_click as click

from thumbnet.cli import command


@command("boot")
@click.argument("image", type=click.Path(path_type=Path))
@click.option("-t", "--target", required=True, help="A board whose peripherals are known.")
@click.option(
    "--uart",
    default="-",
    show_default=True,
    metavar="pty|tcp:PORT|-",
    help="Where the board's console goes: a pseudo-terminal, a TCP port, this terminal.",
)
@click.option("--cycles", type=click.IntRange(1), help="Modelled cycles to run at most.")
def boot(
    image: Path, target: str, uart: str, cycles: int | None, as_json: bool, quiet: bool
) -> None:
    """Run any firmware image (ELF or raw binary) on an emulated board, from reset on."""
    from thumbnet import booting

    found = booting.boot(image, target, uart, cycles, silent=as_json)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(found["semihosting"], nl=False)
    if not (as_json or quiet):
        seconds = found["seconds"]
        text = f"{found['stop']} after {found['cycles']:,} cycles ({seconds:.3f} s on the board)"
        click.echo(text, err=True)
    if found["exit_code"]:
        sys.exit(1)
