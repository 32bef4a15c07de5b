"""Recipes: every choice of a compilation as a TOML file that can be diffed, edited and used again."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from codegen.kernel import Layer
from codegen.plan import Plan, Step
from codegen.quant import schemes
from codegen.quant.lower import Format
from codegen.quant.vocabulary import (
    ACTIVATION_GRIDS,
    ACTIVATIONS,
    CLIPS,
    CORRECTIONS,
    GRANULARITIES,
    METHODS,
    ROUNDING_NAMES,
    STEP_SIZES,
    Method,
)
from codegen.quant.weights import Choices
from targets import tables
from targets.errors import UsageError

ROUNDING_KEYS: Mapping[str, tuple[object, ...]] = {
    "activations": ACTIVATIONS,
    "rounding": ROUNDING_NAMES,
    "clip": CLIPS,
    "bias_correction": CORRECTIONS,
    "granularity": GRANULARITIES,
    "scales": STEP_SIZES,
    "activation_grid": ACTIVATION_GRIDS,
    "equalize": (True, False),
}
KEYS = ("calibration", *ROUNDING_KEYS, "force", "chains", "layers")
LAYER_KEYS = ("kernel", "weights", "scheme")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Choices that override the compiler's own.

    Attributes:
        calibration: how values become ranges.
        kernels: kernel variant by layer name.
        chains: names of the layers of every chain; None = the compiler decides.
        weights: how flash holds weights, by layer name.
        rounding: how weights become integers.
        force: whether weights are rounded even to what is of little use without training.
    """

    calibration: Method | None = None
    kernels: Mapping[str, str] = field(default_factory=dict)
    chains: tuple[tuple[str, ...], ...] | None = None
    weights: Mapping[str, Format] = field(default_factory=dict)
    rounding: Choices = field(default_factory=Choices)
    force: bool = False


def load(path: Path) -> Recipe:
    """The recipe in a TOML file.

    Raises:
        UsageError: no such file, no TOML, or a key or value that is not known; names it.
    """
    try:
        found = tables.parse(path)
    except OSError as error:
        raise UsageError(f"recipe {path}: {error.strerror or error}") from error
    except ValueError as error:
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
    return Recipe(
        method,
        kernels,
        _chains(path, found.get("chains")),
        weights,
        _rounding(path, found),
        _force(path, found.get("force", False)),
    )


def _rounding(path: Path, found: Mapping[str, Any]) -> Choices:
    """How weights and activations become integers, checked."""
    for key, names in ROUNDING_KEYS.items():
        if key in found and found[key] not in names:
            known = ", ".join(json.dumps(name).strip('"') for name in names)
            raise UsageError(f"recipe {path}: {key} {found[key]!r}; known: {known}")
    return Choices(**{key: found[key] for key in ROUNDING_KEYS if key in found})


def _force(path: Path, found: object) -> bool:
    if not isinstance(found, bool):
        raise UsageError(f"recipe {path}: force must be true or false")
    return found


def _format(path: Path, layer: str, choice: Mapping[str, Any]) -> Format:
    """A layer's weights, checked."""
    chosen = Format(*(None if choice.get(k) is None else str(choice[k]) for k in LAYER_KEYS[1:]))
    try:
        schemes.find(chosen.weights, chosen.scheme)
    except UsageError as error:
        message = f"recipe {path}: layer {layer!r}: {error.message}"
        raise UsageError(message, hint=error.hint) from error
    return chosen


def _chains(path: Path, found: object) -> tuple[tuple[str, ...], ...] | None:
    if found is None:
        return None
    chains: list[Any] = found if isinstance(found, list) else [found]
    for chain in chains:
        if not isinstance(chain, list) or not all(isinstance(name, str) for name in chain):
            raise UsageError(
                f"recipe {path}: chains must be lists of layers' names",
                hint='chains = [["a", "b"]]',
            )
    return tuple(tuple(chain) for chain in chains)


def dump(
    plan: Plan, method: Method | None, rounding: Choices | None = None, force: bool = False
) -> str:
    """A plan's choices as TOML."""
    lines = ["# Choices of this build. Edit and pass with --recipe to make them yours."]
    if method:
        lines.append(f'calibration = "{method}"')
    chosen = asdict(rounding or Choices())
    lines += [f"{key} = {json.dumps(v)}" for key, v in chosen.items() if v is not None]
    lines += ["force = true"] if force else []
    chains = [step.chain for step in plan.steps if step.chain is not None]
    if chains:
        lines += [
            "# Layers that run pixel by pixel, with rings of pixels between them.",
            "chains = [",
        ]
        for chain in chains:
            lines.append(f"    [{', '.join(_key(stage.link.name) for stage in chain.stages)}],")
        lines.append("]")
    for step in plan.steps:
        for name, kernel, storage in _kernels(step):
            lines += ["", f"[layers.{_key(name)}]", *storage, f'kernel = "{kernel}"']
    return "\n".join(lines) + "\n"


def of_layers(
    formats: Mapping[str, Format], kernels: Mapping[str, str], force: bool, comment: str = ""
) -> str:
    """Formats and kernels by layer as TOML; `force` where some are of little use without training."""
    lines = [f"# {comment}"] if comment else []
    lines += ["force = true"] if force else []
    for name in {**kernels, **formats}:
        lines += ["", f"[layers.{_key(name)}]"]
        lines += [f'kernel = "{kernels[name]}"'] if name in kernels else []
        chosen = formats.get(name, Format())
        for key, value in (("weights", chosen.weights), ("scheme", chosen.scheme)):
            lines += [f'{key} = "{value}"'] if value else []
    return "\n".join(lines) + "\n"


def _kernels(step: Step) -> Iterator[tuple[str, str, list[str]]]:
    """Name, kernel, and lines for the weights, of every layer whose kernel can be chosen."""
    if step.chain is None:
        yield step.name, step.kernel.name, _stored(step.layer, step.weight_bytes > 0)
        return
    for stage in step.chain.stages:
        if not stage.link.pixel.collects:
            constants = (c for i in stage.instances for c in i.constants)
            weighted = any(c.weight_bytes for c in constants)
            yield stage.link.name, stage.kernels[0].name, _stored(stage.link.pixel.layer, weighted)


def _stored(layer: Layer, weighted: bool) -> list[str]:
    """How flash holds a layer's weights."""
    if not weighted or layer.node.op.kind == "binary_conv2d":  # one bit, as the model was trained
        return []
    storage = layer.inputs[1].storage
    if storage is None or storage.is_bytes:
        return ['weights = "int8"']
    return [f'weights = "{storage.weights}"', f'scheme = "{storage.scheme}"']


def _key(name: str) -> str:
    """A layer's name as a quoted TOML key."""
    return json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007F")


def _check_keys(path: Path, found: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in found:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise UsageError(f"recipe {path}: unknown key {key!r}", hint=hint)
