"""The verbs on finished builds: `link`, `compare`, `export`, `report`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import rich_click as click

from targets.errors import ThumbnetError
from thumbnet.cli import command, print_result
from thumbnet.cli_options import data_option, format_option, toolchain_option


@command("link")
@click.argument(
    "folders", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="DIR..."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="OUT",
    help="Folder to write the project to.",
)
@click.option("-t", "--target", help="Its board. [default: that of all projects]")
def link(
    folders: tuple[Path, ...], output: Path, target: str | None, as_json: bool, quiet: bool
) -> None:
    """Make one firmware of several projects: equal kernels once, one arena for all models."""
    from thumbnet import linking, show_linked

    found = linking.link_projects(folders, output, target)
    print_result(found, as_json, lambda found: show_linked.linked(found, output))


@command("compare")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--fail-on",
    default="",
    metavar="LIMITS",
    help="End with code 1 beyond these, like 'cycles+2%,flash+1k,accuracy-0.5%'.",
)
@format_option
def compare(a: Path, b: Path, fail_on: str, layout: str, as_json: bool, quiet: bool) -> None:
    """Compare two builds (folders, or JSON of `run`): cycles, memory, accuracy, per layer."""
    from thumbnet import compare as comparing
    from thumbnet import show_compare

    allowed = comparing.limits(fail_on)
    found = comparing.compare(comparing.load(a), comparing.load(b), allowed)
    if as_json or layout == "json":
        click.echo(json.dumps(found, indent=2))
    elif layout == "table":
        show_compare.compared(found)
    else:
        text = show_compare.markdown(found) if layout == "md" else show_compare.as_csv(found)
        click.echo(text, nl=False)
    for line in show_compare.verdicts(found):
        click.echo(line, err=True)
    if not found["passed"]:
        sys.exit(ThumbnetError.exit_code)


@command("export")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--as",
    "kind",
    required=True,
    type=click.Choice(
        ("cmake", "make", "arduino", "platformio", "zephyr", "cmsis-pack", "model-explorer")
    ),
    help="What to make of the project.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="OUT",
    help="Folder to write.",
)
@click.option("--package-version", "version", default="1.0.0", show_default=True, metavar="X.Y.Z")
@click.option("--author", default="unknown", show_default=True, help="Who publishes the package.")
@click.option("--url", default="https://example.com/", show_default=True, help="Its home page.")
@click.option("--vendor", default="thumbnet", show_default=True, help="Vendor of a CMSIS-Pack.")
def export(
    folder: Path, kind: str, output: Path, as_json: bool, quiet: bool, **publisher: str
) -> None:
    """Write a project as a package for other build systems, or as data for Model Explorer."""
    from codegen.packages import Publisher
    from thumbnet import packaging

    found = packaging.export(folder, kind, output, Publisher(**publisher))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        more = f" - next: {output}/README.md" if "README.md" in found["files"] else ""
        click.echo(f"wrote {output}/ ({len(found['files'])} files){more}")


@command("report")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@data_option
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="MODEL.onnx",
    help="Measure the errors of layers against this, the model before quantization.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="File to write. [default: DIR/report.html]",
)
@click.option("--max-samples", default=20, show_default=True, type=click.IntRange(1))
@toolchain_option
def report(
    folder: Path,
    model: Path | None,
    output: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Write one self-contained HTML page about a project; --json prints its data instead."""
    from thumbnet import report as reports
    from thumbnet import show
    from thumbnet.options import RunOptions

    with show.progress(quiet or as_json) as progress:
        data = reports.make(folder, RunOptions(**options), model, progress)
    if as_json:
        click.echo(json.dumps(data, indent=2))
        return
    path = output or folder / "report.html"
    reports.write(path, data)
    click.echo(f"wrote {path} ({path.stat().st_size // 1024} KiB)")
