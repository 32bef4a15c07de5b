"""Emitted kernels -> their functions as text, so that equal ones of several models can be told.

Reads only what `emit` writes: C whose definitions start and end in the first column, assembly with a section
per function. Anything else is refused, never guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from targets.errors import UsageError

_PROTOTYPE = re.compile(r"^void (\w+)\(([^()]*)\);$", re.M)
_SECTION = re.compile(r'^    \.section \.text\.(\w+), "ax", %progbits$', re.M)
_COMMENT = re.compile(r"/\*.*?\*/", re.S)
_ATTRIBUTE = re.compile(r"__attribute__\(\([^()]*\)\)")


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel of a model.

    Attributes:
        name: its symbol.
        parameters: of its prototype.
        c: its definition in kernels.c, with static functions of its own; empty where it is in assembly.
        assembly: its section, without directives around it; empty where it is in C.
        twin: what stands in for the assembly on a host.
    """

    name: str
    parameters: str
    c: str = ""
    assembly: str = ""
    twin: str = ""

    def named(self, name: str) -> Kernel:
        """The same kernel under another name."""
        texts = (self.parameters, self.c, self.assembly, self.twin)
        return Kernel(name, *(text.replace(self.name, name) for text in texts))


@dataclass(frozen=True, slots=True)
class Kernels:
    """The kernels of one model.

    Attributes:
        functions: in the order of their prototypes.
        helpers: static functions that several kernels in C use, in the order in which they are defined.
        twin_helpers: the same of the twins.
    """

    functions: tuple[Kernel, ...]
    helpers: tuple[str, ...]
    twin_helpers: tuple[str, ...]


def read(header: str, c: str, assembly: str = "", twins: str = "") -> Kernels:
    """The kernels of a model.

    Args:
        header: kernels.h.
        c: kernels.c.
        assembly: kernels_CORE.S, if there is one.
        twins: kernels_host.c, if there is one.

    Raises:
        UsageError: these are not files as `emit` writes them.
    """
    found = {name: Kernel(name, parameters) for name, parameters in _PROTOTYPE.findall(header)}
    own, helpers = _shared_out(definitions(c), found)
    twin, twin_helpers = _shared_out(definitions(twins), found)
    sections = _sections(assembly, found)
    functions = tuple(
        replace(kernel, c=own[name], assembly=sections.get(name, ""), twin=twin[name])
        for name, kernel in found.items()
    )
    for kernel in functions:
        if bool(kernel.c) == bool(kernel.assembly) or bool(kernel.assembly) != bool(kernel.twin):
            raise _strange(f"{kernel.name} is not defined once")
    return Kernels(functions, helpers, twin_helpers)


def definitions(text: str) -> tuple[str, ...]:
    """The top-level definitions of a C file after its last #include, each with the comment before it."""
    _, includes, rest = text.rpartition("#include ")
    lines = rest.split("\n")[1:] if includes else text.split("\n")
    found: list[str] = []
    unit: list[str] = []
    in_braces = in_comment = False
    for line in lines:
        if not line and not unit:
            continue
        unit.append(line)
        if in_braces:
            complete = line.startswith("}")
            in_braces = not complete
        elif in_comment or line.startswith("/*"):
            complete, in_comment = False, not line.endswith("*/")
        else:
            complete, in_braces = line.endswith(";"), line.endswith("{")
        if complete:
            found.append("\n".join(unit))
            unit = []
    if any(unit):
        raise _strange("the end of a definition is missing")
    return tuple(found)


def defined_name(definition: str) -> str:
    """What a definition defines: a function, an array or a type; its first line if it is none of these."""
    text = _ATTRIBUTE.sub("", _COMMENT.sub("", definition)).strip()
    match = re.search(r"(\w+)(?=\s*[(\[{;])", text)
    return match[1] if match else text.partition("\n")[0]


def _shared_out(
    texts: Iterable[str], kernels: Mapping[str, Kernel]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Definitions by the kernel whose name begins theirs, and the rest."""
    own = dict.fromkeys(kernels, "")
    helpers = []
    longest = sorted(kernels, key=len, reverse=True)
    for text in texts:
        name = defined_name(text)
        owner = next((k for k in longest if name == k or name.startswith(f"{k}_")), None)
        if owner is None:
            helpers.append(text)
        else:
            own[owner] += ("\n\n" if own[owner] else "") + text
    return own, tuple(helpers)


def _sections(assembly: str, kernels: Mapping[str, Kernel]) -> dict[str, str]:
    starts = [match for match in _SECTION.finditer(assembly) if match[1] in kernels]
    bounds = [*(match.start() for match in starts), len(assembly)]
    found: dict[str, str] = {}
    for match, (start, end) in zip(starts, pairwise(bounds), strict=True):
        if match[1] in found:
            raise _strange(f"{match[1]} is defined twice")
        found[match[1]] = assembly[start:end].rstrip("\n")
    return found


def _strange(why: str) -> UsageError:
    return UsageError(
        f"the kernels are not as thumbnet writes them: {why}", hint="generate the project again"
    )
