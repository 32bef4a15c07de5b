"""Packages: they build, they print the right answer, their metadata keep their formats' rules."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from codegen import packages
from targets.errors import UsageError
from targets.toolchain import host_compiler
from tests.thumbnet.conftest import DATA, HOSTILE, MODEL
from thumbnet import compiler, packaging, project
from thumbnet.options import CompileOptions

ARDUINO_STUB = """
#include <stdio.h>
#include <stdint.h>
struct Port {
    void begin(long) {}
    operator bool() const { return true; }
    void print(const char *x) { printf("%s", x); }
    void print(unsigned long x) { printf("%lu", x); }
    void print(unsigned x) { printf("%u", x); }
    void println(const char *x) { printf("%s\\n", x); }
};
static Port Serial;
static unsigned long millis() { return 9999; }
static unsigned long micros() { return 1; }
"""
ZEPHYR_STUB = """
cmake_minimum_required(VERSION 3.16)
project(stub C ASM)
set(CONFIG_THUMBNET_DIGITS y)
add_executable(app ../samples/classify/src/main.c)
function(zephyr_include_directories)
    target_include_directories(app PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/${ARGV0})
endfunction()
macro(zephyr_library_named name)
    add_library(${name} STATIC)
    set(current ${name})
    target_link_libraries(app PRIVATE ${name})
endmacro()
function(zephyr_library_sources)
    target_sources(${current} PRIVATE ${ARGV})
endfunction()
function(zephyr_library_compile_options)
    target_compile_options(${current} PRIVATE ${ARGV})
