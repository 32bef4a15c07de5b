"""The verbs around a desk with boards on it: `build`, `flash`, `boards`, `doctor`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import rich_click as click

from targets.errors import ToolMissing, UsageError
from thumbnet.cli import command, print_result
from thumbnet.cli_options import format_option, toolchain_option


@command("build")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@toolchain_option
@click.option(
    "--format",
    "formats",
    default="elf",
    show_default=True,
    metavar="elf,hex,bin,uf2",
    help="What to write beside the ELF file.",
)
def build(folder: Path, toolchain: str, formats: str, as_json: bool, quiet: bool) -> None:
    """Compile a generated project: arm-none-eabi-gcc if on PATH, else the bundled zig."""
    from targets import images, load
    from thumbnet import project, show, stack, verify

    wanted = tuple(dict.fromkeys(formats.split(",")))
    for form in wanted:
        if form not in images.FORMATS:
            hint = "known: " + ", ".join(images.FORMATS)
            raise UsageError(f"unknown format '{form}'", hint=hint)
    with show.progress(quiet or as_json) as progress:
        built = verify.build(folder, toolchain, progress)
    manifest = project.read_any(folder)
    target = load(manifest["target"])
    paths = {form: str(images.convert(built.elf, form, target)) for form in wanted}
    found = {
        "schema_version": project.SCHEMA_VERSION,
        "model": manifest["model"],
        "target": manifest["target"],
        "toolchain": built.toolchain,
        "elf": str(built.elf),
        "images": paths,
        "flash": {"code": built.sizes.code, "read_only": built.sizes.constants},
        "stack": stack.describe(built.elf, *stack.models_of(manifest)),
    }
    print_result(found, as_json, show.built)


@command("flash")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--port", default="", help="Serial port of the board, or folder of its drive.")
@click.option("--probe", default="", metavar="SERIAL", help="Serial number of the debug probe.")
@click.option("--method", default="", help="How to write. [default: the first that works here]")
@click.option("--dry-run", is_flag=True, help="Print the command; write nothing.")
@toolchain_option
def flash(folder: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Build a project's firmware and write it to its board."""
    from thumbnet import flashing, show, show_desk

    with show.progress(quiet or as_json) as progress:
        found = flashing.flash(
            folder, flashing.FlashOptions(**options), flashing.confirm_over_link, progress
        )
    print_result(found, as_json, show_desk.flashed)


@command("boards")
@click.argument("name", required=False)
@format_option
def boards(name: str | None, layout: str, as_json: bool, quiet: bool) -> None:
    """List the targets, or show one."""
    from thumbnet import inspection, show_desk

    print_result(inspection.boards(name), as_json, show_desk.boards, layout, "boards")


@command("doctor")
def doctor(as_json: bool, quiet: bool) -> None:
    """Check what is installed and attached, and say how to get what is missing."""
    from thumbnet import doctor, show_desk

    found = doctor.doctor()
    print_result(found, as_json, show_desk.doctor)
    if not found["ok"]:
        sys.exit(ToolMissing.exit_code)
