"""Layout is settled at compile time: transpositions move to the ports and vanish there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from codegen.forms import Reshape
from codegen.ir import Array, Graph, Node, Port, Tensor
from codegen.layout import Layout, Perm, View, inverse
from codegen.ops.add import Add
from codegen.ops.concat import Concat
from codegen.ops.dense import Dense
from codegen.ops.lookup import Lookup
from codegen.ops.mean import Mean
from codegen.ops.mul import Mul
from codegen.ops.pad import Pad
from codegen.ops.slice import Slice
from codegen.ops.softmax import Softmax
from codegen.ops.transpose import Transpose, moves_only_units
from codegen.rewrite import uses

DEPTH = 64

Readers: TypeAlias = Mapping[str, Sequence[Node]]


def sink_transposes(graph: Graph) -> Graph:
    """The graph with as few transpositions as these rules leave:

    1. an input that all readers transpose alike, elementwise operators between or not, enters the
       device transposed (`Port.perm`);
    2. a transposition is held back and merged with those that follow; one that only moves axes of
       size 1 is a Reshape; Reshapes in a row are one;
    3. Lookup, Add, Mul, Concat, Pad, Slice, Mean, Softmax and Dense compute on the tensor before
       the transposition, with their constants and axes reordered, where their axes allow it;
    4. so does a Reshape that only adds or removes axes of size 1; a vector lies along the last axis;
    5. a Reshape to (1, K) is made without the transposition, and the order of the K elements is
       carried on to the columns of the Dense that reads them;
    6. an output leaves the device as it is computed (`Port.perm`);
    7. what is left is transposed where it is needed.
    """
    layout = Layout(graph)
    readers = uses(graph).readers
    inputs = tuple(_input(graph, layout, port, readers) for port in graph.inputs)
    for node in graph.nodes:
        RULES.get(type(node.op), _plain)(layout, node)
    outputs = tuple(_output(layout, port) for port in graph.outputs)
    nodes = tuple(layout.nodes)
    return replace(graph, tensors=layout.tensors, nodes=nodes, inputs=inputs, outputs=outputs)


def _input(graph: Graph, layout: Layout, port: Port, readers: Readers) -> Port:
    tensor = graph.tensors[port.tensor]
    identity = tuple(range(len(tensor.shape)))
    perm = _wanted(graph, readers, port.tensor, identity) or identity
    shape = tuple(tensor.shape[axis] for axis in perm)
    layout.tensors[port.tensor] = replace(tensor, shape=shape)
    layout.views[port.tensor] = View(port.tensor, inverse(perm))
    return replace(port, perm=tuple(port.perm[axis] for axis in perm))


def _wanted(
    graph: Graph, readers: Readers, name: str, perm: Perm, depth: int = DEPTH
) -> Perm | None:
    """The order of the input's axes that all its readers want; None when they disagree."""
    orders: set[Perm | None] = {None} if graph.is_output(name) or not depth else set()
    for node in readers.get(name, ()) if depth else ():
        if isinstance(node.op, Transpose):
            moved = tuple(perm[axis] for axis in node.op.perm)
            orders.add(_wanted(graph, readers, node.output, moved, depth - 1))
        elif isinstance(node.op, Lookup | Pad) or _with_constant(graph, node):
            orders.add(_wanted(graph, readers, node.output, perm, depth - 1))
        else:
            orders.add(perm)
    return orders.pop() if len(orders) == 1 else None


def _with_constant(graph: Graph, node: Node) -> bool:
    return isinstance(node.op, Add | Mul) and graph.tensors[node.inputs[1]].data is not None


def _output(layout: Layout, port: Port) -> Port:
    view = layout.views[port.tensor]
    node = Node(Reshape(port.shape), (), port.tensor)
    if view.grid is not None or view.perm[0] != 0:
        return replace(port, tensor=layout.plain(port.tensor, node))
    back = inverse(view.perm)
    return replace(port, tensor=view.tensor, perm=tuple(port.perm[axis] for axis in back))


def _plain(layout: Layout, node: Node) -> None:
    inputs = tuple(layout.plain(name, node) for name in node.inputs)
    shape = layout.graph.tensors[node.output].shape
    layout.emit(node, node.op, inputs, tuple(range(len(shape))))


def _transpose(layout: Layout, node: Node) -> None:
    view = layout.views[node.inputs[0]]
    assert isinstance(node.op, Transpose)
    if view.grid is not None:
        tensor = layout.plain(node.inputs[0], node)
        view = View(tensor, tuple(range(len(layout.shape(tensor)))))
    layout.views[node.output] = View(view.tensor, tuple(view.perm[a] for a in node.op.perm))


def _reshape(layout: Layout, node: Node) -> None:
    assert isinstance(node.op, Reshape)
    view, shape = layout.views[node.inputs[0]], node.op.shape
    device = layout.shape(view.tensor)
    longer = [size for size in shape if size != 1]
    in_order = moves_only_units(device, view.perm)
    if view.grid is not None:
        source = layout.plain(node.inputs[0], node)
    elif _longer(device, view.perm) == longer and (len(longer) == 1 or not in_order):
        _reshape_units(layout, node, view, shape)
        return
    elif in_order:
        source = view.tensor
    elif len(shape) == 2 and shape[0] == 1:
        flat = layout.reshape(view.tensor, shape, node, node.output)
        layout.views[node.output] = View(flat, view.perm, device)
        return
    else:
        source = layout.plain(node.inputs[0], node)
    tensor = layout.reshape(source, shape, node, node.output)
    layout.views[node.output] = View(tensor, tuple(range(len(shape))))


