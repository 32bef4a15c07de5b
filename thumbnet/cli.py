"""The command line: parse options, call, print. One function per verb; heavy modules load when needed."""

from __future__ import annotations

import functools
import json
import signal
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
    format_option,
    model_options,
    models_data_option,
    output_options,
    run_options,
    seed_option,
    serve_option,
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
@click.option(
    "--calib", metavar="FILE[:KEY]", help="Calibration data: shows what int8 loses in every layer."
)
@format_option
def inspect(
    model: Path,
    calib: str | None,
    shapes: tuple[str, ...],
    simplify: bool,
    layout: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show a model's operators, MACs, parameters and shapes, and which boards it fits."""
    from thumbnet import inspection, show

    found = inspection.inspect(model, read_shapes(shapes), simplify, calib)
    print_result(found, as_json, show.inspection, layout)


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
        compiled = compiler.compile_model(model, chosen_options(options), progress)
    warn(compiled.warnings, quiet)
    project.write(output, compiled.files)
    print_result(compiled.manifest, as_json, lambda found: show.generated(found, output))


@command("emulate")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@models_data_option
@run_options
@by_option
@format_option
@seed_option
@serve_option
def emulate(
    folder: Path,
    data: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    by: str,
    layout: str,
    serve: str | None,
    **options: Any,
) -> None:
    """Run a project's firmware in the emulator and compare it with the reference, byte for byte."""
    from thumbnet import linked, project, serving, show, show_linked, verify
    from thumbnet.options import RunOptions

    if serve:
        # Ended like by Ctrl-C: QEMU must not stay behind.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        found = serving.serve(folder, serve, RunOptions(data=data[0] if data else None, **options))
        print_result(found, as_json, lambda found: None)
        return
    with show.progress(quiet or as_json) as progress:
        if project.is_linked(project.read_any(folder)):
            found = linked.check(folder, RunOptions(**options), data, progress)
            shown = functools.partial(show_linked.checked, by=by)
            _finish(found, as_json, shown, layout, "models")
            return
        if len(data) > 1:
            raise UsageError(
                "--data is given twice", hint="only linked projects have several models"
            )
        chosen = RunOptions(data=data[0] if data else None, **options)
        found = verify.verify(folder, chosen, progress=progress)
    _finish(found, as_json, functools.partial(show.checked, by=by), layout)


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
@format_option
@seed_option
def run(
    model: Path,
    output: Path | None,
    as_json: bool,
    quiet: bool,
    by: str,
    layout: str,
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
            chosen_options(options | {"seed": seed}),
            RunOptions(data=options["data"], seed=seed, **mine),
            output,
            progress,
        )
    warn(warnings, quiet)
    _finish(found, as_json, functools.partial(show.checked, by=by), layout)


@command("ops")
@click.option("--schemes", is_flag=True, help="List the ways to store weights instead.")
@format_option
def ops(schemes: bool, layout: str, as_json: bool, quiet: bool) -> None:
    """List the ONNX operators that can be compiled, and the kernels that run them."""
    from thumbnet import inspection, scheme_table, show

    if schemes:
        print_result(inspection.schemes(), as_json, scheme_table.show, layout, "schemes")
        return
    print_result(inspection.operators(), as_json, show.operators, layout, "operators")


def chosen_options(options: dict[str, Any]) -> Any:
    """`CompileOptions` of what the command line gave."""
    from codegen.select import Budget
    from thumbnet.options import CompileOptions

    chosen = dict(options)
    budget = Budget(
        sram=_size("sram", chosen.pop("sram")),
        flash=_size("flash", chosen.pop("flash")),
        cycles=_size("cycles", chosen.pop("cycles")),
    )
    read = {"shapes": read_shapes(chosen["shapes"]), "states": _states(chosen["states"])}
    return CompileOptions(**chosen | read, budget=budget)


def _states(texts: tuple[str, ...]) -> dict[str, str]:
    """The inputs and outputs that --state gives."""
    pairs = [text.partition("=") for text in texts]
    if not all(before and after for before, _, after in pairs):
        raise UsageError("--state takes INPUT=OUTPUT", hint="like --state h0=hn")
    return {before: after for before, _, after in pairs}


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


def read_shapes(texts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of inputs that --shape gives, by name."""
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


def print_result(
    found: dict[str, Any],
    as_json: bool,
    show: Callable[[dict[str, Any]], None],
    layout: str = "table",
    view: str = "layers",
) -> None:
    """Prints a result: for people, as JSON, or one of its tables (of `views`) as Markdown or CSV."""
    from thumbnet import tables, views

    if as_json or layout == "json":
        click.echo(json.dumps(found, indent=2))
    elif layout == "md":
        click.echo(tables.markdown(getattr(views, view)(found)), nl=False)
    elif layout == "csv":
        plain = {"bars": False} if view == "layers" else {}
        click.echo(tables.as_csv(getattr(views, view)(found, **plain)), nl=False)
    else:
        show(found)


def _finish(
    found: dict[str, Any],
    as_json: bool,
    show: Callable[[dict[str, Any]], None],
    layout: str,
    view: str = "layers",
) -> None:
    """Prints the result of a check and ends with its exit code."""
    print_result(found, as_json, show, layout, view)
    finish(found)


def finish(found: dict[str, Any]) -> None:
    """Ends with the exit code of a comparison."""
    host = found["host"]
    if found["mismatched_bytes"] or (host and host["mismatched_bytes"]):
        sys.exit(Mismatch.exit_code)


def warn(warnings: tuple[str, ...], quiet: bool) -> None:
    """Prints warnings, unless the user wants none."""
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


# Verbs of their own modules, which need what is above.
from thumbnet import cli_boot, cli_desk, cli_link, cli_tools, cli_train, cli_tune  # noqa: E402, F401
