"""Several emitted models -> one project: kernels that are equal once, one arena for all.

Works on text, so that a project is linked as it was generated and verified, without its ONNX model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from codegen import firmware, units
from codegen.arrange import ALIGNMENT
from codegen.emit import Model, Project, has_floats, render
from codegen.names import identifier
from codegen.units import Kernel
from targets.errors import UsageError
from targets.target import Target

APP = "app"  # no model can be called so: codegen.names
_RESERVED = (f"{APP}_", "kernels_")


@dataclass(frozen=True, slots=True)
class Part:
    """One model as it was emitted.

    Attributes:
        name: the model's C identifier.
        arena: bytes.
        header: NAME.h.
        source: NAME.c.
        kernels: all it calls.
    """

    name: str
    arena: int
    header: str
    source: str
    kernels: units.Kernels


@dataclass(frozen=True, slots=True)
class Shared:
    """A kernel that several models call.

    Attributes:
        name: of the one function.
        models: who calls it.
    """

    name: str
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Linked:
    """Several models as one project.

    Attributes:
        project: its files.
        arena: bytes of the arena that they share.
        kernels: functions in the linked project.
        separate_kernels: functions in the projects by themselves.
        shared: kernels that several models call.
        renamed: new name by old one, for kernels that are called otherwise now.
    """

    project: Project
    arena: int
    kernels: int
    separate_kernels: int
    shared: tuple[Shared, ...]
    renamed: Mapping[str, str]


def link(parts: tuple[Part, ...], target: Target) -> Linked:
    """The project of several models. Same parts, same bytes.

    Raises:
        UsageError: models or their symbols share a name, or their helpers differ.
    """
    _check_names(parts)
    kernels, shared, renamed = _merged(parts)
    arena = max(part.arena for part in parts)
    assembly = f"kernels_{identifier(target.core.name)}.S"
    tuned = any(kernel.assembly for kernel in kernels)
    sources = ("app.c", *(f"{part.name}.c" for part in parts), "kernels.c")
    model = Model(
        name=APP,
        macro=APP.upper(),
        sha256="",
        core=target.core.name,
        sources=(*sources, *([assembly] if tuned else [])),
        host_sources=(*sources, *(["kernels_host.c"] if tuned else [])),
        firmware=firmware.PLAIN_SOURCES,
    )
    facts = {
        "model": model,
        "target": target,
        "console": None,
        "prefixes": tuple(part.name for part in parts),
        "parts": parts,
        "arena": arena,
        "alignment": ALIGNMENT,
        "kernels": kernels,
        "floats": any(has_floats(kernel.c) for kernel in kernels),
    }
    files = _board_files(facts)
    for part in parts:
        files[f"{part.name}.h"] = part.header
        files[f"{part.name}.c"] = _with_names(part.source, renamed)
    helpers = _union(part.kernels.helpers for part in parts)
    files["kernels.c"] = _in_c(facts, helpers, [k.c for k in kernels if k.c])
    if tuned:
        files[assembly] = render("app/kernels.S.j2", **facts)
        twin_helpers = _union(part.kernels.twin_helpers for part in parts)
        files["kernels_host.c"] = _in_c(facts, twin_helpers, [k.twin for k in kernels if k.twin])
    project = Project(
        files, model.sources, model.host_sources, model.firmware, firmware.build_id(files)
    )
    separate = sum(len(part.kernels.functions) for part in parts)
    return Linked(project, arena, len(kernels), separate, shared, renamed)


def _board_files(facts: Mapping[str, object]) -> dict[str, str]:
    app = ("app.h", "app.c", "main.c", "kernels.h")
    board = ("startup.c", "link.ld", "Makefile", "CMakeLists.txt")
    files = {name: render(f"app/{name}.j2", **facts) for name in app}
    return files | {name: render(f"board/{name}.j2", **facts) for name in board}


def _in_c(facts: Mapping[str, object], helpers: list[str], bodies: list[str]) -> str:
    return render("app/kernels.c.j2", **facts, definitions=[*helpers, *bodies])


def _check_names(parts: tuple[Part, ...]) -> None:
    """No two models may define the same file, symbol or macro."""
    names = [part.name for part in parts]
    owners: dict[str, str] = {}
    for part in parts:
        if names.count(part.name) > 1:
            raise _clash(part.name, f"two models are called {part.name!r}")
        if part.name.startswith(_RESERVED):
            raise _clash("model", f"model {part.name!r}: files and names of the firmware begin so")
        strangers = [
            k.name for k in part.kernels.functions if not k.name.startswith(f"{part.name}_")
        ]
        if strangers:
            raise UsageError(
                f"model {part.name!r}: {strangers[0]} is none of its kernels",
                hint="generate the project again",
            )
        for symbol in sorted(_symbols(part)):
            other = owners.setdefault(symbol, part.name)
            if other != part.name:
                raise _clash(part.name, f"models {other!r} and {part.name!r} both define {symbol}")


def _symbols(part: Part) -> set[str]:
    """The macros, types and functions of a model's header, and its kernels."""
    text = re.sub(r"/\*.*?\*/", "", part.header, flags=re.S)
    macros = set(re.findall(r"^#define (\w+)", text, re.M)) - {"THUMBNET_API"}
    functions = set(re.findall(r"(\w+)\(", text))
    types = set(re.findall(r"^} (\w+);", text, re.M))
    return macros | functions | types | {kernel.name for kernel in part.kernels.functions}


def _clash(name: str, what: str) -> UsageError:
    return UsageError(what, hint=f"generate one of them again, with --name {name}_2 for example")


def _merged(
    parts: tuple[Part, ...],
) -> tuple[tuple[Kernel, ...], tuple[Shared, ...], dict[str, str]]:
    """Every kernel once, in the order of the models; which are shared; and their new names by old ones."""
    users: dict[Kernel, list[tuple[str, Kernel]]] = {}
    for part in parts:
        for kernel in part.kernels.functions:
            users.setdefault(kernel.named("@"), []).append((part.name, kernel))
    kernels: dict[str, Kernel] = {}
    shared: list[Shared] = []
    renamed: dict[str, str] = {}
    for uses in users.values():
        owner, kernel = uses[0]
        models = tuple(dict.fromkeys(model for model, _ in uses))
        name = kernel.name
        if len(models) > 1:
            name = _unique(f"{APP}_{name.removeprefix(f'{owner}_')}", kernels)
            shared.append(Shared(name, models))
        kernels[name] = kernel.named(name)
        renamed |= {use.name: name for _, use in uses if use.name != name}
    return tuple(kernels.values()), tuple(shared), renamed


def _unique(name: str, taken: Mapping[str, Kernel]) -> str:
    number, found = 2, name
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found


def _union(lists: Iterable[tuple[str, ...]]) -> list[str]:
    """Helpers of all models, each once; every helper stays behind those that its model has before it."""
    found: dict[str, str] = {}
    for helpers in lists:
        for text in helpers:
            name = units.defined_name(text)
            if found.setdefault(name, text) != text:
                raise UsageError(
                    f"the models have different helpers called {name!r}",
                    hint="generate all of them with the same version of thumbnet",
                )
    return list(found.values())


def _with_names(source: str, renamed: Mapping[str, str]) -> str:
    return re.sub(r"\w+", lambda word: renamed.get(word[0], word[0]), source)