def _longer(shape: tuple[int, ...], perm: Perm) -> list[int]:
    return [shape[axis] for axis in perm if shape[axis] != 1]


def _reshape_units(layout: Layout, node: Node, view: View, shape: tuple[int, ...]) -> None:
    """Rule 4: unit axes go behind the batch, the others stay in the device's order."""
    device = layout.shape(view.tensor)
    places = [axis for axis in view.perm if device[axis] != 1]
    axes = [axis for axis, size in enumerate(shape) if size != 1]
    units = [axis for axis, size in enumerate(shape) if size == 1]
    order = (*units, *(axis for _, axis in sorted(zip(places, axes, strict=True))))
    target = tuple(shape[axis] for axis in order)
    tensor = layout.reshape(view.tensor, target, node, node.output)
    layout.views[node.output] = View(tensor, inverse(order))


def _lookup(layout: Layout, node: Node) -> None:
    view = layout.views[node.inputs[0]]
    made = layout.emit(node, node.op, (view.tensor,), view.perm)
    layout.views[node.output] = replace(made, grid=view.grid)


def _elementwise(layout: Layout, node: Node) -> None:
    views = [layout.views[name] for name in node.inputs]
    flat = next((view for view in views if view.grid is not None), None)
    if flat is not None and _flat_elementwise(layout, node, flat):
        return
    perm = next((v.perm for v in views if not v.plain and v.grid is None), None)
    if perm is None:
        _plain(layout, node)
        return
    inputs = tuple(layout.arranged(name, perm, node) for name in node.inputs)
    layout.emit(node, node.op, inputs, perm)


def _flat_elementwise(layout: Layout, node: Node, flat: View) -> bool:
    """Rule 5 through Add and Mul: both operands in the same order, or a constant reordered."""
    inputs = []
    for name in node.inputs:
        view, tensor = layout.views[name], layout.tensors[layout.views[name].tensor]
        if (view.grid, view.perm) == (flat.grid, flat.perm) or tensor.size == 1:
            inputs.append(view.tensor)
        elif tensor.data is not None and tensor.shape == layout.shape(flat.tensor):
            inputs.append(layout.constant(_reordered(tensor, flat.columns()), node))
        else:
            return False
    layout.emit(node, node.op, tuple(inputs), flat.perm)
    layout.views[node.output] = View(node.output, flat.perm, flat.grid)
    return True


def _reordered(tensor: Tensor, columns: Array) -> Tensor:
    assert tensor.data is not None
    data = np.empty_like(tensor.data)
    data[:, columns] = tensor.data
    return replace(tensor, data=data)


def _concat(layout: Layout, node: Node) -> None:
    assert isinstance(node.op, Concat)
    views = [layout.views[name] for name in node.inputs]
    perm = next((view.perm for view in views if not view.plain and view.grid is None), None)
    if perm is None or perm[node.op.axis] == 0:
        _plain(layout, node)
        return
    inputs = tuple(layout.arranged(name, perm, node) for name in node.inputs)
    layout.emit(node, Concat(perm[node.op.axis]), inputs, perm)


def _pad(layout: Layout, node: Node) -> None:
    view = layout.views[node.inputs[0]]
    assert isinstance(node.op, Pad)
    if view.grid is not None:
        _plain(layout, node)
        return
    pads = tuple(node.op.pads[axis] for axis in inverse(view.perm))
    layout.emit(node, replace(node.op, pads=pads), (view.tensor,), view.perm)


def _slice(layout: Layout, node: Node) -> None:
    view = layout.views[node.inputs[0]]
    op = node.op
    assert isinstance(op, Slice)
    if view.grid is not None:
        _plain(layout, node)
        return
    back = inverse(view.perm)
    begins, sizes, steps = (
        tuple(values[axis] for axis in back) for values in (op.begins, op.sizes, op.steps)
    )
    layout.emit(node, Slice(begins, sizes, steps), (view.tensor,), view.perm)


def _mean(layout: Layout, node: Node) -> None:
    view = layout.views[node.inputs[0]]
    assert isinstance(node.op, Mean)
    axes = tuple(sorted(view.perm[axis] for axis in node.op.axes))
    contiguous = axes == tuple(range(axes[0], axes[-1] + 1))
    if view.grid is not None or not contiguous or axes[0] == 0:
        _plain(layout, node)
        return
    perm = view.perm
    if not node.op.keepdims:
        kept = [axis for axis in perm if axis not in axes]
        perm = tuple(sum(other < axis for other in kept) for axis in kept)
    layout.emit(node, replace(node.op, axes=axes), (view.tensor,), perm)


def _softmax(layout: Layout, node: Node) -> None:
    view = layout.views[node.inputs[0]]
    if view.grid is not None or view.perm[-1] != len(view.perm) - 1:
        _plain(layout, node)
        return
    layout.emit(node, node.op, (view.tensor,), view.perm)


def _dense(layout: Layout, node: Node) -> None:
    x, weights, bias = node.inputs
    view = layout.views[x]
    if view.grid is not None:
        moved = layout.constant(_reordered(layout.tensors[weights], view.columns()), node)
        layout.emit(node, node.op, (view.tensor, moved, bias), (0, 1))
    elif view.perm[-1] == len(view.perm) - 1:
        layout.emit(node, node.op, (view.tensor, weights, bias), view.perm)
    else:
        _plain(layout, node)


RULES: Mapping[type, Callable[[Layout, Node], None]] = {
    Add: _elementwise,
    Concat: _concat,
    Dense: _dense,
    Lookup: _lookup,
    Mean: _mean,
    Mul: _elementwise,
    Pad: _pad,
    Reshape: _reshape,
    Slice: _slice,
    Softmax: _softmax,
    Transpose: _transpose,
}
