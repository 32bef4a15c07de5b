"""A hand-written model with two steps, as a project for any target."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jinja2

from targets import load
from targets.machine import ModelImage

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ModelImage("kws", steps=2, inputs=(8,), outputs=(4,), arena_size=64)
SOURCES = ("startup.c", "main.c", "kws.c", "probes.c")

Build = Callable[..., Path]


@dataclass(frozen=True)
class Fields:
    """What the board templates see of a model."""

    name: str = "kws"
    macro: str = "KWS"
    sources: tuple[str, ...] = ("kws.c", "probes.c")
    host_sources: tuple[str, ...] = ("kws.c", "probes.c")
    firmware: tuple[str, ...] = ("startup.c", "main.c")
    row: int = 0


def render(target: str, folder: Path) -> Path:
    """The project that codegen would make: the board's templates and the fake model's C."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    folder.mkdir(parents=True)
    facts = {"target": load(target), "model": Fields(), "console": None, "floats": False}
    for template in sorted(
        (ROOT / "templates" / "board").glob("[!b]*.j2")
    ):  # but for boot_*, parts of startup.c
        text = environment.get_template(f"board/{template.name}").render(**facts)
        (folder / template.name.removesuffix(".j2")).write_text(text)
    for source in (ROOT / "tests" / "emulator" / "firmware").iterdir():
        shutil.copy(source, folder)
    with (folder / "link.ld").open("a") as script:
        script.write("EXTERN(keep_probes)\n")
    return folder


def expected(x: bytes) -> bytes:
    """What the fake model computes on bytes below 64."""
    offsets = (1, -1, 2, -2)
    return bytes((x[i] + x[i + 4] + offsets[i]) // 3 for i in range(4))
