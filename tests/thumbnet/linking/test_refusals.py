"""What is not linked: damaged and hostile projects, and requests that make no sense."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from targets.errors import UsageError
from tests.thumbnet.linking.projects import BRIEF, example, generate
from thumbnet import linked, linking, project, report
from thumbnet.options import RunOptions

Tamper = Callable[[Path], None]


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / project.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def sign(folder: Path, name: str) -> None:
    """Makes the manifest agree with a file that was changed."""
    digests = project.read_manifest(folder)["files"]
    digests[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    edit_manifest(folder, files=digests)


def changed_source(folder: Path) -> None:
    (folder / "small.c").write_text("int small;\n")


def lead_out(folder: Path) -> None:
    outside = folder.parent.parent / "outside.c"
    shutil.move(folder / "small.c", outside)
    (folder / "small.c").symlink_to(outside)


def damaged_kernels(folder: Path) -> None:
    (folder / "kernels.c").write_text('#include "kernels.h"\n\nvoid small_x(void)\n{\n')
    sign(folder, "kernels.c")


def foreign_bytes(folder: Path) -> None:
    (folder / "small.c").write_bytes(b"\xff\x00")
    sign(folder, "small.c")


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (changed_source, "small.c was changed since it was generated"),
        (lead_out, "no file small.c of its own"),
        (damaged_kernels, "not as thumbnet writes them"),
        (foreign_bytes, "small.c is no text of ours"),
        (lambda f: (f / "kernels.h").unlink(), "no file kernels.h"),
        (lambda f: (f / "reference.npz").write_bytes(b"PK"), "reference.npz"),
        (lambda f: edit_manifest(f, model="../small"), "is no model's name"),
        (lambda f: edit_manifest(f, model=7), "damaged (model)"),
        (lambda f: edit_manifest(f, target=None), "damaged (target)"),
        (lambda f: edit_manifest(f, target="/tmp/board.toml"), "damaged (target)"),
        (lambda f: edit_manifest(f, sources=["../../etc/x.c"]), "sources is damaged"),
        (lambda f: edit_manifest(f, sources="small.c"), "sources is damaged"),
        (lambda f: edit_manifest(f, host_sources=["other.c"]), "damaged"),
        (lambda f: edit_manifest(f, files=None), "was changed"),
        (lambda f: edit_manifest(f, arena_size=16), "its arena is not that of the header"),
        (lambda f: edit_manifest(f, layers=[{}]), "memory map"),
        (lambda f: edit_manifest(f, flash={"weights": "x", "constants": 1}), "sizes"),
        (lambda f: edit_manifest(f, inputs=3), "damaged"),
        (lambda f: edit_manifest(f, schema_version=9), "another version"),
        (lambda f: edit_manifest(f, models=[]), "several models"),
    ],
)
def test_damaged_and_hostile_projects_are_refused(copy: Path, tamper: Tamper, message: str) -> None:
    tamper(copy / "small")
    before = (copy / "app" / project.MANIFEST).read_bytes()
    with pytest.raises(UsageError) as caught:
        linking.link_projects((copy / "digits", copy / "small"), copy / "app")
    assert message in caught.value.message and caught.value.hint
    assert str(copy / "small") in caught.value.message
    assert (copy / "app" / project.MANIFEST).read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"models": "ab"},
        {"models": [{"model": "../x"}]},
        {"models": []},
        {"kernels": {"shared": [{}]}},
        {"sram": {}},
        {"sources": ["../x.c"]},
    ],
)
def test_a_damaged_linked_project_is_refused(copy: Path, changes: dict[str, object]) -> None:
    edit_manifest(copy / "app", **changes)
    with pytest.raises(UsageError):
        linked.check(copy / "app", BRIEF)


def test_cores_must_be_the_same_and_the_board_is_chosen(copy: Path, tmp_path: Path) -> None:
    other = generate(tmp_path / "m3", "motions", target="generic-m3")
    board = generate(tmp_path / "board", "motions", target="mps2-an386")
    folders = (copy / "digits", board)
    with pytest.raises(
        UsageError, match="different cores: digits for generic-m4, motions for generic-m3"
    ):
        linking.link_projects((copy / "digits", other), tmp_path / "app")
    with pytest.raises(UsageError, match="different boards"):
        linking.link_projects(folders, tmp_path / "app")
    with pytest.raises(UsageError, match="has a cortex-m3"):
        linking.link_projects(folders, tmp_path / "app", "generic-m3")
    assert not (tmp_path / "app").exists()
    found = linking.link_projects(folders, tmp_path / "app", "mps2-an386")
    assert found["target"] == "mps2-an386"
    assert linked.check(tmp_path / "app", BRIEF)["mismatched_bytes"] == 0


def test_what_is_no_request_is_refused(copy: Path, tmp_path: Path) -> None:
    one, two = copy / "digits", copy / "small"
    for folders, output, message in (
        ((one,), tmp_path / "app", "one project"),
        ((one, one), tmp_path / "app", "two models are called 'digits'"),
        ((one, two), one, "which is to be linked"),
        ((one, two), copy, "which is to be linked"),
        ((one, copy / "none"), tmp_path / "app", "no thumbnet project"),
        ((one, copy / "app"), tmp_path / "app", "several models"),
    ):
        with pytest.raises(UsageError, match=message):
            linking.link_projects(folders, output)
    with pytest.raises(UsageError, match="several models"):
        report.make(copy / "app", BRIEF)


def test_data_names_its_model(twins: Path) -> None:
    for data, message in (
        ((example("digits"),), "names no model"),
        (("large=x.npz",), "names no model"),
        (("small=a.npz", "small=b.npz"), "twice"),
    ):
        with pytest.raises(UsageError, match=message):
            linked.check(twins / "app", BRIEF, data)
    with pytest.raises(UsageError, match="speedscope"):
        linked.check(twins / "app", RunOptions(speedscope=Path("x.json")))
