"""A generated project -> packages for CMake, make, Arduino, PlatformIO, Zephyr and CMSIS-Pack.

One description of the model (`Package`) fills the templates of every kind. All kinds share the sources, whose
assembly is kept from other processors by the preprocessor, and the example, which knows the right answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from codegen import reference
from codegen.emit import render
from codegen.ir import Graph
from codegen.names import identifier
from targets.errors import UsageError
from targets.target import Core

CORES = ("0", "0+", "1", "3", "4", "7", "23", "33", "35P", "52", "55", "85")
VERSION = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
MAX_TITLE = 63  # of an Arduino library's name


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: the suffix of its macros and its bytes."""

    suffix: str
    size: int


@dataclass(frozen=True, slots=True)
class Package:
    """What every kind of package says of a model.

    Attributes:
        name: the model's C identifier.
        sources: names of C and assembly files; headers likewise.
        texts: content of all of them, assembly and its twins guarded.
        answer: the class that the example must print; digest: FNV-1a of all its output bytes.
        streamed: whether the input is pushed row by row.
    """

    name: str
    version: str
    author: str
    url: str
    vendor: str
    core: str
    flags: str
    sha256: str
    macs: int
    ram: int
    flash: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    sources: tuple[str, ...]
    headers: tuple[str, ...]
    texts: Mapping[str, str]
    answer: int
    digest: int
    streamed: bool = False

    @property
    def macro(self) -> str:
        """Prefix of the model's macros."""
        return self.name.upper()

    @property
    def title(self) -> str:
        """A name that Arduino accepts: reserved beginnings avoided, length capped."""
        plain = f"Model_{self.name}" if self.name.startswith("arduino") else self.name
        return plain[:MAX_TITLE]

    @property
    def sentence(self) -> str:
        """One line for catalogues."""
        return f"The neural network {self.name} as C and assembly for {self.core}."


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who publishes a package, and as what version."""

    version: str = "1.0.0"
    author: str = "unknown"
    url: str = "https://example.com/"
    vendor: str = "thumbnet"

    def checked(self) -> Publisher:
        """These values, if every package format can carry them.

        Raises:
            UsageError: names the option and shows a value that works.
        """
        if not re.fullmatch(VERSION, self.version):
            raise UsageError(f"version {self.version!r}", hint="three numbers, like 1.2.0")
        if not re.fullmatch(r"https?://[!-~]+", self.url):
            raise UsageError(f"url {self.url!r}", hint="like https://example.com/model")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.vendor):
            raise UsageError(f"vendor {self.vendor!r}", hint="letters, digits, '-' and '_' only")
        if not self.author.strip() or not self.author.isprintable():
            raise UsageError(f"author {self.author!r}", hint="one line of text")
        return self


def describe(
    manifest: Mapping[str, object], texts: Mapping[str, str], graph: Graph, core: Core
) -> Package:
    """The description of a generated project, still without a publisher.

    Args:
        manifest: of the project.
        texts: its files by name.
        graph: its quantized graph, which gives the example's right answer.
        core: the target's.

    Raises:
        UsageError: the manifest was tampered with, or names files that are missing.
    """
    name = str(manifest["model"])
    sources, twins = _names(manifest, "sources"), _names(manifest, "host_sources")
    if identifier(name) != name:
        raise UsageError(
            f"manifest: {name!r} is no model's name", hint="generate the project again"
        )
    every = tuple(dict.fromkeys((*sources, *twins)))
    headers = (f"{name}.h", "kernels.h")
    missing = [file for file in (*every, *headers) if file not in texts]
    if missing:
        raise UsageError(f"the project lacks {missing[0]}", hint="generate it again")
    condition = _condition(core)
    guarded = {
        file: _guarded(file, texts[file], condition, file in sources)
        for file in every
        if (file in sources) != (file in twins)
    }
    plain = Publisher()
    answer, digest = known_answer(graph)
    return Package(
        name=name,
        version=plain.version,
        author=plain.author,
        url=plain.url,
        vendor=plain.vendor,
        core=core.name,
        flags=" ".join(core.gcc_flags),
        sha256=str(manifest["model_sha256"]),
        macs=_integer(manifest, "macs"),
        ram=_integer(manifest, "arena_size"),
        flash=sum(_integer(manifest["flash"], key) for key in ("weights", "constants")),
        inputs=_ports(graph, graph.inputs),
        outputs=_ports(graph, graph.outputs),
        sources=every,
        headers=headers,
        texts={file: texts[file] for file in (*every, *headers)} | guarded,
        answer=answer,
        digest=digest,
        streamed=manifest.get("stream_input") is not None,
    )


def published(package: Package, publisher: Publisher) -> Package:
    """A description with its publisher."""
    by = publisher.checked()
    return replace(package, version=by.version, author=by.author, url=by.url, vendor=by.vendor)


def known_answer(graph: Graph) -> tuple[int, int]:
    """What the example must find: the largest value's index in output 0, and FNV-1a of all outputs."""
    inputs = []
    for index, port in enumerate(graph.inputs):
        tensor = graph.tensors[port.tensor]
        values = (np.arange(tensor.size) * 29 + 7 * (index + 1)) % 256 - 128
        inputs.append(values.astype(np.int8).reshape(tensor.shape))
    outputs = reference.run(graph, tuple(inputs))
    digest = 2166136261
    for byte in b"".join(output.tobytes() for output in outputs):
        digest = (digest ^ byte) * 16777619 % 2**32
    return int(outputs[0].ravel().argmax()), digest


