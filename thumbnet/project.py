"""A generated project on disk: written whole or not at all, read back with clear errors."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from targets import tables
from targets.errors import UsageError
from targets.machine import ModelImage

MANIFEST = "manifest.json"
REFERENCE = "reference.npz"
RESULT = "build/result.json"  # of the last emulation
SCHEMA_VERSION = 1
MAX_JSON = 64 << 20  # bytes; a manifest has some hundred for each layer


def write(folder: Path, files: Mapping[str, bytes], marker: str = MANIFEST) -> None:
    """Writes a project or a package: into a temporary folder beside it, then moved in whole.

    A folder that holds anything but an earlier one of ours, with the file `marker`, is never replaced.
    """
    check_place(folder, marker)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".thumbnet-") as staging:
        fresh = Path(staging) / "new"
        fresh.mkdir()
        for name, content in files.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            (fresh / name).write_bytes(content)
        if folder.exists():
            os.replace(folder, Path(staging) / "old")
        os.replace(fresh, folder)


def check_place(folder: Path, marker: str = MANIFEST) -> None:
    """Refuses a folder that `write` must not replace; long work asks before it starts."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", hint="choose another folder with -o")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / marker).is_file():
        kind = "project" if marker == MANIFEST else "package"
        raise UsageError(
            f"{folder} is not empty and is no thumbnet {kind}",
            hint="choose another folder with -o",
        )


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a project of one model."""
    manifest = read_any(folder)
    if is_linked(manifest):
        raise UsageError(
            f"{folder} holds several models, linked into one firmware",
            hint="use the project of one of them; linked ones can be built, emulated and flashed",
        )
    return manifest


def is_linked(manifest: Mapping[str, Any]) -> bool:
    """Whether a project holds several models in one firmware."""
    return "models" in manifest


def read_any(folder: Path) -> dict[str, Any]:
    """The manifest of a project, of one model or of several that are linked."""
    path = folder / MANIFEST
    if not path.is_file():
        raise UsageError(
            f"{folder} is no thumbnet project: it has no {MANIFEST}",
            hint=f"make one with: thumbnet generate MODEL -o {folder}",
        )
    try:
        manifest = read_json(path)
        if manifest["schema_version"] != SCHEMA_VERSION:
            raise UsageError(f"{path}: written by another version", hint="generate it again")
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: damaged ({error})", hint="generate the project again") from error
    found: dict[str, Any] = manifest
    return found


def read_json(path: Path) -> Any:
    """The JSON value in a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, no UTF-8, too long or too deep.
    """
    return tables.parsed(path, MAX_JSON, json.loads)


def sources(manifest: Mapping[str, Any], key: str = "sources") -> tuple[str, ...]:
    """The C and assembly files that a manifest lists: names alone, so that none leads out of the project."""
    listed = manifest.get(key)
    names = tuple(map(str, listed)) if isinstance(listed, list) else ()
    if not names or not all(re.fullmatch(r"[A-Za-z0-9_]+\.[cS]", name) for name in names):
        raise UsageError(f"{MANIFEST}: {key} is damaged", hint="generate the project again")
    return names


def write_result(folder: Path, found: Mapping[str, Any]) -> None:
    """Keeps the JSON object of `emulate` with the project, for `compare` and `report`."""
    path = folder / RESULT
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(found, indent=2) + "\n")
    os.replace(fresh, path)


def read_result(folder: Path) -> dict[str, Any] | None:
    """What the last emulation of a project found; None when these sources were never emulated."""
    manifest = read_manifest(folder)
    try:
        found = read_json(folder / RESULT)
    except (OSError, ValueError):
        return None
    same = isinstance(found, dict) and found.get("build_id") == manifest["build_id"]
    return found if same else None


def image(manifest: Mapping[str, Any], context: str = "app_ctx") -> ModelImage:
    """What a machine must know of a model in the firmware, and of the variable that is its context.

    Raises:
        UsageError: the manifest lacks it, or has something else there.
    """
    try:
        found = ModelImage(
            name=manifest["model"],
            steps=len(manifest["layers"]),
            inputs=tuple(port["size"] for port in manifest["inputs"]),
            outputs=tuple(port["size"] for port in manifest["outputs"]),
            arena_size=manifest["arena_size"],
            context=context,
            row=(manifest.get("stream_input") or {"row_bytes": 0})["row_bytes"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged() from error
    sizes = (*found.inputs, *found.outputs, found.arena_size, found.row)
    name = found.name if isinstance(found.name, str) else ""
    plain = re.fullmatch(r"[a-z][a-z0-9_]*", name, re.ASCII)
    if not plain or not all(type(size) is int and 0 <= size < 1 << 32 for size in sizes):
        raise _damaged()
    return found


def _damaged() -> UsageError:
    return UsageError(f"{MANIFEST} is damaged", hint="generate the project again")
