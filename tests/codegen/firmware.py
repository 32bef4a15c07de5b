"""Networks as firmware: written, built, run on the host and on an emulated core."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from codegen import check_plan, emit, plan, reference
from codegen.ir import Array, Graph
from codegen.kernel import Kernel, Order
from emulator.cortex_m import CortexM
from emulator.host import HostModel
from emulator.model import EmulatedInference, EmulatedModel
from targets import toolchain
from targets.machine import ModelImage
from targets.target import Target, load

COMPILER = "gcc" if shutil.which("arm-none-eabi-gcc") else "zig"


@dataclass(frozen=True)
class Written:
    """A project in a folder."""

    folder: Path
    target: str
    image: ModelImage
    sources: tuple[str, ...]
    host_sources: tuple[str, ...]


def write(
    graph: Graph,
    target: str,
    folder: Path,
    kernel: Kernel | None = None,
    order: Order | None = None,
) -> Written:
    chosen = {"node": kernel.name} if kernel else {}
    return write_chosen(graph, target, folder, chosen, order)


def write_chosen(
    graph: Graph,
    target: str,
    folder: Path,
    kernels: Mapping[str, str],
    order: Order | None = None,
) -> Written:
    """A project with the kernels named, by their layers; of one step in an order, if one is given."""
    made = check_plan.check(plan.make(graph, load(target).core, "speed", kernels))
    return write_plan(made if order is None else _apart(made, order), target, folder)


def write_plan(made: plan.Plan, target: str, folder: Path) -> Written:
    """A project as planned, in a folder that is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    project = emit.emit(made, plain(target), "0" * 64)
    for name, text in project.files.items():
        (folder / name).write_text(text)
    graph = made.graph
    sizes = [
        tuple(graph.tensors[p.tensor].bytes for p in ports)
        for ports in (graph.inputs, graph.outputs)
    ]
    image = ModelImage(graph.name, len(made.steps), sizes[0], sizes[1], max(made.size, 4))
    return Written(folder, target, image, project.sources, project.host_sources)


def _apart(made: plan.Plan, order: Order) -> plan.Plan:
    """The plan of one step with disjoint tensors, so that either order is legal."""
    (step,), (function,) = made.steps, made.functions
    top = -(-max(made.size, *(slot.end for slot in step.inputs)) // 4) * 4
    moved = replace(step.output, offset=top)
    slots = {name: moved if slot is step.output else slot for name, slot in made.slots.items()}
    return check_plan.check(
        replace(
            made,
            steps=(replace(step, order=order, output=moved),),
            functions=(replace(function, order=order),),
            slots=slots,
            size=-(-moved.end // 4) * 4,
        )
    )


def plain(name: str) -> Target:
    """A board without its console: all its RAM is the model's."""
    return replace(load(name), family="", console="")


def on_host(written: Written, inputs: tuple[Array, ...]) -> Array:
    return all_on_host(written, inputs)[0]


def all_on_host(
    written: Written, inputs: tuple[Array, ...], options: tuple[str, ...] = ()
) -> tuple[Array, ...]:
    """Every output of the model on this machine, each (samples, bytes) int8."""
    library = written.folder / "libnet.so"
    toolchain.build_host(written.folder, written.host_sources, library, options)
    return HostModel(library, written.image).run(inputs)  # type: ignore[arg-type]


def on_core(written: Written, inputs: tuple[Array, ...], compiler: str = COMPILER) -> Array:
    return all_on_core(written, inputs, compiler)[0]


def all_on_core(
    written: Written, inputs: tuple[Array, ...], compiler: str = COMPILER
) -> tuple[Array, ...]:
    """Every output of the model on the emulated core, each (samples, bytes) int8."""
    elf = written.folder / "net.elf"
    sources = ("startup.c", "main.c", *written.sources)
    target = plain(written.target)
    chosen = toolchain.find(compiler)
    toolchain.build_firmware(chosen, target, written.folder, sources, "link.ld", elf)
    with EmulatedModel(CortexM(target, elf, count=True, watch=True), written.image) as model:
        runs = [model.infer(tuple(x[i].tobytes() for x in inputs)) for i in range(len(inputs[0]))]
    return tuple(
        np.stack([np.frombuffer(run.outputs[i], np.int8) for run in runs])
        for i in range(len(written.image.outputs))
    )


def expected(graph: Graph, inputs: tuple[Array, ...]) -> Array:
    wanted = reference.run(graph, inputs)[0]
    return wanted.reshape(len(wanted), -1)


def every_byte(graph: Graph, written: Written, inputs: tuple[Array, ...]) -> None:
    """NumPy reference == C on the host == C on the emulated core."""
    wanted = expected(graph, inputs)
    np.testing.assert_array_equal(on_host(written, inputs), wanted)
    np.testing.assert_array_equal(on_core(written, inputs), wanted)


def inferred(written: Written, inputs: tuple[Array, ...]) -> EmulatedInference:
    """The first sample once more, unwatched, in the image that `on_core` built."""
    machine = CortexM(load(written.target), written.folder / "net.elf", count=True)
    with EmulatedModel(machine, written.image) as model:
        return model.infer(tuple(x[0].tobytes() for x in inputs))
