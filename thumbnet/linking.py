"""Generated projects -> one project whose firmware holds all their models."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen import __version__, graph_file, link, units
from codegen.names import identifier
from targets.errors import UsageError
from targets.target import Target
from targets.target import load as load_target
from thumbnet import memory_map, project

KIND = "linked"
_OWN = (
    "files",
    "sources",
    "host_sources",
    "schema_version",
    "thumbnet",
)  # said once for all models


@dataclass(frozen=True, slots=True, eq=False)
class _Given:
    """A project as it was read."""

    manifest: dict[str, Any]
    part: link.Part
    graph: bytes


def link_projects(
    folders: tuple[Path, ...], output: Path, board: str | None = None
) -> dict[str, Any]:
    """Writes one project for several models; its manifest is what `thumbnet link --json` prints.

    Same projects, same bytes.

    Args:
        folders: generated projects for one core.
        output: the folder to write; an earlier project there is replaced.
        board: its target; None: that of all projects.

    Raises:
        UsageError: a project is damaged or was changed, the cores differ, or names clash.
    """
    if len(folders) < 2:
        raise UsageError("one project is not to be linked", hint="name two or more")
    _check_output(folders, output)
    given = []
    for folder in folders:
        manifest = project.read_manifest(folder)
        with _naming(folder):
            given.append(_read(folder, manifest))
    target = _target([one.manifest for one in given], board)
    linked = link.link(tuple(one.part for one in given), target)
    files = {name: text.encode() for name, text in linked.project.files.items()}
    files |= {reference_file(one.part.name): one.graph for one in given}
    manifest = _describe(given, linked, target, files)
    project.write(
        output, files | {project.MANIFEST: (json.dumps(manifest, indent=2) + "\n").encode()}
    )
    return manifest


def reference_file(name: str) -> str:
    """Where a linked project keeps a model's graph."""
    return f"reference/{name}.npz"


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Says in which of the projects an error lies."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{folder}: {error.message}", hint=error.hint) from error


def _check_output(folders: tuple[Path, ...], output: Path) -> None:
    """The output is replaced in whole: no input may be it, or lie in it."""
    for folder in folders:
        if folder.resolve().is_relative_to(output.resolve()):
            raise UsageError(
                f"{output} holds {folder}, which is to be linked",
                hint="choose another folder with -o",
            )


def _target(manifests: list[dict[str, Any]], board: str | None) -> Target:
    names = [manifest["target"] for manifest in manifests]
    targets = [load_target(name) for name in names]
    cores = {target.core.name for target in targets}
    if len(cores) > 1:
        found = ", ".join(f"{m['model']} for {n}" for m, n in zip(manifests, names, strict=True))
        raise UsageError(
            f"the projects are for different cores: {found}",
            hint="generate them again with the same --target",
        )
    if board is None and len(set(names)) > 1:
        raise UsageError(
            f"the projects are for different boards: {', '.join(names)}",
            hint=f"choose the board of the firmware, like --target {names[0]}",
        )
    target = load_target(board or names[0])
    if target.core.name not in cores:
        raise UsageError(
            f"{target.name} has a {target.core.name}, the projects are for {cores.pop()}",
            hint="generate them again for that board",
        )
    return target


def _read(folder: Path, manifest: dict[str, Any]) -> _Given:
    name = _text(manifest, "model")
    if identifier(name) != name:
        raise _damaged(f"{name!r} is no model's name")
    if _text(manifest, "target").endswith(".toml"):  # would be read from anywhere
        raise _damaged("target")
    sources = {
        file for key in ("sources", "host_sources") for file in project.sources(manifest, key)
    }
    assembly = sorted(file for file in sources if file.endswith(".S"))
    twins = "kernels_host.c" in sources
    expected = {f"{name}.c", "kernels.c", *assembly[:1], *(["kernels_host.c"] if twins else [])}
    if sources != expected:
        raise _damaged(f"sources are {', '.join(sorted(sources))}")
    texts = {
        file: _content(folder, manifest, file) for file in (*expected, f"{name}.h", "kernels.h")
    }
    kernels = units.read(
        texts["kernels.h"],
        texts["kernels.c"],
        texts[assembly[0]] if assembly else "",
        texts.get("kernels_host.c", ""),
    )
    arena = _arena(manifest, texts[f"{name}.h"])
    part = link.Part(name, arena, texts[f"{name}.h"], texts[f"{name}.c"], kernels)
    graph = _inside(folder, project.REFERENCE)
    graph_file.load(folder / project.REFERENCE)  # refuses what is damaged
    return _Given(manifest, part, graph)