def _names(manifest: Mapping[str, object], key: str) -> tuple[str, ...]:
    listed = manifest[key]
    names = tuple(str(name) for name in listed) if isinstance(listed, list) else ()
    if not names or not all(re.fullmatch(r"[A-Za-z0-9_]+\.[cS]", name) for name in names):
        raise UsageError(f"manifest: {key} is damaged", hint="generate the project again")
    return names


def _integer(table: object, key: str) -> int:
    value = table.get(key) if isinstance(table, Mapping) else None
    if not isinstance(value, int):
        raise UsageError(f"manifest: {key} is damaged", hint="generate the project again")
    return value


def _ports(graph: Graph, ports: tuple[object, ...]) -> tuple[Port, ...]:
    tensors = [graph.tensors[port.tensor] for port in ports]  # type: ignore[attr-defined]
    alone = len(tensors) == 1
    return tuple(Port("" if alone else f"_{i}", t.size) for i, t in enumerate(tensors))


def _condition(core: Core) -> str:
    """When the preprocessor may take a core's assembly: it runs on every core that can do as much."""
    needs = ["defined(__ARM_ARCH_PROFILE)", "(__ARM_ARCH_PROFILE == 'M')"]
    if core.dsp:
        needs.append("defined(__ARM_FEATURE_DSP)")
    elif core.thumb2:
        needs.append("(__ARM_ARCH >= 7)")
    return " && ".join(needs)


def _guarded(name: str, text: str, condition: str, device: bool) -> str:
    template = "packages/guarded.S.j2" if name.endswith(".S") else "packages/guarded.c.j2"
    if device:
        why = "For cores that have these instructions; its twin in C serves the others."
        return render(template, condition=condition, why=why, text=text.rstrip("\n"))
    why = "In the place of the assembly, on processors that cannot run it."
    return render(template, condition=f"!({condition})", why=why, text=text.rstrip("\n"))


Files = dict[str, str]


def _common(package: Package, title: str, steps: tuple[str, ...], note: str) -> Files:
    files = {f"src/{name}": text for name, text in package.texts.items()}
    readme = render("packages/README.md.j2", package=package, title=title, steps=steps, note=note)
    return files | {"README.md": readme}


def _filled(package: Package, table: Mapping[str, str]) -> Files:
    return {
        path: render(f"packages/{template}", package=package) for path, template in table.items()
    }


def _cmake(package: Package) -> Files:
    steps = (
        "cmake -B build",
        "cmake --build build",
        "ctest --test-dir build",
        f"cmake -B build-arm -DCMAKE_TOOLCHAIN_FILE=cmake/{package.core}.cmake",
        "cmake --build build-arm",
    )
    name = package.name
    note = f"In a project of yours: `add_subdirectory({name})`, then link `{name}::{name}`."
    table = {
        "CMakeLists.txt": "cmake/CMakeLists.txt.j2",
        f"cmake/{package.core}.cmake": "cmake/toolchain.cmake.j2",
        "examples/classify/main.c": "main.c.j2",
    }
    return _common(package, "A CMake package.", steps, note) | _filled(package, table)