endfunction()
add_subdirectory(../zephyr zephyr)
"""


def run(folder: Path, *command: object) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def exported(project: Path, kind: str, folder: Path) -> Path:
    packaging.export(project, kind, folder / kind)
    return folder / kind


def answer(folder: Path) -> str:
    found = re.search(r"must print class (\d+)", (folder / "README.md").read_text())
    assert found is not None
    return f"digits: class {found[1]}, every byte as the reference"


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def test_cmake_builds_here_and_prints_the_class(digits: Path, tmp_path: Path) -> None:
    needs("cmake", "make")
    folder = exported(digits, "cmake", tmp_path)
    run(folder, "cmake", "-B", "build")
    run(folder, "cmake", "--build", "build")
    assert answer(folder) in run(folder, "build/digits_classify")
    assert "100% tests passed" in run(folder, "ctest", "--test-dir", "build")


def test_a_streamed_model_pushes_its_rows(tmp_path: Path) -> None:
    needs("cmake", "make")
    data = str(DATA)
    made = compiler.compile_model(MODEL, CompileOptions(data=data, stream_input=True))
    project.write(tmp_path / "streamed", made.files)
    folder = exported(tmp_path / "streamed", "cmake", tmp_path)
    assert "digits_push_row" in (folder / "README.md").read_text()
    run(folder, "cmake", "-B", "build")
    run(folder, "cmake", "--build", "build")
    assert answer(folder) in run(folder, "build/digits_classify")


def test_cmake_builds_for_the_core(digits: Path, tmp_path: Path) -> None:
    needs("cmake", "make", "arm-none-eabi-gcc")
    folder = exported(digits, "cmake", tmp_path)
    run(folder, "cmake", "-B", "build", "-DCMAKE_TOOLCHAIN_FILE=cmake/cortex-m4.cmake")
    run(folder, "cmake", "--build", "build")
    symbols = run(folder, "arm-none-eabi-nm", "build/libdigits.a")
    kernels = [
        line.split()[-1] for line in symbols.splitlines() if "gemm" in line and " T " in line
    ]
    assert kernels and len(kernels) == len(set(kernels))  # assembly or its twin, never both


def test_make_builds_for_both(digits: Path, tmp_path: Path) -> None:
    needs("make", "gcc")
    folder = exported(digits, "make", tmp_path)
    assert answer(folder) in run(folder, "make", "example")
    needs("arm-none-eabi-gcc")
    for cpu in ("cortex-m4", "cortex-m0plus", "cortex-m3", "cortex-m33"):
        run(folder, "make", "clean")
        run(folder, "make", "CROSS=arm-none-eabi-", f"CPU=-mthumb -mcpu={cpu}")


def compiled(folder: Path, sources: list[Path], *options: object) -> Path:
    program = folder / "program"
    run(folder, *host_compiler(), "-O1", *options, *sources, "-o", program)
    return program


def test_the_arduino_sketch_runs(digits: Path, tmp_path: Path) -> None:
    needs("g++")
    folder = exported(digits, "arduino", tmp_path)
    (tmp_path / "Arduino.h").write_text(ARDUINO_STUB)
    sketch = (folder / "examples/classify/classify.ino").read_text()
    program = '#include "Arduino.h"\n' + sketch + "\nint main() { setup(); loop(); }\n"
    (tmp_path / "sketch.cpp").write_text(program)
    objects = []
    for source in sorted((folder / "src").glob("*.[cS]")):  # what the IDE compiles: all of src/
        objects.append(tmp_path / f"{source.name}.o")
        run(tmp_path, *host_compiler(), "-c", source, "-o", objects[-1])
    include = f"-I{folder / 'src'}"
    run(tmp_path, "g++", "-Wall", "-Werror", include, "sketch.cpp", *objects, "-o", "sketch")
    assert answer(folder) in run(tmp_path, tmp_path / "sketch")


def test_arduino_metadata_keep_the_specification(digits: Path, tmp_path: Path) -> None:
    folder = exported(digits, "arduino", tmp_path)
    lines = (folder / "library.properties").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines)
    assert len(found) == len(lines)
    required = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category"}
    assert required | {"url", "architectures"} <= set(found)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}", found["name"])
    assert re.search("[A-Za-z]", found["name"]) and not found["name"].lower().startswith("arduino")
    assert re.fullmatch(r"\d+\.\d+\.\d+", found["version"])
    assert found["category"] == "Data Processing"  # one of the specification's
    assert all((folder / "src" / name).is_file() for name in found["includes"].split(","))
    for example in (folder / "examples").iterdir():
        assert (example / f"{example.name}.ino").is_file()
    assert not list(folder.rglob("*.exe")) and not (folder / ".development").exists()


def test_platformio_manifest_keeps_the_rules(digits: Path, tmp_path: Path) -> None:
    folder = exported(digits, "platformio", tmp_path)
    found = json.loads((folder / "library.json").read_text())
    assert re.fullmatch(r"[^:/]{1,100}", found["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", found["version"])
    assert 0 < len(found["description"]) <= 1000
    assert all(re.fullmatch(r"[a-z0-9 .+_-]{1,50}", word) for word in found["keywords"])
    assert all((folder / "src" / header).is_file() for header in found["headers"])
    for example in found["examples"]:
        assert all((folder / example["base"] / name).is_file() for name in example["files"])
    main = folder / "examples/classify/src/main.c"
    program = compiled(
        tmp_path, [main, *sorted((folder / "src").glob("*.[cS]"))], f"-I{folder}/src"
    )
    assert answer(folder) in run(tmp_path, program)


def test_platformio_itself_takes_the_manifest(digits: Path, tmp_path: Path) -> None:
    schema = pytest.importorskip("platformio.package.manifest.schema")
    parser = pytest.importorskip("platformio.package.manifest.parser")
    folder = exported(digits, "platformio", tmp_path)
    read = parser.ManifestParserFactory.new_from_file(str(folder / "library.json"))
    assert schema.ManifestSchema().load_manifest(read.as_dict())["name"] == "digits"


def test_zephyr_module_builds(digits: Path, tmp_path: Path) -> None:
    needs("cmake", "make")
    folder = exported(digits, "zephyr", tmp_path)
    (folder / "stub").mkdir()
    (folder / "stub/CMakeLists.txt").write_text(ZEPHYR_STUB)
    run(folder / "stub", "cmake", "-B", "build")
    run(folder / "stub", "cmake", "--build", "build")
    assert answer(folder) in run(folder, "stub/build/app")


def test_zephyr_module_files_name_what_exists(digits: Path, tmp_path: Path) -> None:
    folder = exported(digits, "zephyr", tmp_path)
    module = (folder / "zephyr/module.yml").read_text()
    found = dict(re.findall(r"^ *(\w+): (\S+)$", module, re.M))
    assert re.fullmatch(r"[a-z0-9_-]+", found["name"])
    assert (folder / found["cmake"] / "CMakeLists.txt").is_file()
    assert (folder / found["kconfig"]).is_file()
    kconfig = (folder / "zephyr/Kconfig").read_text()
    (symbol,) = re.findall(r"^config (\w+)$", kconfig, re.M)
    assert f"CONFIG_{symbol}=y" in (folder / "samples/classify/prj.conf").read_text()
    assert f"if(CONFIG_{symbol})" in (folder / "zephyr/CMakeLists.txt").read_text()
    assert answer(folder) in (folder / "samples/classify/sample.yaml").read_text()


def test_kconfig_parses(digits: Path, tmp_path: Path) -> None:
    kconfiglib = pytest.importorskip("kconfiglib")
    folder = exported(digits, "zephyr", tmp_path)
    parsed = kconfiglib.Kconfig(str(folder / "zephyr/Kconfig"))
    assert not parsed.warnings and "THUMBNET_DIGITS" in parsed.syms


def test_cmsis_pack_is_whole(digits: Path, tmp_path: Path) -> None:
    folder = exported(digits, "cmsis-pack", tmp_path)
    path = folder / "thumbnet.digits.1.0.0.pack"
    with zipfile.ZipFile(path) as pack:
        assert pack.testzip() is None
        names = set(pack.namelist())
        inside = pack.read("thumbnet.digits.pdsc")
        dates = {entry.date_time for entry in pack.infolist()}
    assert inside == (folder / "thumbnet.digits.pdsc").read_bytes()
    assert len(dates) == 1
    root = ElementTree.fromstring(inside)
    texts = {tag: root.findtext(tag) or "" for tag in ("vendor", "name", "description", "url")}
    assert f"{texts['vendor']}.{texts['name']}" == "thumbnet.digits"
    assert all(re.fullmatch(r"[\w-]+", texts[tag], re.A) for tag in ("vendor", "name"))
    assert 0 < len(texts["description"]) <= 256
    release = root.find("releases/release")
    assert release is not None and release.get("version") == "1.0.0"
    conditions = {item.get("id") for item in root.findall("conditions/condition")}
    (component,) = root.findall("components/component")
    assert component.get("condition") in conditions
    assert all(component.get(key) for key in ("Cclass", "Cgroup", "Cversion"))
    files = [item.attrib for item in component.findall("files/file")]
    listed = {str(item["name"]) for item in files if item["category"] != "include"}
    assert listed <= names
    assert {name for name in names if name.startswith("src/")} <= listed
    assert {item["category"] for item in files} >= {"sourceC", "sourceAsm", "header", "include"}


@pytest.mark.parametrize("kind", packaging.KINDS)
def test_same_project_same_bytes(digits: Path, tmp_path: Path, kind: str) -> None:
    trees = []
    for name in ("one", "two"):
        folder = exported(digits, kind, tmp_path / name)
        trees.append({p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.*")})
    assert trees[0] == trees[1]
    assert not any(str(tmp_path).encode() in content for content in trees[0].values())


@pytest.mark.parametrize("kind", packages.KINDS)
def test_no_text_of_a_model_leaves_the_comments_of_its_sources(
    hostile: Path, tmp_path: Path, kind: str
) -> None:
    folder = exported(hostile, kind, tmp_path)
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".pack" and path.parent.name != "src":
            text = path.read_text()
            assert not any(part in text for part in HOSTILE), path
    if kind == "cmsis-pack":
        ElementTree.parse(next(folder.glob("*.pdsc")))
    if kind == "make":
        needs("make", "gcc")
        assert "every byte as the reference" in run(folder, "make", "example")


def test_model_explorer_data_keep_the_names_of_onnx(digits: Path, tmp_path: Path) -> None:
    folder = exported(digits, "model-explorer", tmp_path)
    found: dict[str, Any] = json.loads((folder / "cycles.json").read_text())
    emulated = json.loads((digits / "build/result.json").read_text())
    values = {name: result["value"] for name, result in found["results"].items()}
    assert sum(values.values()) == sum(layer["cycles"] for layer in emulated["layers"])
    assert values["/stem/conv/Conv"] == emulated["layers"][0]["cycles"]
    assert values["/stem/relu/Relu"] == 0  # folded into the convolution
    assert [stop["stop"] for stop in found["gradient"]] == [0, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": "1.0"},
        {"author": "a\nb"},
        {"url": "javascript:alert(1)"},
        {"url": "https://x/\n"},
        {"vendor": "../x"},
        {"author": " "},
    ],
)
def test_wrong_publishers_are_refused(digits: Path, tmp_path: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        packaging.export(digits, "arduino", tmp_path / "out", packages.Publisher(**wrong))
    assert caught.value.hint


def test_a_foreign_folder_is_never_replaced(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="no thumbnet package"):
        packaging.export(digits, "make", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_a_publisher_with_markup_stays_text(digits: Path, tmp_path: Path) -> None:
    publisher = packages.Publisher(author='A & "B" <c@d.org>', url="https://x.org/?a=1&b=<2>")
    for kind in ("cmsis-pack", "platformio", "arduino"):
        packaging.export(digits, kind, tmp_path / kind, publisher)
    found = ElementTree.parse(tmp_path / "cmsis-pack/thumbnet.digits.pdsc")
    assert found.findtext("url") == publisher.url
    library = json.loads((tmp_path / "platformio/library.json").read_text())
    assert library["authors"][0]["name"] == publisher.author
    properties = (tmp_path / "arduino/library.properties").read_text()
    assert f"author={publisher.author}\n" in properties
