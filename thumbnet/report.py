"""A project -> one HTML file that shows what there is to know of it, and holds it as JSON."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from codegen import data as data_sets
from codegen import graph_file, importer, pipeline
from codegen.emit import render
from codegen.ir import Graph
from targets.errors import UsageError
from targets.target import load as load_target
from thumbnet import analysis, project, report_charts, report_data, verify
from thumbnet.compiler import Progress, silent
from thumbnet.options import RunOptions
from thumbnet.tables import printable

FLASH = ("weights", "constants", "code")


def make(
    folder: Path,
    options: RunOptions | None = None,
    model: Path | None = None,
    progress: Progress = silent,
    float_graph: Graph | None = None,
) -> dict[str, Any]:
    """Measures what is not yet known of a project, and collects the report's data.

    Args:
        folder: a generated project; it is emulated, unless it was and no data is given.
        options: with `data` come accuracy, confusions and errors per layer.
        model: the ONNX file: errors are then measured against it.
        progress: progress bars.
        float_graph: the model in floats where it is at hand; takes the place of `model`.
    """
    options = options or RunOptions()
    if model is not None:
        float_graph = pipeline.run(importer.load(model))
    found = project.read_result(folder)
    if found is None or options.data is not None:
        found = verify.verify(folder, options, float_graph, progress)
    graph = graph_file.load(folder / project.REFERENCE)
    errors = None
    if options.data is not None:
        samples = data_sets.load(options.data, graph.inputs)
        errors = analysis.layer_errors(graph, float_graph, samples)
        found = _with_errors(found, errors)
        project.write_result(folder, found)  # for `compare`
    against = None
    if errors is not None:
        against = analysis.FLOAT_MODEL if float_graph else analysis.ROUNDING_ALONE
    return report_data.collect(found, load_target(found["target"]), graph, errors, against)


def _with_errors(found: dict[str, Any], errors: Mapping[str, Any]) -> dict[str, Any]:
    layers = [
        layer | {"sqnr_db": errors.get(layer["output"], {}).get("sqnr_db")}
        for layer in found["layers"]
    ]
    return found | {"layers": layers}


def page(data: Mapping[str, Any]) -> str:
    """The report as HTML: no request leaves it, and its own policy forbids any."""
    style = render("report/style.css.j2")
    script = render("report/script.js.j2")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    kernels = report_charts.kernels(data["layers"])
    return render(
        "report/page.html.j2",
        data=data,
        title=f"{data['model']} on {data['target']}",
        style=style,
        script=script,
        csp=policy,
        show=lambda path, kind: shown(lookup(data, path), kind, data),
        charts=_charts(data),
        kernels=[(colour, name) for name, colour in kernels.items()],
    )


def write(path: Path, data: Mapping[str, Any]) -> None:
    """Writes the page whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as stream:
            stream.write(page(data))
        os.replace(stream.name, path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def lookup(data: Mapping[str, Any], path: str) -> Any:
    """The value at a path like "layers.3.cycles"."""
    value: Any = data
    for step in path.split("."):
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


def shown(value: Any, kind: str, data: Mapping[str, Any]) -> str:
    """A value as the page spells it; an unknown one is a dash."""
    if kind == "raw":
        return "" if value is None else str(value)
    if value is None:
        return "–"
    if kind == "score":
        kind = "percent" if data["accuracy"]["metric"] == "top1" else "number"
    return FORMATS[kind](value)


FORMATS: Mapping[str, Callable[[Any], str]] = {
    "text": lambda value: printable(str(value)),
    "count": lambda value: f"{value:,}",
    "bytes": lambda value: f"{value:,} B",
    "ms": lambda value: f"{value:.3f} ms",
    "plain_ms": lambda value: f"{value:.3f}",
    "share": lambda value: f"{value:.1%}",
    "fine_share": lambda value: f"{value:.3%}",
    "percent": lambda value: f"{value:.2%}",
    "db": lambda value: f"{value:.1f}",
    "number": lambda value: f"{value:.4g}",
    "mhz": lambda value: f"{value / 1e6:g} MHz",
    "shape": lambda value: "x".join(map(str, value)),
}


def _digest(text: str) -> str:
    """How a content security policy names an inline element."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _charts(data: Mapping[str, Any]) -> dict[str, Any]:
    layers = data["layers"]
    measure = "macs" if data["cycles"] is None else "cycles"
    most = max((layer["share"] or 0 for layer in layers), default=0)
    errors = [layer["error"] or {} for layer in layers]
    best = max((error.get("sqnr_db") or 0 for error in errors), default=0)
    accuracy = data["accuracy"] or {}
    return {
        "flash": report_charts.flash(data["flash"]),
        "flash_names": FLASH,
        "flash_legend": list(enumerate(FLASH)),
        "strip": report_charts.strip(layers, measure),
        "strip_of": measure,
        "bars": [report_charts.bar(layer["share"], most) for layer in layers],
        "memory": report_charts.memory(data),
        "sqnr": [report_charts.bar(error.get("sqnr_db"), best) for error in errors],
        "histograms": [
            report_charts.histogram(error["histogram"]) if error else () for error in errors
        ],
        "shades": report_charts.shades(accuracy.get("confusion") or []),
        "why": [_why(layer, data["optimize"] or "balanced") for layer in layers],
    }


def _why(layer: Mapping[str, Any], objective: str) -> str:
    """One sentence on why a kernel runs a layer."""
    candidates = layer["candidates"]
    if len(candidates) == 1:
        return "the only kernel for it"
    chosen = next(one for one in candidates if one["chosen"])
    if chosen is candidates[0]:
        times = candidates[1]["cycles"] / max(chosen["cycles"], 1)
        return (
            f"fastest of {len(candidates)}; the next, {candidates[1]['kernel']}, takes {times:.2f}x"
        )
    faster = candidates[0]["kernel"]
    return f"chosen for '{objective}' or by a recipe; {faster} would be faster"
