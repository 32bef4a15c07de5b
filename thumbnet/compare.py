"""Two builds of a model -> what moved, per layer and in total, and whether a limit is exceeded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from targets import tables as names
from targets.errors import UsageError
from thumbnet import project

Found = Mapping[str, Any]
Number = int | float
TOTALS = ("cycles", "instructions", "latency_ms", "sram", "flash", "accuracy")
LAYERED = ("cycles", "instructions", "sram", "flash", "sqnr_db")
_UNITS = {"": 1.0, "k": 1024.0, "M": 1024.0**2}
_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6}
BYTES = ("sram", "flash")


@dataclass(frozen=True, slots=True)
class Limit:
    """How far a metric may move: `cycles+2%`, `flash+1k`, `accuracy-0.5%`.

    Attributes:
        text: as the user wrote it.
        metric: one of TOTALS.
        sign: +1 limits growth, -1 limits loss.
        amount: in units of the metric, or a share of the first build's value.
        relative: whether it is a share.
    """

    text: str
    metric: str
    sign: Literal[1, -1]
    amount: float
    relative: bool

    def exceeded(self, change: Found) -> bool:
        """Whether a change goes further than allowed."""
        moved = self.sign * change["delta"]
        allowed = abs(change["a"]) * self.amount if self.relative else self.amount
        return bool(moved > allowed)


def limits(text: str) -> tuple[Limit, ...]:
    """The limits in the text of --fail-on, separated by commas.

    Raises:
        UsageError: a limit that cannot be read; the hint shows one that can.
    """
    return tuple(_limit(part.strip()) for part in text.split(",") if part.strip())


def _limit(text: str) -> Limit:
    found = re.fullmatch(r"([a-z_]+)\s*([+-])\s*(\d+(?:\.\d+)?)\s*(%|[kKM]?)", text)
    if found is None:
        raise UsageError(f"--fail-on {text!r}", hint="like cycles+2%, flash+1k or accuracy-0.5%")
    metric, sign, amount, unit = found.groups()
    if metric not in TOTALS:
        hint = names.closest(metric, TOTALS)
        raise UsageError(f"--fail-on {text!r}: unknown metric {metric!r}", hint=hint)
    units = _UNITS if metric in BYTES else _DECIMAL
    factor = 0.01 if unit == "%" else units[unit.replace("K", "k")]
    return Limit(text, metric, 1 if sign == "+" else -1, float(amount) * factor, unit == "%")


def load(path: Path) -> dict[str, Any]:
    """What is known of a build: its last emulation, else its manifest.

    Args:
        path: a project's folder, or a file with the JSON of `generate`, `emulate` or `run`.

    Raises:
        UsageError: neither of these; the text says what is wrong.
    """
    if path.is_dir():
        return project.read_result(path) or project.read_manifest(path)
    try:
        found = project.read_json(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is neither a project nor JSON ({error})") from error
    if not isinstance(found, dict) or not isinstance(found.get("layers"), list):
        raise UsageError(
            f"{path} holds no build", hint="write one with: thumbnet run MODEL --json > FILE"
        )
    if found.get("schema_version") != project.SCHEMA_VERSION:
        raise UsageError(f"{path}: written by another version", hint="write it again")
    return found


def compare(a: Found, b: Found, allowed: Sequence[Limit] = ()) -> dict[str, Any]:
    """The JSON object of `thumbnet compare`: what B has more or less than A.

    Raises:
        UsageError: a limit is on a figure that a build does not have.
    """
    measured = all("total" in found["flash"] for found in (a, b))
    totals = {n: _change(_total(a, n, measured), _total(b, n, measured)) for n in TOTALS}
    layers = list(_layers(a["layers"], b["layers"]))
    checked = [_checked(limit, totals, layers) for limit in allowed]
    return {
        "schema_version": project.SCHEMA_VERSION,
        "a": _identity(a),
        "b": _identity(b),
        "notes": list(_notes(a, b)),
        "totals": totals,
        "layers": layers,
        "limits": checked,
        "passed": not any(limit["exceeded"] for limit in checked),
    }


def _identity(found: Found) -> dict[str, Any]:
    keys = ("model", "model_sha256", "target", "toolchain", "build_id")
    return {key: found.get(key) for key in keys}


def _notes(a: Found, b: Found) -> Iterable[str]:
    """What makes two builds hard to compare."""
    for key, text in (
        ("target", "targets"),
        ("toolchain", "compilers"),
        ("cycles_model", "cycle models"),
    ):
        one, other = a.get(key), b.get(key)
        if one and other and one != other:
            yield f"different {text}: {one} and {other}"


def _total(found: Found, metric: str, measured: bool) -> Number | None:
    """A figure of a whole build; sizes without code and stack unless both builds were measured."""
    value: Any = found.get(metric)
    if metric == "sram":
        value = found["sram"]["total" if measured else "total_static"]
    elif metric == "flash":
        flash = found["flash"]
        value = flash["total"] if measured else flash["weights"] + flash["constants"]
    elif metric == "accuracy":
        value = (found.get("accuracy") or {}).get("device")
    return value if isinstance(value, int | float) else None


def _layer_change(one: Found | None, other: Found | None, metric: str) -> dict[str, Any] | None:
    """A layer that a build does not have takes nothing there."""
    present = other if one is None else one
    if present is None or _of_layer(present, metric) is None:
        return None
    sides = [0 if layer is None else _of_layer(layer, metric) for layer in (one, other)]
    return _change(*sides)


def _of_layer(layer: Found, metric: str) -> Number | None:
    if metric == "sram":
        return int(layer["arena_bytes"]) + int(layer["scratch"])
    if metric == "flash":
        return int(layer["weight_bytes"]) + int(layer.get("constant_bytes", 0))
    value = layer.get(metric)
    return value if isinstance(value, int | float) else None


def _change(a: Number | None, b: Number | None) -> dict[str, Any] | None:
    """A figure in both builds, and what it moved by; None where both lack it."""
    if a is None and b is None:
        return None
    delta = None if a is None or b is None else b - a
    return {
        "a": a,
        "b": b,
        "delta": delta,
        "relative": delta / a if a and delta is not None else None,
    }


def _layers(before: Sequence[Found], after: Sequence[Found]) -> Iterable[dict[str, Any]]:
    """Layers of both builds by name, in the order of the second; those that are gone come last."""
    old = {layer["name"]: layer for layer in before}
    new = {layer["name"]: layer for layer in after}
    for name in (*new, *(name for name in old if name not in new)):
        one, other = old.get(name), new.get(name)
        changes = {metric: _layer_change(one, other, metric) for metric in LAYERED}
        kernels = {"a": one["kernel"] if one else None, "b": other["kernel"] if other else None}
        yield {
            "name": name,
            "status": _status(one, other, changes, kernels),
            "kernel": kernels,
            **changes,
        }


def _status(
    one: Found | None,
    other: Found | None,
    changes: Mapping[str, Found | None],
    kernels: Mapping[str, str | None],
) -> str:
    if one is None:
        return "added"
    if other is None:
        return "removed"
    moved = any(change and change["delta"] for change in changes.values())
    return "changed" if moved or kernels["a"] != kernels["b"] else "same"


def _checked(
    limit: Limit, totals: Mapping[str, Found | None], layers: Sequence[Found]
) -> dict[str, Any]:
    change = totals[limit.metric]
    if change is None or change["delta"] is None:
        raise UsageError(
            f"--fail-on {limit.text}: a build has no {limit.metric}",
            hint="measure it first: thumbnet emulate DIR (accuracy needs --data)",
        )
    exceeded = limit.exceeded(change)
    return {
        "limit": limit.text,
        "metric": limit.metric,
        **change,
        "exceeded": exceeded,
        "layer": _most_moved(limit, layers) if exceeded else None,
    }


def _most_moved(limit: Limit, layers: Sequence[Found]) -> dict[str, Any] | None:
    """The layer that moved the metric most in the wrong direction."""
    metric = "cycles" if limit.metric == "latency_ms" else limit.metric
    known = [
        layer
        for layer in layers
        if metric in LAYERED and layer[metric] and layer[metric]["delta"] is not None
    ]
    most = max(known, key=lambda layer: limit.sign * layer[metric]["delta"], default=None)
    if most is None or limit.sign * most[metric]["delta"] <= 0:
        return None
    return {"name": most["name"], "status": most["status"], "metric": metric, **most[metric]}
