"""No text of a model reaches what is written but in comments, as data, or as an identifier of ours."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from elftools.elf.elffile import ELFFile

from codegen import importer
from codegen.names import identifier
from codegen.select import Objective
from targets import toolchain
from targets.errors import MOST_TEXT, ThumbnetError
from tests.hostile import fields
from tests.hostile.texts import TEXTS
from thumbnet import compiler
from thumbnet.options import CompileOptions

TARGET = "mps2-an386"
OBJECTIVES: tuple[Objective, ...] = ("balanced", "sram")
FEW = TEXTS[:: len(TEXTS) // 12]  # of every kind, in the default suite
SOURCES = (".c", ".h", ".S", ".ld", ".txt", "")
STRICT = (
    "-std=c99",
    "-fno-stack-protector",
    "-fno-pic",
    "-trigraphs",
    "-Wall",
    "-Wextra",
    "-Wcomment",
    "-Werror",
)


def compiled(folder: Path, content: bytes, objective: Objective, **more: Any) -> dict[str, bytes]:
    """The files of a model."""
    path = folder / "net.onnx"
    path.write_bytes(content)
    options = CompileOptions(target=TARGET, calib="random", optimize=objective, **more)
    return compiler.compile_model(path, options).files


@cache
def plain(folder: Path, objective: Objective) -> dict[str, bytes]:
    """The files of the same model with harmless names."""
    return compiled(folder, fields.model().SerializeToString(), objective)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fields")


def code(text: str) -> str:
    """A source without its comments, and without the digests in it: those of the model and the build."""
    bare = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    bare = re.sub(r'(?<=SHA256 ")[0-9a-f]{64}(?=")', "", bare)
    return re.sub(r"\d+u,", "0u,", bare) if "app_hello" in bare else bare


def comments(text: str) -> Iterator[str]:
    yield from re.findall(r"/\*(.*?)\*/", text, flags=re.DOTALL)


def keys(found: Any) -> Any:
    """JSON or TOML with its strings and numbers taken out."""
    if isinstance(found, dict):
        return {key: keys(value) for key, value in found.items()}
    if isinstance(found, list):
        return [keys(value) for value in found]
    return type(found).__name__


def tags(svg: bytes) -> set[tuple[str, tuple[str, ...]]]:
    """Elements with their attributes; how many there are depends on which names fit into their boxes."""
    return {(one.tag, tuple(sorted(one.attrib))) for one in ElementTree.fromstring(svg).iter()}


def check(made: dict[str, bytes], wanted: dict[str, bytes]) -> None:
    """Two builds differ in what people read alone."""
    assert made.keys() == wanted.keys()
    for name, content in wanted.items():
        if Path(name).suffix not in SOURCES:
            continue
        text = made[name].decode("ascii")
        assert code(text) == code(content.decode()), name
        for comment in comments(text):
            assert not re.search(r"/\*|\\|\?\?", comment), name
            assert all(c.isprintable() or c == "\n" for c in comment), name
    assert made["manifest.json"].isascii()
    found, expected = (json.loads(one["manifest.json"]) for one in (made, wanted))
    assert keys(found) == keys(expected)
    assert tags(made["memory.svg"]) == tags(wanted["memory.svg"])
    ours, theirs = (tomllib.loads(one["recipe.toml"].decode()) for one in (made, wanted))
    assert list(ours) == list(theirs)
    assert list(ours["layers"].values()) == list(theirs["layers"].values())


def test_every_field_is_tried() -> None:
    """A field that a new version of onnx adds must get a place here."""
    functions = {key for key in fields.all_fields() if key.startswith("FunctionProto.")}
    _, touched = fields.everywhere("x")
    assert fields.all_fields() - functions - fields.ALONE.keys() == touched
    assert len(touched) >= 26
    assert len(set(TEXTS)) == len(TEXTS) == 200


def hostile_everywhere(text: str, folder: Path) -> None:
    content = fields.everywhere(text)[0].SerializeToString()
    for objective in OBJECTIVES:
        check(compiled(folder, content, objective), plain(folder, objective))


@pytest.mark.parametrize("text", FEW, ids=range(len(FEW)))
def test_a_text_in_every_field(text: str, folder: Path) -> None:
    hostile_everywhere(text, folder)


@pytest.mark.sweep
@pytest.mark.parametrize("start", range(0, len(TEXTS), 20))
def test_all_texts_in_every_field(start: int, folder: Path) -> None:
    for text in TEXTS[start : start + 20]:
        hostile_everywhere(text, folder)


def hostile_alone(field: str, text: str, folder: Path) -> None:
    """Refused in printable words, or compiled as if the text were not there."""
    content = fields.alone(field, text).SerializeToString()
    path = folder / "net.onnx"
    path.write_bytes(content)
    try:
        importer.load(path)
    except ThumbnetError as error:
        said = str(error)
        assert 0 < len(said) <= MOST_TEXT + 3
        assert said.isprintable()
    else:
        check(compiled(folder, content, "balanced"), plain(folder, "balanced"))


@pytest.mark.parametrize("field", fields.ALONE)
def test_a_text_that_would_change_the_meaning(field: str, folder: Path) -> None:
    for text in FEW[::4]:
        hostile_alone(field, text, folder)


@pytest.mark.sweep
@pytest.mark.parametrize("field", fields.ALONE)
def test_all_texts_that_would_change_the_meaning(field: str, folder: Path) -> None:
    for text in TEXTS:
        hostile_alone(field, text, folder)


def test_the_file_has_a_hostile_name(folder: Path) -> None:
    content = fields.model().SerializeToString()
    for text in (
        "*/ int evil; /*".replace("/", "|"),
        "$(shell touch evil)",
        'a";\n',
        "int",
        "\x1b[31m",
    ):
        path = folder / f"{text}.onnx"
        path.write_bytes(content)
        options = CompileOptions(target=TARGET, calib="random")
        made = compiler.compile_model(path, options).files
        check(made, compiled(folder, content, "balanced", name=identifier(text)))
        assert all(re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z]+)?", name) for name in made)


def symbols(folder: Path, files: dict[str, bytes]) -> set[str]:
    """What the objects of the model's C files define or want, by the host's compiler at its strictest."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    found: set[str] = set()
    for name in ("net.c", "kernels.c", "kernels_host.c"):
        if name in files:
            output = folder / f"{name}.o"
            command = (
                *toolchain.host_compiler(),
                *STRICT,
                "-c",
                str(folder / name),
                "-o",
                str(output),
            )
            subprocess.run(command, check=True)
            found |= _named(output)
    return found


def _named(path: Path) -> set[str]:
    """The symbols of an object; those that another must define begin with "?"."""
    if path.read_bytes()[:4] != b"\x7fELF":
        pytest.skip("objects of this machine are not ELF files")
    with path.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        kinds = ("STT_FUNC", "STT_OBJECT", "STT_NOTYPE")
        found = [one for one in table.iter_symbols() if one["st_info"]["type"] in kinds]
        return {"?" * (s["st_shndx"] == "SHN_UNDEF") + s.name for s in found if s.name}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objects_have_the_expected_symbols(
    objective: Objective, folder: Path, tmp_path: Path
) -> None:
    wanted = symbols(tmp_path / "plain", plain(folder, objective))
    assert "net_run" in wanted
    asked = {name[1:] for name in wanted if name.startswith("?")}
    assert asked - wanted <= {"memcpy", "memset"}
    for index, text in enumerate(
        ("*/ int evil; /*", "*??/\n/ int evil;", "*\\\n/ int evil; /\\\n*")
    ):
        made = compiled(folder, fields.everywhere(text)[0].SerializeToString(), objective)
        assert symbols(tmp_path / str(index), made) == wanted
