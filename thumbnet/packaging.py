"""A project on disk -> a package on disk, or data for a model viewer."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codegen import graph_file, packages
from targets.errors import UsageError
from targets.target import load as load_target
from thumbnet import explorer, project

MARKER = "thumbnet.json"  # tells a package of ours, which may be written over
EXPLORER = "model-explorer"
KINDS = (*packages.KINDS, EXPLORER)


def export(
    folder: Path, kind: str, output: Path, publisher: packages.Publisher | None = None
) -> dict[str, Any]:
    """Writes a project as a package; what `thumbnet export --json` prints.

    Same project, same publisher, same bytes.

    Args:
        folder: a generated project.
        kind: one of KINDS.
        output: the folder to write; an earlier package there is replaced.
        publisher: version, author, address and vendor.
    """
    manifest = project.read_manifest(folder)
    if kind == EXPLORER:
        files = explorer.files(project.read_result(folder) or manifest)
    else:
        files = _package(folder, manifest, kind, publisher or packages.Publisher())
    about = {
        "schema_version": project.SCHEMA_VERSION,
        "kind": kind,
        "model": manifest["model"],
        "model_sha256": manifest["model_sha256"],
        "build_id": manifest["build_id"],
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    marked = files | {MARKER: (json.dumps(about, indent=2) + "\n").encode()}
    project.write(output, marked, marker=MARKER)
    return about


def _package(
    folder: Path, manifest: Mapping[str, Any], kind: str, publisher: packages.Publisher
) -> dict[str, bytes]:
    graph = graph_file.load(folder / project.REFERENCE)
    core = load_target(manifest["target"]).core
    package = packages.describe(manifest, _texts(folder), graph, core)
    package = packages.published(package, publisher)
    files = {name: text.encode() for name, text in packages.KINDS[kind](package).items()}
    if kind != "cmsis-pack":
        return files
    name = f"{package.vendor}.{package.name}"
    return {
        f"{name}.pdsc": files[f"{name}.pdsc"],
        f"{name}.{package.version}.pack": archive(files),
        "README.md": files["README.md"],
    }


def _texts(folder: Path) -> dict[str, str]:
    """The C, assembly and headers of a project."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix in (".c", ".h", ".S"))
        return {path.name: path.read_text() for path in paths}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{folder}: cannot read its sources ({error})") from error


def archive(files: Mapping[str, bytes]) -> bytes:
    """A zip file that depends on names and contents alone: sorted, with one fixed date."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            packed.writestr(entry, files[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
