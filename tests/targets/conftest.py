"""A small firmware image, built once, for tests of what is done to images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from targets import load, toolchain
from targets.errors import ToolMissing
from tests.golden import network

Link = Callable[[str, str], Path]


def need(choice: str) -> None:
    """Skips a test whose compiler is not installed."""
    try:
        toolchain.find(choice)
    except ToolMissing as error:
        pytest.skip(error.message)


@pytest.fixture(scope="session")
def link(tmp_path_factory: pytest.TempPathFactory) -> Link:
    """A function (board, toolchain) -> ELF file of the golden network, in a folder of its own."""
    made: dict[tuple[str, str], Path] = {}

    def build(board: str, choice: str) -> Path:
        need(choice)
        compiler = toolchain.find(choice)
        if (board, compiler.kind) not in made:
            target = load(board)
            folder = tmp_path_factory.mktemp(board)
            project = network.project(board)
            for name, text in project.files.items():
                (folder / name).write_text(text)
            sources = (*project.firmware, *project.sources)
            elf = folder / "build" / "golden.elf"
            toolchain.build_firmware(compiler, target, folder, sources, "link.ld", elf)
            made[board, compiler.kind] = elf
        return made[board, compiler.kind]

    return build


@pytest.fixture(scope="session")
def linked(link: Link) -> Path:
    """An image for a Pico: it has a boot stage, and a boot loader that takes UF2."""
    return link("pico", "auto")
