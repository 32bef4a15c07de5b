"""The command line: parse options, call, print. One function per verb; heavy modules load when needed."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import rich_click as click

from codegen import __version__
from targets.errors import Mismatch, ThumbnetError, UsageError
from thumbnet.cli_options import (
    RUN_KEYS,
    Command,
    by_option,
    compile_options,
    data_option,
    model_options,
    output_options,
    run_options,
    seed_option,
    toolchain_option,
)

EXIT_INTERRUPTED = 130


def command(name: str) -> Callable[[Command], click.Command]:
    """A verb with the output options, whose ThumbnetErrors become clean messages and exit codes."""

    def decorate(function: Command) -> click.Command:
        @functools.wraps(function)
        def wrapped(as_json: bool, quiet: bool, debug: bool, **arguments: Any) -> None:
            try:
                function(as_json=as_json, quiet=quiet, **arguments)
            except ThumbnetError as error:
                if debug:
                    raise
                _fail(error, as_json)
            except KeyboardInterrupt:
                click.echo("interrupted", err=True)
                sys.exit(EXIT_INTERRUPTED)

        decorated: click.Command = cli.command(name)(output_options(wrapped))
        return decorated

    return decorate


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="thumbnet")
def cli() -> None:
    """ONNX in, verified firmware for Arm Cortex-M out."""


@command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@model_options
def inspect(
    model: Path, shapes: tuple[str, ...], simplify: bool, as_json: bool, quiet: bool
) -> None:
    """Show a model's operators, MACs, parameters and shapes, and which boards it fits."""
    from thumbnet import inspection, show

    found = inspection.inspect(model, _shapes(shapes), simplify)
    _print(found, as_json, show.inspection)


@command("generate")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder to write the C project to.",
)
@data_option
@compile_options
@seed_option
def generate(model: Path, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Write the C project of a model (sources only; no compiler needed)."""
    from thumbnet import compiler, project, show

    with show.progress(quiet or as_json) as progress:
        compiled = compiler.compile_model(model, _compile_options(options), progress)
    _warn(compiled.warnings, quiet)
    project.write(output, compiled.files)
    _print(compiled.manifest, as_json, lambda found: show.generated(found, output))


@command("build")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@toolchain_option
def build(folder: Path, toolchain: str, as_json: bool, quiet: bool) -> None:
    """Compile a generated project: arm-none-eabi-gcc if on PATH, else the bundled zig."""
    from thumbnet import project, show, verify

    with show.progress(quiet or as_json) as progress:
        built = verify.build(folder, toolchain, progress)
    manifest = project.read_manifest(folder)
    found = {
        "schema_version": project.SCHEMA_VERSION,
        "model": manifest["model"],
        "target": manifest["target"],
        "toolchain": built.toolchain,
        "elf": str(built.elf),
        "flash": {"code": built.sizes.code, "read_only": built.sizes.constants},
    }
    _print(found, as_json, show.built)


@command("emulate")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@data_option
@run_options
@by_option
@seed_option
def emulate(folder: Path, as_json: bool, quiet: bool, by: str, **options: Any) -> None:
    """Run a project's firmware in the emulator and compare it with the reference, byte for byte."""
    from thumbnet import show, verify
    from thumbnet.options import RunOptions

    with show.progress(quiet or as_json) as progress:
        found = verify.verify(folder, RunOptions(**options), progress=progress)
    _finish(found, as_json, by)


@command("run")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep the C project here. [default: a temporary folder]",
)
@data_option
@compile_options
@run_options
@by_option
@seed_option
def run(
    model: Path,
    output: Path | None,
    as_json: bool,
    quiet: bool,
    by: str,
    seed: int,
    **options: Any,
) -> None:
    """Generate, build and emulate in one go."""
    from thumbnet import show, workflow
    from thumbnet.options import RunOptions

    mine = {key: options.pop(key) for key in RUN_KEYS}
    with show.progress(quiet or as_json) as progress:
        warnings, found = workflow.run(
            model,
            _compile_options(options | {"seed": seed}),
            RunOptions(data=options["data"], seed=seed, **mine),
            output,
            progress,
        )
    _warn(warnings, quiet)
    _finish(found, as_json, by)


