"""A hand-written model with two steps, built into firmware for any target."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pytest

from targets import load
from targets.machine import ModelImage
from targets.toolchain import build_firmware, find

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ModelImage("kws", steps=2, inputs=(8,), outputs=(4,), arena_size=64)
SOURCES = ("startup.c", "main.c", "kws.c", "probes.c")

Build = Callable[..., Path]


@dataclass(frozen=True)
class FakeModel:
    name: str = "kws"
    macro: str = "KWS"
    sources: tuple[str, ...] = ("kws.c", "probes.c")


def render(target_name: str, folder: Path) -> Path:
    """The project that codegen would make: the board's templates and the fake model's C."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT / "templates" / "board"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    folder.mkdir(parents=True)
    for template in environment.list_templates():
        text = environment.get_template(template).render(
            target=load(target_name), model=FakeModel()
        )
        (folder / template.removesuffix(".j2")).write_text(text)
    for source in (ROOT / "tests" / "emulator" / "firmware").iterdir():
        shutil.copy(source, folder)
    link = folder / "link.ld"
    link.write_text(link.read_text() + "EXTERN(keep_probes)\n")
    return folder


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """build(target, toolchain) -> ELF, each built once."""
    root = tmp_path_factory.mktemp("firmware")

    def make(target: str = "generic-m4", toolchain: str = "zig") -> Path:
        if toolchain == "gcc" and not shutil.which("arm-none-eabi-gcc"):
            pytest.skip("arm-none-eabi-gcc is not installed")
        output = root / f"{target}-{toolchain}.elf"
        if not output.exists():
            project = render(target, root / f"{target}-{toolchain}")
            build_firmware(
                find(toolchain), load(target), project, SOURCES, "link.ld", output
            )
        return output

    return make
