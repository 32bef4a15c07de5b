"""Exact simplification of a quantized graph: channels that cannot matter disappear.

1. A channel whose every element is one known value (codegen.intervals) is folded into the biases of the
   convolutions and dense layers that read it. Where their windows reach into padding, the channel must
   equal the zero point, so that it counts nothing inside and outside alike.
2. A channel that nobody needs any more is not computed: its weights go, and in channel-wise operators
   (depthwise, pooling, addition, ...) the channels of operands and result go together.
3. Channels that compute the same are read as one (codegen.merge).
4. Repeated until nothing changes: removed rows leave columns that are all zero.

Every output byte stays the same, for every input. Requantization keeps the shift that it had.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from codegen.channels import flattens, is_channelwise, is_depthwise, mixes
from codegen.forms import Reshape
from codegen.intervals import Interval, analyse
from codegen.ir import Array, Graph, IntArray, Node, Quant, Tensor, verify_quantized
from codegen.merge import merge
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.quant.fixed import INT32_MAX, Requant
from codegen.requantize import ONE, rule

Atom = tuple[str, int]  # a tensor and one of its channels
Kept = Mapping[str, list[int]]


def prune(graph: Graph) -> Graph:
    """The same function with fewer channels. A graph that computes on plain numbers stays as it is."""
    if any(tensor.dtype is not None for tensor in graph.tensors.values()):
        return graph
    while True:
        graph = verify_quantized(merge(graph))
        found = analyse(graph)
        kept = _needed_channels(graph, found)
        if all(len(channels) == graph.tensors[name].shape[-1] for name, channels in kept.items()):
            return graph
        graph = verify_quantized(_rebuilt(graph, kept, found))


@dataclass
class _Groups:
    """Union-find over atoms: channels that must stay or go together."""

    parent: dict[Atom, Atom] = field(default_factory=dict)

    def find(self, atom: Atom) -> Atom:
        while (up := self.parent.setdefault(atom, atom)) != atom:
            self.parent[atom] = self.parent.setdefault(up, up)
            atom = up
        return atom

    def join(self, a: Atom, b: Atom) -> None:
        self.parent[self.find(a)] = self.find(b)


def _needed_channels(graph: Graph, found: Mapping[str, Interval]) -> dict[str, list[int]]:
    """For every activation, the channels that must be computed."""
    groups, needed = _Groups(), set[Atom]()
    for node in graph.nodes:
        for a, b in _links(graph, node):
            groups.join(a, b)
    for port in (*graph.inputs, *graph.outputs):
        needed.update(_atoms(graph, port.tensor))
    for node in graph.nodes:
        needed.update(_reads(graph, node, found))
    roots = {groups.find(atom) for atom in needed}
    activations = [p.tensor for p in graph.inputs] + [n.output for n in graph.nodes]
    kept = {}
    for name in activations:
        channels = [atom[1] for atom in _atoms(graph, name) if groups.find(atom) in roots]
        kept[name] = channels
    return kept if all(kept.values()) else _with_one_each(graph, groups, roots, kept)


def _with_one_each(
    graph: Graph, groups: _Groups, roots: set[Atom], kept: dict[str, list[int]]
) -> dict[str, list[int]]:
    """No tensor may vanish altogether: where nothing is needed, the first channel stays."""
    more = set(roots)
    for name, channels in kept.items():
        if not channels:
            more.add(groups.find((name, 0)))
    return {
        name: [atom[1] for atom in _atoms(graph, name) if groups.find(atom) in more]
        for name in kept
    }


def _atoms(graph: Graph, name: str) -> Iterator[Atom]:
    return ((name, channel) for channel in range(graph.tensors[name].shape[-1]))


def _activations(graph: Graph, node: Node) -> list[str]:
    return [name for name in node.inputs if graph.tensors[name].data is None]


def _links(graph: Graph, node: Node) -> Iterator[tuple[Atom, Atom]]:
    """Channels of operands and result that a channel-wise operator ties together."""
    channels = graph.tensors[node.output].shape[-1]
    if is_channelwise(graph, node):
        for name in _activations(graph, node):
            depth = graph.tensors[name].shape[-1]
            if depth == channels:
                yield from (((name, c), (node.output, c)) for c in range(channels))
    elif flattens(graph, node):
        depth = graph.tensors[node.inputs[0]].shape[-1]
        yield from (((node.inputs[0], i % depth), (node.output, i)) for i in range(channels))


def _reads(graph: Graph, node: Node, found: Mapping[str, Interval]) -> Iterator[Atom]:
    """Channels of its operands that a node needs whatever becomes of its own."""
    if flattens(graph, node):
        return
    if is_channelwise(graph, node):
        for name in _activations(graph, node):  # what has one channel for all is never cut
            if graph.tensors[name].shape[-1] != graph.tensors[node.output].shape[-1]:
                yield from _atoms(graph, name)
        return
    if not mixes(graph, node):
        for name in _activations(graph, node):
            yield from _atoms(graph, name)
        # Its result keeps all channels too: such operators are not cut.
        yield from _atoms(graph, node.output)
        return
    x = node.inputs[0]
    weights = graph.tensors[node.inputs[1]].values
    used = np.abs(weights.astype(np.int64)).reshape(-1, weights.shape[-1]).sum(axis=0)
    constants = _foldable(graph, node, found)
    for name, channel in _atoms(graph, x):
        if used[channel] > 0 and channel not in constants:
            yield name, channel


def _foldable(graph: Graph, node: Node, found: Mapping[str, Interval]) -> dict[int, int]:
    """Constant channels of a layer's input that its bias can take over, and their values."""
    x = graph.tensors[node.inputs[0]]
    constants = found[x.name].channel_constants()
    if isinstance(node.op, Conv2D) and any(node.op.pads):
        return {c: value for c, value in constants.items() if value == x.grid.zero_point}
    return constants