def _arena(manifest: Mapping[str, Any], header: str) -> int:
    """Bytes of a model's arena, on which its header and all of its manifest must agree."""
    found = re.search(r"^#define \w+_ARENA_SIZE (\d{1,9})u$", header, re.M)
    try:
        image, _ = project.image(manifest), memory_map.arena_map(manifest)
        sizes = [manifest["flash"][key] for key in ("weights", "constants")]
        named = all(isinstance(layer["function"], str) for layer in manifest["layers"])
    except (KeyError, TypeError) as error:
        raise _damaged(str(error)) from error
    if not named or not all(isinstance(size, int) for size in sizes):
        raise _damaged("sizes of its flash or names of its functions")
    if found is None or int(found[1]) != image.arena_size:
        raise _damaged("its arena is not that of the header")
    return int(found[1])


def _content(folder: Path, manifest: Mapping[str, Any], name: str) -> str:
    """A source file of a project, as it was generated."""
    content = _inside(folder, name)
    digests = manifest.get("files")
    wanted = digests.get(name) if isinstance(digests, Mapping) else None
    if hashlib.sha256(content).hexdigest() != wanted:
        raise UsageError(
            f"{name} was changed since it was generated", hint="generate the project again"
        )
    try:
        return content.decode("ascii")
    except UnicodeDecodeError as error:
        raise _damaged(f"{name} is no text of ours") from error


def _inside(folder: Path, name: str) -> bytes:
    """What a regular file of a folder holds; a symbolic link may not lead out of it."""
    path = (folder / name).resolve()
    if path.parent != folder.resolve() or not path.is_file():
        raise UsageError(f"no file {name} of its own", hint="generate the project again")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _text(manifest: Mapping[str, Any], key: str) -> str:
    value = manifest.get(key)
    if not isinstance(value, str):
        raise _damaged(key)
    return value


def _damaged(what: str) -> UsageError:
    return UsageError(f"{project.MANIFEST}: damaged ({what})", hint="generate the project again")


def _describe(
    given: list[_Given], linked: link.Linked, target: Target, files: Mapping[str, bytes]
) -> dict[str, Any]:
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    separate = sum(one.part.arena for one in given)
    return {
        "schema_version": project.SCHEMA_VERSION,
        "thumbnet": __version__,
        "kind": KIND,
        "model": link.APP,
        "target": target.name,
        "toolchain": None,
        "arena_size": linked.arena,
        "sram": {
            "arena": linked.arena,
            "separate_arenas": separate,
            "saved": separate - linked.arena,
        },
        "flash": {
            "weights": sum(one.manifest["flash"]["weights"] for one in given),
            "constants": sum(one.manifest["flash"]["constants"] for one in given),
            "code": None,
        },
        "kernels": {
            "functions": linked.kernels,
            "separate_functions": linked.separate_kernels,
            "shared": [{"function": one.name, "models": list(one.models)} for one in linked.shared],
        },
        "models": [_section(one, linked.renamed) for one in given],
        "firmware": list(linked.project.firmware),
        "sources": list(linked.project.sources),
        "host_sources": list(linked.project.host_sources),
        "files": digests,
        "build_id": hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest(),
    }


def _section(one: _Given, renamed: Mapping[str, str]) -> dict[str, Any]:
    """What the manifest says of one model: its own, with its kernels' names of now."""
    kept = {key: value for key, value in one.manifest.items() if key not in _OWN}
    layers = [
        layer | {"function": renamed.get(layer["function"], layer["function"])}
        for layer in one.manifest["layers"]
    ]
    return kept | {"layers": layers}
