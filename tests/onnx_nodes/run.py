"""Node tests of ONNX through the compiler: emitted C on the host against the values that ONNX expects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from codegen import check_plan, importer, pipeline, plan, reference
from codegen.floats import all_floats
from codegen.ir import Array, Graph, verify_quantized
from codegen.passes.binarize import binarize
from codegen.passes.lift_signs import lift_signs
from emulator.host import HostModel
from targets import toolchain
from targets.errors import UnsupportedModel
from targets.machine import ModelImage
from targets.target import load
from tests.codegen.firmware import write_plan
from tests.onnx_nodes import cases

TARGET = "generic-m4"
PASSING = Path(__file__).parent / "passing.txt"
STRICT = ("-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror")
SANITIZED = ("-O1", "-fsanitize=undefined,float-cast-overflow", "-fno-sanitize-recover=all")
FEW_BITS = {"int2": np.int8, "int4": np.int8, "uint2": np.uint8, "uint4": np.uint8}


@dataclass(frozen=True)
class Compiled:
    """A case as C."""

    graph: Graph
    inputs: tuple[Array, ...]
    expected: tuple[Array, ...]
    image: ModelImage
    sources: tuple[str, ...]


def compiled(case: Any, folder: Path) -> Compiled:
    """The case's C, written into folder/NAME.

    Raises:
        UnsupportedModel: thumbnet refuses it.
    """
    model, given = cases.frozen(case)
    home = folder / case.name
    home.mkdir(parents=True)
    file = home / f"{case.name}.onnx"
    onnx.save(model, file)
    graph = importer.load(file, floats=True)
    passes = tuple(p for p in pipeline.PASSES if p not in (binarize, lift_signs))
    graph = verify_quantized(all_floats(pipeline.run(graph, passes)))
    made = check_plan.check(plan.make(graph, load(TARGET).core, "speed"))
    written = write_plan(made, TARGET, home)
    (_, expected), *_ = case.data_sets
    inputs = tuple(stored(graph, p.tensor, given[p.name], p.perm) for p in graph.inputs)
    wanted = tuple(np.asarray(cases.array(value)) for value in expected)
    sources = tuple(f"{case.name}/{source}" for source in written.host_sources)
    return Compiled(graph, inputs, wanted, written.image, sources)


def stored(graph: Graph, tensor: str, value: Array, perm: tuple[int, ...]) -> Array:
    """One sample of an input as the device holds it."""
    found = graph.tensors[tensor]
    array = np.asarray(value)
    array = array.astype(FEW_BITS.get(array.dtype.name, array.dtype)).astype(found.numpy)
    whole = tuple(found.shape[perm.index(axis)] for axis in range(len(perm)))
    return np.ascontiguousarray(array.reshape(whole).transpose(perm))


def build(made: Iterable[Compiled], folder: Path, options: tuple[str, ...]) -> Path:
    """All cases in one library for this machine."""
    library = folder / "nodes.so"
    sources = tuple(source for one in made for source in one.sources)
    toolchain.build_host(folder, sources, library, options)
    return library


def outputs(one: Compiled, library: Path) -> list[Array]:
    """What the C computes, as ONNX shapes it."""
    found = HostModel(library, one.image).run(one.inputs)  # type: ignore[arg-type]
    return [
        in_onnx(one.graph, index, data, wanted.shape)
        for index, (data, wanted) in enumerate(zip(found, one.expected, strict=True))
    ]


def by_reference(one: Compiled) -> list[Array]:
    """What the NumPy reference computes, as ONNX shapes it."""
    found = reference.run(one.graph, one.inputs)
    return [
        in_onnx(one.graph, index, np.ascontiguousarray(data).view(np.int8), wanted.shape)
        for index, (data, wanted) in enumerate(zip(found, one.expected, strict=True))
    ]


def in_onnx(graph: Graph, index: int, data: Array, shape: tuple[int, ...]) -> Array:
    """An output's bytes as numbers in the shape and order of axes that ONNX gives it."""
    port = graph.outputs[index]
    tensor = graph.tensors[port.tensor]
    values = np.frombuffer(data.tobytes(), tensor.numpy).reshape(tensor.shape)
    return values.transpose(np.argsort(port.perm)).reshape(shape)


def difference(case: Any, found: Array, expected: Array) -> str:
    """Why a result is wrong; empty where it is right."""
    wanted = expected.astype(FEW_BITS.get(expected.dtype.name, expected.dtype))
    if found.dtype != wanted.dtype:
        return f"type {found.dtype}, not {wanted.dtype}"
    if wanted.dtype.kind != "f":
        wrong = int(np.count_nonzero(found != wanted))
    else:
        atol = max(case.atol, cases.ATOL.get(cases.operator(case), 0.0))
        close = np.isclose(found, wanted, rtol=case.rtol, atol=atol, equal_nan=True)
        wrong = int(np.count_nonzero(~close))
    return f"{wrong} of {wanted.size} values differ" if wrong else ""


def judged(case: Any, one: Compiled, library: Path) -> str:
    """ "pass", or what is wrong."""
    exact = by_reference(one)
    for index, (found, wanted) in enumerate(zip(outputs(one, library), one.expected, strict=True)):
        why = difference(case, found, wanted)
        if why:
            return f"wrong: output {index}: {why}"
        if found.tobytes() != exact[index].tobytes():
            return f"wrong: output {index} differs from the NumPy reference"
    return "pass"


def results(
    names: Iterable[str], folder: Path, options: tuple[str, ...] = STRICT
) -> Mapping[str, str]:
    """For every case "pass", "refused: ..." or "wrong: ..."; `options` are the C compiler's."""
    found: dict[str, str] = {}
    made: dict[str, Compiled] = {}
    for name in names:
        try:
            made[name] = compiled(cases.relevant()[name], folder)
        except UnsupportedModel as error:
            found[name] = f"refused: {error}"
    library = build(made.values(), folder, options) if made else folder
    for name, one in made.items():
        found[name] = judged(cases.relevant()[name], one, library)
    return found
