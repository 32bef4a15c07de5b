"""Recipes: every choice of a compilation as a TOML file that can be diffed, edited and used again."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from codegen.plan import Plan
from codegen.quant import schemes
from codegen.quant.calibrate import METHODS, Method
from codegen.quant.lower import Format
from targets.errors import UsageError

KEYS = ("calibration", "layers")
LAYER_KEYS = ("kernel", "weights", "scheme")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Choices that override the compiler's own.

    Attributes:
        calibration: how values become ranges.
        kernels: kernel variant by layer name.
        weights: how flash holds weights, by layer name.
    """

    calibration: Method | None = None
    kernels: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, Format] = field(default_factory=dict)


def load(path: Path) -> Recipe:
    """The recipe in a TOML file.

    Raises:
        UsageError: no such file, no TOML, or a key or value that is not known; names it.
    """
    try:
        found = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"recipe {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {path}: no valid TOML ({error})") from error
    _check_keys(path, found, KEYS)
    method = found.get("calibration")
    if method is not None and method not in METHODS:
        raise UsageError(f"recipe {path}: calibration {method!r}; known: {', '.join(METHODS)}")
    layers = found.get("layers", {})
    if not isinstance(layers, dict):
        raise UsageError(f"recipe {path}: layers must be tables: [layers.NAME]")
    kernels: dict[str, str] = {}
    weights: dict[str, Format] = {}
    for name, choice in layers.items():
        if not isinstance(choice, dict):
            raise UsageError(f"recipe {path}: layers.{name} must be a table")
        _check_keys(path, choice, LAYER_KEYS)
        if "weights" in choice or "scheme" in choice:
            weights[name] = _format(path, name, choice)
        if "kernel" in choice:
            kernels[name] = str(choice["kernel"])
    return Recipe(cast("Method | None", method), kernels, weights)


def _format(path: Path, layer: str, choice: Mapping[str, Any]) -> Format:
    """A layer's weights, checked."""
    chosen = Format(*(None if choice.get(k) is None else str(choice[k]) for k in LAYER_KEYS[1:]))
    try:
        schemes.find(chosen.weights, chosen.scheme)
    except UsageError as error:
        message = f"recipe {path}: layer {layer!r}: {error.message}"
        raise UsageError(message, hint=error.hint) from error
    return chosen


def dump(plan: Plan, method: Literal["minmax", "percentile", "mse"] | None) -> str:
    """A plan's choices as TOML."""
    lines = ["# Choices of this build. Edit and pass with --recipe to make them yours."]
    if method:
        lines.append(f'calibration = "{method}"')
    for step in plan.steps:
        lines += ["", f"[layers.{_key(step.name)}]"]
        if step.weight_bytes:
            storage = step.layer.inputs[1].storage
            lines.append(f'weights = "{storage.weights if storage else "int8"}"')
            lines += [f'scheme = "{storage.scheme}"'] if storage else []
        lines.append(f'kernel = "{step.kernel.name}"')
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    """A layer's name as a quoted TOML key."""
    return json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007F")


def _check_keys(path: Path, found: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in found:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise UsageError(f"recipe {path}: unknown key {key!r}", hint=hint)