@command("boards")
@click.argument("name", required=False)
def boards(name: str | None, as_json: bool, quiet: bool) -> None:
    """List the targets, or show one."""
    from thumbnet import inspection, show

    _print(inspection.boards(name), as_json, show.boards)


@command("ops")
@click.option("--schemes", is_flag=True, help="List the ways to store weights instead.")
def ops(schemes: bool, as_json: bool, quiet: bool) -> None:
    """List the ONNX operators that can be compiled, and the kernels that run them."""
    from thumbnet import inspection, scheme_table, show

    if schemes:
        _print(inspection.schemes(), as_json, scheme_table.show)
        return
    _print(inspection.operators(), as_json, show.operators)


@command("doctor")
def doctor(as_json: bool, quiet: bool) -> None:
    """Check what is installed: compilers, emulator, optional packages."""
    from thumbnet import inspection, show

    found = inspection.doctor()
    _print(found, as_json, show.doctor)
    if not found["ok"]:
        sys.exit(6)


def _compile_options(options: dict[str, Any]) -> Any:
    from thumbnet.options import Budget, CompileOptions

    chosen = dict(options)
    limits = {key: _size(key, chosen.pop(key)) for key in ("sram", "flash", "cycles")}
    return CompileOptions(**chosen | {"shapes": _shapes(chosen["shapes"])}, budget=Budget(**limits))


def _size(option: str, text: str | None) -> int | None:
    """64K, 1M, 20000: K and M are 1024 based for bytes, 1000 based for cycles."""
    if text is None:
        return None
    unit = 1000 if option == "cycles" else 1024
    factor = {"K": unit, "M": unit**2}.get(text[-1:].upper(), 1)
    digits = text[:-1] if factor > 1 else text
    try:
        return int(float(digits) * factor)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--{option} {text!r} is no number", hint="like 64K or 1.5M") from error


def _shapes(texts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for text in texts:
        name, _, dims = text.rpartition("=")
        try:
            shapes[name] = tuple(int(dim) for dim in dims.replace("x", ",").split(","))
        except ValueError as error:
            raise UsageError(f"--shape {text!r}", hint="like --shape input=1,3,96,96") from error
        if not name:
            raise UsageError(
                f"--shape {text!r} names no input", hint="like --shape input=1,3,96,96"
            )
    return shapes


def _print(found: dict[str, Any], as_json: bool, show: Callable[[dict[str, Any]], None]) -> None:
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show(found)


def _finish(found: dict[str, Any], as_json: bool, by: str) -> None:
    """Prints the result of a check and ends with its exit code."""
    from thumbnet import show

    _print(found, as_json, functools.partial(show.checked, by=by))
    host = found["host"]
    if found["mismatched_bytes"] or (host and host["mismatched_bytes"]):
        sys.exit(Mismatch.exit_code)


def _warn(warnings: tuple[str, ...], quiet: bool) -> None:
    for text in warnings if not quiet else ():
        click.secho(f"warning: {text}", fg="yellow", err=True)


def _fail(error: ThumbnetError, as_json: bool) -> NoReturn:
    if as_json:
        shown = {
            "code": error.exit_code,
            "message": error.message,
            "hint": error.hint,
            "node": error.node,
            **error.details,
        }
        click.echo(json.dumps({"schema_version": 1, "error": shown}, indent=2))
    else:
        click.secho(f"error: {error.message}", fg="red", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
    sys.exit(error.exit_code)


def main() -> None:
    """Entry point of the `thumbnet` script."""
    cli(prog_name="thumbnet")


from thumbnet import cli_boot  # noqa: E402, F401  (a verb of its own module: it needs what is above)
