"""Every operator with every kernel that serves it, as C projects to be analysed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from codegen import check_plan, emit, link, plan, units
from codegen.arrange import Slot
from codegen.emit import Project
from codegen.kernel import Kernel, Layer
from codegen.ops import KERNELS
from codegen.plan import Plan
from targets.target import load
from tests.codegen import cases
from tests.codegen.firmware import plain
from tests.golden.network import NAMES, planned

TARGETS = ("generic-m4", "generic-m0plus")
FEW = 12  # cases of a kernel among which the different ones are looked for
GAP = 32  # bytes between tensors that are spread apart
_NAME_OR_NUMBER = re.compile(r"0x[0-9a-f]+|net_\w+|\d+")
_ONLY_NUMBERS = re.compile(r"[-0u, ]*")


@dataclass(frozen=True)
class Pair:
    """A network of one operator, run by one of its kernels."""

    case: cases.Case
    kernel: Kernel
    target: str

    def __str__(self) -> str:
        return f"{self.case} {self.kernel.name} {self.target}"

    def plan(self, name: str) -> Plan:
        """Its plan as a model of that name."""
        graph = replace(self.case.graph, name=name)
        return plan.make(graph, load(self.target).core, "speed", {"node": self.kernel.name})


def project(made: Plan, target: str) -> Project:
    return emit.emit(made, plain(target), "0" * 64)


def write(folder: Path, files: Project) -> Path:
    folder.mkdir()
    for name, text in files.files.items():
        (folder / name).write_text(text)
    return folder


def pairs() -> Iterator[Pair]:
    """All of them, on a core with and on one without a DSP extension."""
    every = list(cases.cases())
    for target in TARGETS:
        core = load(target).core
        for case in every:
            node = case.graph.nodes[0]
            operands = tuple(case.graph.tensors[name] for name in node.inputs)
            layer = Layer(node, operands, case.graph.tensors[node.output], core)
            for kernel in KERNELS[node.op.kind]:
                if kernel.serves(layer):
                    yield Pair(case, kernel, target)


@cache
def different_pairs() -> tuple[Pair, ...]:
    """One of each kernel, and those whose C has a line that, numbers and names aside, none before has."""
    seen: set[str] = set()
    tried: Counter[tuple[str, str]] = Counter()
    found = []
    for pair in pairs():
        key = pair.kernel.name, pair.target
        tried[key] += 1
        if tried[key] > FEW:
            continue
        lines = _shapes_of_lines(project(pair.plan("net"), pair.target))
        if tried[key] == 1 or not lines <= seen:
            found.append(pair)
            seen |= lines
    return tuple(found)


def _shapes_of_lines(files: Project) -> set[str]:
    text = "\n".join(files.files[name] for name in files.host_sources)
    lines = (line.strip() for line in text.splitlines())
    code = (_NAME_OR_NUMBER.sub("0", line) for line in lines if not line.startswith(("*", "/*")))
    return {line for line in code if not _ONLY_NUMBERS.fullmatch(line)}


def part(made: Plan, target: str) -> link.Part:
    """A plan's C as one of several models."""
    name, files = made.graph.name, project(made, target).files
    assembly = next((text for name, text in files.items() if name.endswith(".S")), "")
    names = ("kernels.h", "kernels.c", "kernels_host.c")
    header, c, twins = (files.get(name, "") for name in names)
    kernels = units.read(header, c, assembly, twins)
    return link.Part(name, made.size, files[f"{name}.h"], files[f"{name}.c"], kernels)


def together(plans: Sequence[Plan], target: str) -> Project:
    """One project of many networks: every kernel once, in one file."""
    return link.link(tuple(part(made, target) for made in plans), plain(target)).project


def whole_networks() -> Iterator[tuple[str, Plan, str]]:
    """Names, plans and targets of the golden network: layer by layer, as a chain, and streamed."""
    for name in NAMES:
        yield name, planned(name), name.split("-chain")[0].split("-stream")[0]


def spread(made: Plan) -> Plan:
    """The plan of one step with every tensor and its scratch apart from the others."""
    (step,) = made.steps
    own = (*step.inputs, step.output, step.scratch, step.rings)
    moved: dict[Slot, Slot] = {}
    top = GAP
    for slot in own:
        if slot is not None and slot not in moved:
            moved[slot] = replace(slot, offset=top)
            top = -(-(moved[slot].end + GAP) // 4) * 4
    slots = {name: moved.get(slot, slot) for name, slot in made.slots.items()}
    apart = replace(
        step,
        inputs=tuple(moved[slot] for slot in step.inputs),
        output=moved[step.output],
        scratch=None if step.scratch is None else moved[step.scratch],
        rings=None if step.rings is None else moved[step.rings],
    )
    return check_plan.check(replace(made, steps=(apart,), slots=slots, size=top))
