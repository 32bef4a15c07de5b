"""A built firmware -> the bound on the stack of an inference, for the outputs of several commands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emulator import stack_bound
from emulator.stack_bound import Unbounded

# The interface that runs a model: whole, by step, and by row.
_RUNS = ("run", "run_step", "begin", "push_row", "finish")


def bound_of(elf: Path, model: str) -> int | None:
    """Bytes of stack that no inference of a model exceeds; None where none could be proved."""
    found = describe(elf, model)
    return found["bound"] if found else None


def describe(elf: Path, *models: str) -> dict[str, Any] | None:
    """The bound of an inference of any of the models, and the calls that reach it.

    Returns:
        `bound` in bytes, and `path`: functions with the bytes that each has in use there, outermost first.
    """
    functions = [f"{model}_{name}" for model in models for name in _RUNS]
    try:
        found = stack_bound.bound(elf, functions)
    except Unbounded:
        return None
    if not found.path:
        return None
    path = [{"function": name, "bytes": size} for name, size in found.path]
    return {"bound": found.bytes, "path": path}


def models_of(manifest: Mapping[str, Any]) -> list[str]:
    """The C names of a project's models: one, or those that are linked."""
    linked = manifest.get("models")
    return [str(model["model"]) for model in linked] if linked else [str(manifest["model"])]
