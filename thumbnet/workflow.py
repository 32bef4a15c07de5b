"""The whole chain in one call."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from thumbnet import compiler, project, verify
from thumbnet.compiler import Progress, silent
from thumbnet.options import CompileOptions, RunOptions


def run(
    model: Path,
    compile_options: CompileOptions,
    run_options: RunOptions,
    output: Path | None = None,
    progress: Progress = silent,
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Generates, builds and emulates a model; its warnings and the JSON object of `emulate`.

    The project is kept in `output`, or in a temporary folder that is gone afterwards.
    """
    compiled = compiler.compile_model(model, compile_options, progress)
    with tempfile.TemporaryDirectory(prefix="thumbnet-") as temporary:
        folder = output or Path(temporary) / compiled.plan.graph.name
        project.write(folder, compiled.files)
        found = verify.verify(folder, run_options, compiled.float_graph, progress)
    return compiled.warnings, found