def _rebuilt(graph: Graph, kept: Kept, found: Mapping[str, Interval]) -> Graph:
    tensors: dict[str, Tensor] = {}
    nodes = []
    for name, channels in kept.items():
        tensor = graph.tensors[name]
        tensors[name] = replace(tensor, shape=(*tensor.shape[:-1], len(channels)))
    for node in graph.nodes:
        changed, constants = _cut(graph, node, kept, found)
        tensors |= {tensor.name: tensor for tensor in constants}
        nodes.append(changed)
    return replace(graph, tensors=tensors, nodes=tuple(nodes))


def _cut(
    graph: Graph, node: Node, kept: Kept, found: Mapping[str, Interval]
) -> tuple[Node, list[Tensor]]:
    """A node on the kept channels, and its constants."""
    op = node.op
    out = kept[node.output]
    if isinstance(op, Conv2D | Dense):
        return _cut_layer(graph, node, kept, found)
    if isinstance(op, Reshape):
        return replace(node, op=Reshape((*op.shape[:-1], len(out)))), []
    operands, constants = [], []
    for tensor in (graph.tensors[name] for name in node.inputs):
        if tensor.data is not None:
            tensor = _cut_constant(graph, node, tensor, out)  # noqa: PLW2901
            constants.append(tensor)
        operands.append(tensor.name)
    return replace(node, inputs=tuple(operands)), constants


def _cut_constant(graph: Graph, node: Node, tensor: Tensor, channels: list[int]) -> Tensor:
    """A constant operand on the channels of the result; a copy, for others may read the whole."""
    if tensor.shape[-1] != graph.tensors[node.output].shape[-1] or tensor.shape[-1] == len(
        channels
    ):
        return tensor
    data = tensor.values[..., channels]
    name = f"{tensor.name} for {node.output}"
    return replace(tensor, name=name, data=data, shape=data.shape)


def _cut_layer(
    graph: Graph, node: Node, kept: Kept, found: Mapping[str, Interval]
) -> tuple[Node, list[Tensor]]:
    op = node.op
    assert isinstance(op, Conv2D | Dense)
    x, w, b = (graph.tensors[name] for name in node.inputs)
    rows, columns = kept[node.output], kept[x.name]
    requant = rule(
        (x.grid, w.grid), graph.tensors[node.output].grid, ONE, op.rounding, node.label, op.shift
    )
    if isinstance(requant, Requant):
        op = replace(op, shift=requant.shift)
    bias: IntArray = b.values.astype(np.int64)
    data = w.values
    if isinstance(op, Conv2D) and op.groups > 1:
        if is_depthwise(graph, node):
            op = replace(op, groups=len(rows))
    else:
        gone = sorted(set(range(x.shape[-1])) - set(columns))
        bias = bias + _folded(data, gone, _foldable(graph, node, found), x.grid)
        data = data[..., columns]
    if np.abs(bias).max(initial=0) > INT32_MAX:
        raise AssertionError(f"{node.label}: a folded bias leaves 32 bits")
    weights = _rows(replace(w, data=data), rows)
    return replace(node, op=op), [weights, _rows(replace(b, data=bias.astype(np.int32)), rows)]


def _folded(
    weights: Array, gone: Iterable[int], constants: Mapping[int, int], x: Quant
) -> IntArray:
    """What removed channels add to every accumulator: (value - zp) * sum of their weights."""
    total = np.zeros(len(weights), np.int64)
    for channel in gone:
        column = weights[..., channel].astype(np.int64).reshape(len(weights), -1).sum(axis=1)
        # A channel without a constant is removed only where all its weights are zero.
        total += (constants.get(channel, x.zero_point) - x.zero_point) * column
    return total


def _rows(tensor: Tensor, rows: list[int]) -> Tensor:
    """A per-channel constant on some of its channels (axis 0), with its grid."""
    grid = tensor.grid
    cut = replace(
        grid,
        scales=tuple(grid.scales[row] for row in rows),
        zero_points=tuple(grid.zero_points[row] for row in rows),
    )
    data = tensor.values[rows]
    return replace(tensor, data=data, shape=data.shape, quant=cut)
