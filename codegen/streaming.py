"""A causal network over time as one that takes a frame at a time and keeps what it still needs.

Every convolution over time reads its last frames again: `(kernel - 1) * dilation` of them become a state,
an input that is put before the frame and an output that has moved on by one. At the beginning a state
holds the input's zero point, as the padding of the whole network does; so the results are the bytes of the
whole network, frame by frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod

from codegen.forms import Reshape
from codegen.ir import Graph, Node, Port, Tensor, verify_quantized
from codegen.ops.concat import Concat
from codegen.ops.conv2d import Conv2D
from codegen.ops.slice import Slice
from targets.errors import UnsupportedModel

POINTWISE = frozenset({"add", "lookup", "mul"})
Shape = tuple[int, ...]


@dataclass
class _Frames:
    """The graph of one frame under construction; `axis` is that of time, of every activation."""

    whole: Graph
    axis: dict[str, int] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    before: list[Port] = field(default_factory=list)
    after: list[Port] = field(default_factory=list)

    def shape(self, name: str) -> Shape:
        """One frame of an activation of the whole network."""
        found, axis = self.whole.tensors[name].shape, self.axis[name]
        return (*found[:axis], 1, *found[axis + 1 :])

    def define(self, name: str, axis: int) -> None:
        """Adds one frame of an activation."""
        self.axis[name] = axis
        self.tensors[name] = replace(self.whole.tensors[name], shape=self.shape(name))

    def emit(self, node: Node) -> None:
        """Adds a node, and the constants that it reads."""
        for name in node.inputs:
            if name not in self.tensors:
                self.tensors[name] = self.whole.tensors[name]
        self.nodes.append(node)


def per_frame(graph: Graph) -> Graph:
    """The network of one frame, with a state for every convolution over time.

    Args:
        graph: a quantized graph with one input; time is the first axis of the input in the device's layout,
            after the batch, that is longer than 1.

    Raises:
        UnsupportedModel: a layer sees the future, skips frames, or mixes them otherwise; it is named.
    """
    port = graph.inputs[0]
    if len(graph.inputs) != 1 or max(graph.tensors[port.tensor].shape) == 1:
        raise UnsupportedModel("--per-frame takes a network with one input over time")
    shape = graph.tensors[port.tensor].shape
    axis = next(axis for axis, size in enumerate(shape) if axis and size > 1)
    new = _Frames(graph)
    new.define(port.tensor, axis)
    for node in graph.nodes:
        _add(node, new)
    inputs = (_of_frame(port, new), *new.before)
    outputs = (*(_of_frame(port, new) for port in graph.outputs), *new.after)
    states = tuple((len(graph.outputs) + i, 1 + i) for i in range(len(new.before)))
    made = replace(
        graph, tensors=new.tensors, nodes=tuple(new.nodes), inputs=inputs, outputs=outputs
    )
    return verify_quantized(replace(made, states=states))


def _of_frame(port: Port, new: _Frames) -> Port:
    device = new.tensors[port.tensor].shape
    shape = tuple(device[port.perm.index(axis)] for axis in range(len(device)))
    return replace(port, shape=shape)


def _add(node: Node, new: _Frames) -> None:
    x = node.inputs[0]
    axis = new.axis[x]
    if isinstance(node.op, Reshape):
        _reshape(node, new)
    elif isinstance(node.op, Conv2D):
        _convolution(node, node.op, new)
    elif _is_pointwise(node, new):
        new.define(node.output, axis)
        new.emit(node)
    else:
        raise _refused(node, f"{node.op.kind} over time")


def _is_pointwise(node: Node, new: _Frames) -> bool:
    """Whether a layer treats every frame alike."""
    if node.op.kind == "dense":
        return new.axis[node.inputs[0]] < len(new.shape(node.inputs[0])) - 1
    return node.op.kind in POINTWISE and _alike(node, new)


def _alike(node: Node, new: _Frames) -> bool:
    """Whether all operands have time on one axis, and constants are the same for all frames."""
    axes = {new.axis[name] for name in node.inputs if name in new.axis}
    constants = [new.whole.tensors[name] for name in node.inputs if name not in new.axis]
    rank = len(new.whole.tensors[node.output].shape)
    steady = all(len(t.shape) < rank or t.shape[axis] == 1 for t in constants for axis in axes)
    return len(axes) == 1 and steady


def _reshape(node: Node, new: _Frames) -> None:
    """Time keeps its place among the elements."""
    old, wanted = new.whole.tensors[node.inputs[0]].shape, new.whole.tensors[node.output].shape
    axis = new.axis[node.inputs[0]]
    before, size = prod(old[:axis]), old[axis]
    for place, extent in enumerate(wanted):
        if extent == size and prod(wanted[:place]) == before:
            new.define(node.output, place)
            new.emit(replace(node, op=Reshape(new.shape(node.output))))
            return
    raise _refused(node, "a new shape that mixes frames")


def _convolution(node: Node, op: Conv2D, new: _Frames) -> None:
    x, axis = node.inputs[0], new.axis[node.inputs[0]]
    if axis not in (1, 2):
        raise _refused(node, "channels over time")
    along = axis - 1
    kernel = new.whole.tensors[node.inputs[1]].shape[1 + along]
    seen = (kernel - 1) * op.dilation[along]
    if op.stride[along] != 1 or (op.pads[along], op.pads[along + 2]) != (seen, 0):
        raise _refused(node, "a window that is not causal, or that skips frames")
    new.define(node.output, axis)
    if not seen:
        new.emit(node)
        return
    top, left, bottom, right = op.pads
    pads = (0, left, 0, right) if along == 0 else (top, 0, bottom, 0)
    frames = _with_state(x, axis, seen, node, new)
    new.emit(replace(node, op=replace(op, pads=pads), inputs=(frames, *node.inputs[1:])))


def _with_state(x: str, axis: int, seen: int, node: Node, new: _Frames) -> str:
    """The frames that are kept with the new one behind them; and what is kept from now on."""
    frame = new.tensors[x]
    names = (f"{node.output}.before", f"{node.output}.frames", f"{node.output}.after")
    sizes = (seen, seen + 1, seen)
    shapes = [(*frame.shape[:axis], size, *frame.shape[axis + 1 :]) for size in sizes]
    for name, shape in zip(names, shapes, strict=True):
        new.tensors[name] = replace(frame, name=name, shape=shape)
    new.nodes.append(Node(Concat(axis), (names[0], x), names[1], node.sources))
    begins = tuple(1 if place == axis else 0 for place in range(len(frame.shape)))
    steps = (1,) * len(frame.shape)
    new.nodes.append(Node(Slice(begins, shapes[2], steps), (names[1],), names[2], node.sources))
    identity = tuple(range(len(frame.shape)))
    new.before.append(Port(names[0], names[0], shapes[0], identity))
    new.after.append(Port(names[2], names[2], shapes[2], identity))
    return names[1]


def _refused(node: Node, what: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{node.label}: {what} cannot run frame by frame",
        hint="--per-frame is for causal convolutions and layers that treat every frame alike",
        node=node.label,
    )
