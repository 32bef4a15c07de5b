"""States: inputs of a network that hold what outputs of it were in the run before."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from codegen.data import DataSet
from codegen.ir import Array, Graph, Port, Quant
from codegen.quant.clipping import Range
from targets.errors import UsageError


def declared(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The graph with states.

    Args:
        graph: a float graph.
        names: of an input in the ONNX file, and of the output that it takes over.

    Raises:
        UsageError: no such input or output, or the two have different shapes or types.
    """
    pairs = []
    for given, taken in names.items():
        index, output = _find(graph.inputs, given, "input"), _find(graph.outputs, taken, "output")
        before = graph.tensors[graph.inputs[index].tensor]
        after = graph.tensors[graph.outputs[output].tensor]
        orders = graph.inputs[index].perm, graph.outputs[output].perm
        if (before.shape, before.dtype, orders[0]) != (after.shape, after.dtype, orders[1]):
            raise UsageError(
                f"--state {given}={taken}: the input has shape {list(before.shape)}, "
                f"the output {list(after.shape)}",
                hint="a state has one shape and type, and one order of axes",
            )
        pairs.append((output, index))
    return replace(graph, states=tuple(sorted(pairs)))


def _find(ports: tuple[Port, ...], name: str, kind: str) -> int:
    found = [index for index, port in enumerate(ports) if port.name == name]
    if found:
        return found[0]
    known = [port.name for port in ports]
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}"
    raise UsageError(f"--state: the model has no {kind} {name!r}", hint=hint)


Run = Callable[[tuple[Array, ...]], tuple[Array, ...]]


def followed(graph: Graph, samples: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    """Inputs whose states are those that the samples, one after the other, lead to.

    Args:
        graph: a graph with or without states.
        samples: one array per input; the first sample's states are what a network begins with.
        run: what gives the outputs of one sample.
    """
    if not graph.states:
        return samples
    taken = {index: output for output, index in graph.states}
    state = {i: samples[i][:1] for i in taken}
    rows: dict[int, list[Array]] = {i: [] for i in taken}
    for sample in range(len(samples[0])):
        given = tuple(
            state[i] if i in taken else x[sample : sample + 1] for i, x in enumerate(samples)
        )
        outputs = run(given)
        for i, output in taken.items():
            rows[i].append(given[i])
            state[i] = outputs[output]
    return tuple(np.concatenate(rows[i]) if i in taken else x for i, x in enumerate(samples))


def fed(graph: Graph) -> tuple[Port, ...]:
    """The inputs that a user fills: all but states."""
    taken = {index for _, index in graph.states}
    return tuple(port for index, port in enumerate(graph.inputs) if index not in taken)


def completed(graph: Graph, found: DataSet) -> DataSet:
    """A data set of the inputs that a user fills, with states of zeros added."""
    taken = {index for _, index in graph.states}
    rows, grids = iter(found.x), iter(found.grids)
    x: list[Array] = []
    kinds: list[Quant | None] = []
    for index, port in enumerate(graph.inputs):
        if index in taken:
            x.append(np.zeros((len(found), *port.shape[1:]), np.float32))
            kinds.append(None)
        else:
            x.append(next(rows))
            kinds.append(next(grids))
    return replace(found, x=tuple(x), grids=tuple(kinds))


def shared(graph: Graph, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges in which a state's input and output have the same, that of both."""
    found = dict(ranges)
    for output, index in graph.states:
        before, after = graph.inputs[index].tensor, graph.outputs[output].tensor
        if before in found and after in found:
            low = min(found[before].low, found[after].low)
            found[before] = found[after] = Range(low, max(found[before].high, found[after].high))
    return found