def _make(package: Package) -> Files:
    steps = (
        "make example",
        "make clean",
        f'make CROSS=arm-none-eabi- CPU="-mthumb {package.flags}"',
        f"cc -Isrc -c main.c  # yours, with #include <{package.name}.h>",
        f"cc main.o build/lib{package.name}.a",
    )
    table = {"Makefile": "make/Makefile.j2", "examples/classify/main.c": "main.c.j2"}
    note = "The makefile needs GNU make and a C compiler."
    return _common(package, "A static library.", steps, note) | _filled(package, table)


def _arduino(package: Package) -> Files:
    steps = (
        "1. zip this folder",
        "2. Arduino IDE: Sketch > Include Library > Add .ZIP Library",
        f"3. File > Examples > {package.title} > classify",
        "4. choose your board and port, then Upload",
        "5. open the Serial Monitor at 115200 baud",
    )
    table = {
        "library.properties": "arduino/library.properties.j2",
        "examples/classify/classify.ino": "arduino/classify.ino.j2",
    }
    note = "`src/*.S` is assembled by the IDE as it is."
    return _common(package, "An Arduino library.", steps, note) | _filled(package, table)


def _platformio(package: Package) -> Files:
    steps = (
        f"cp -r . YOUR_PROJECT/lib/{package.name}",
        f"# in src/main.c: #include <{package.name}.h>",
        "pio run",
        "cd examples/classify",
        "pio run -t exec",
    )
    table = {
        "library.json": "platformio/library.json.j2",
        "examples/classify/platformio.ini": "platformio/platformio.ini.j2",
        "examples/classify/src/main.c": "main.c.j2",
    }
    note = (
        "The example's project runs on this machine; in yours the board decides what is compiled."
    )
    return _common(package, "A PlatformIO library.", steps, note) | _filled(package, table)


def _zephyr(package: Package) -> Files:
    steps = (
        "west build -b mps2/an386 samples/classify -t run",
        "# in an application of yours, before find_package(Zephyr):",
        f"#   list(APPEND ZEPHYR_EXTRA_MODULES /path/to/{package.name})",
        f"# in prj.conf: CONFIG_THUMBNET_{package.macro}=y",
        f"# in main.c: #include <{package.name}.h>",
    )
    table = {
        "zephyr/module.yml": "zephyr/module.yml.j2",
        "zephyr/CMakeLists.txt": "zephyr/CMakeLists.txt.j2",
        "zephyr/Kconfig": "zephyr/Kconfig.j2",
        "samples/classify/CMakeLists.txt": "zephyr/sample.cmake.j2",
        "samples/classify/prj.conf": "zephyr/prj.conf.j2",
        "samples/classify/sample.yaml": "zephyr/sample.yaml.j2",
        "samples/classify/src/main.c": "main.c.j2",
    }
    note = "It can also stand in a west manifest: the folder is a module."
    return _common(package, "A Zephyr module.", steps, note) | _filled(package, table)


def _cmsis_pack(package: Package) -> Files:
    pack = f"{package.vendor}.{package.name}.{package.version}.pack"
    steps = (
        f"cpackget add {pack}",
        f"# in your csolution project: pack: {package.vendor}::{package.name}",
        f"#   component: Machine Learning:NN Model:{package.name}",
        "csolution convert",
        "cbuild YOUR.csolution.yml",
    )
    cores = [f"Cortex-M{core}" for core in CORES]
    description = render("packages/cmsis/package.pdsc.j2", package=package, cores=cores)
    note = "µVision and VS Code offer the example as a user code template of the component."
    files = _common(package, "A CMSIS-Pack.", steps, note)
    files |= _filled(package, {"examples/classify/main.c": "main.c.j2"})
    return files | {f"{package.vendor}.{package.name}.pdsc": description}


KINDS: Mapping[str, Callable[[Package], Files]] = {
    "cmake": _cmake,
    "make": _make,
    "arduino": _arduino,
    "platformio": _platformio,
    "zephyr": _zephyr,
    "cmsis-pack": _cmsis_pack,
}
