"""Operators on plain numbers side by side in one network, so that one build serves many of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codegen import graph_file, reference
from codegen.ir import Array, Graph, Node, Port, Tensor, verify, verify_quantized
from codegen.plain import PlainOp, with_one_nan
from emulator.cortex_m import CortexM
from emulator.host import HostModel
from emulator.model import EmulatedModel
from targets import toolchain
from tests.codegen import firmware

CORES = ("generic-m0plus", "generic-m4")


@dataclass(frozen=True)
class Case:
    """One operator; operands are whole samples, (1, *shape). Those named in `constants` lie in flash."""

    op: PlainOp
    operands: tuple[Array, ...]
    constants: tuple[int, ...] = ()
    types: tuple[str, ...] = ()  # of operands whose type is not NumPy's


def network(cases: Mapping[str, Case]) -> tuple[Graph, tuple[Array, ...]]:
    """All cases as one network, an output each; and the values of its inputs."""
    tensors: dict[str, Tensor] = {}
    nodes, inputs, outputs, values = [], [], [], []
    for name, case in cases.items():
        names, types = [], []
        for index, array in enumerate(case.operands):
            key = f"{name}.{index}"
            types.append(case.types[index] if case.types else array.dtype.name)
            constant = index in case.constants
            data = array if constant else None
            tensors[key] = Tensor(key, array.shape, None, data, dtype=types[-1])
            names.append(key)
            if not constant:
                inputs.append(Port(key, key, array.shape, tuple(range(array.ndim))))
                values.append(array)
        shape = case.op.infer(tuple(array.shape for array in case.operands))
        tensors[name] = Tensor(name, shape, dtype=case.op.result_type(tuple(types)))
        nodes.append(Node(case.op, tuple(names), name, (name,)))
        outputs.append(Port(name, name, shape, tuple(range(len(shape)))))
    graph = Graph("net", tensors, tuple(nodes), tuple(inputs), tuple(outputs))
    return verify_quantized(verify(graph)), tuple(values)


def agreed(cases: Mapping[str, Case], folder: Path) -> dict[str, Array]:
    """What every case computes, without axis 0: the same bytes in NumPy, in C here and on both cores."""
    graph, values = network(cases)
    file = folder / "graph.npz"
    file.write_bytes(graph_file.dump(graph))
    graph = graph_file.load(file)
    wanted = reference.run(graph, values)
    for name, found in zip(CORES, everywhere(graph, values, folder), strict=True):
        for case, data, expected in zip(cases, found, wanted, strict=True):
            assert data == with_one_nan(expected).tobytes(), f"{case} on {name}"
    return {name: array[0] for name, array in zip(cases, wanted, strict=True)}


def everywhere(graph: Graph, values: tuple[Any, ...], folder: Path) -> list[list[bytes]]:
    """The outputs' bytes, here and emulated alike, of what is compiled for each of the cores."""
    results = []
    for core in CORES:
        home = folder / core
        home.mkdir()
        written = firmware.write(graph, core, home)
        library = home / "libnet.so"
        toolchain.build_host(home, written.host_sources, library)
        host = _numbers(graph, HostModel(library, written.image).run(values))
        emulated = _numbers(graph, _emulated(written, values))
        assert host == emulated
        results.append(host)
    return results


def _numbers(graph: Graph, outputs: Sequence[Array | bytes]) -> list[bytes]:
    """The bytes of outputs, every NaN the same one."""
    types = [graph.tensors[port.tensor].numpy for port in graph.outputs]
    return [
        with_one_nan(np.frombuffer(bytes(data), dtype)).tobytes()
        for data, dtype in zip(outputs, types, strict=True)
    ]


def _emulated(written: firmware.Written, values: tuple[Array, ...]) -> list[bytes]:
    elf = written.folder / "net.elf"
    sources = ("startup.c", "main.c", *written.sources)
    target = firmware.plain(written.target)
    compiler = toolchain.find(firmware.COMPILER)
    toolchain.build_firmware(compiler, target, written.folder, sources, "link.ld", elf)
    machine = CortexM(target, elf, count=True, watch=True)
    with EmulatedModel(machine, written.image) as model:
        return list(model.infer(tuple(x[0].tobytes() for x in values)).outputs)
