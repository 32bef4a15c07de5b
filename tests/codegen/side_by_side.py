"""Many layers in one firmware: each reads an input of its own, and runs in every kernel that serves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from codegen import reference
from codegen.ir import Array, Graph, Port, verify_quantized
from codegen.kernel import Kernel, Layer
from codegen.ops import KERNELS
from targets.target import load
from tests.codegen import networks
from tests.codegen.firmware import COMPILER, all_on_core, all_on_host, write_chosen


@dataclass(frozen=True)
class Together:
    """Layers of one node each as one network, a node for each layer and kernel.

    Attributes:
        graph: the network; output number n is that of node number n.
        kernels: the kernel of each node, by the node's label.
    """

    graph: Graph
    kernels: dict[str, str]


def serving(graph: Graph, target: str) -> list[Kernel]:
    """The kernels that can run a network of one node on a target's core, the fastest first."""
    node = graph.nodes[0]
    operands = tuple(graph.tensors[name] for name in node.inputs)
    layer = Layer(node, operands, graph.tensors[node.output], load(target).core)
    found = [kernel for kernel in KERNELS[node.op.kind] if kernel.serves(layer)]
    return sorted(found, key=lambda kernel: kernel.cycles(layer))


def together(layers: Sequence[Graph], target: str, fastest: bool) -> Together:
    """One network of networks of one node each, for a target; `fastest` takes one kernel for each."""
    tensors, nodes, inputs, outputs, kernels = {}, [], [], [], {}
    for index, layer in enumerate(layers):
        (node,) = layer.nodes
        names = {name: f"{index}_{name}" for name in layer.tensors}
        operands = tuple(names[name] for name in node.inputs)
        for name in node.inputs:
            tensors[names[name]] = replace(layer.tensors[name], name=names[name])
        inputs += [_port(port, names[port.tensor]) for port in layer.inputs]
        kernels_of = serving(layer, target)
        for kernel in kernels_of[:1] if fastest else kernels_of:
            label = f"{index}_{kernel.name}"
            tensors[label] = replace(layer.tensors[node.output], name=label)
            nodes.append(replace(node, inputs=operands, output=label, sources=(label,)))
            outputs.append(_port(layer.outputs[0], label))
            kernels[label] = kernel.name
    graph = Graph("net", tensors, tuple(nodes), tuple(inputs), tuple(outputs))
    return Together(verify_quantized(graph), kernels)


def _port(port: Port, name: str) -> Port:
    return replace(port, name=name, tensor=name)


def every_byte_together(
    layers: Sequence[Graph],
    targets: Sequence[str],
    folder: Path,
    seed: int,
    fastest: bool = False,
    compiler: str = COMPILER,
) -> None:
    """NumPy reference == C on the host == C on the emulated core, for every layer and kernel.

    Args:
        layers: networks of one node each.
        targets: names of boards.
        folder: an empty one.
        seed: of the inputs.
        fastest: whether one kernel of each layer is enough.
        compiler: of the firmware; the host is left out where it is not the usual one.
    """
    for target in targets:
        found = together(layers, target, fastest)
        inputs = networks.samples(found.graph, np.random.default_rng(seed), 1)
        wanted = reference.run(found.graph, inputs)
        place = folder / target  # a library is loaded once by its path
        place.mkdir()
        written = write_chosen(found.graph, target, place, found.kernels)
        results = {target: all_on_core(written, inputs, compiler)}
        if compiler == COMPILER:
            results["host"] = all_on_host(written, inputs, ("-O1",))
        for where, got in results.items():
            for label, mine, right in zip(found.kernels, got, wanted, strict=True):
                _alike(mine, right, f"{label}, {target}, on {where}")


def _alike(got: Array, wanted: Array, what: str) -> None:
    flat = wanted.reshape(len(wanted), -1).view(np.int8)
    np.testing.assert_array_equal(got, flat, err_msg=what)
