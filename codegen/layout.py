"""A graph rebuilt with transpositions held back: each old tensor is a view of a new one.

A view says how the old tensor would be made from the new one. Operators that do not care about the
order of axes compute on the new one; for the others the view is turned into nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from codegen.forms import Reshape
from codegen.ir import Array, Graph, Node, Op, Tensor
from codegen.ops.transpose import Transpose, moves_only_units, permuted

Perm = tuple[int, ...]


def inverse(perm: Perm) -> Perm:
    """The order that undoes an order."""
    return tuple(perm.index(axis) for axis in range(len(perm)))


@dataclass(frozen=True, slots=True)
class View:
    """The old tensor is the new `tensor` transposed by `perm`.

    With `grid`, the new tensor is flat, (1, K), and the old one is it given the shape `grid`,
    transposed by `perm` and flattened again.
    """

    tensor: str
    perm: Perm
    grid: tuple[int, ...] | None = None

    @property
    def plain(self) -> bool:
        """Whether old and new are the same."""
        return self.grid is None and self.perm == tuple(range(len(self.perm)))

    def columns(self) -> Array:
        """Of a flat view: old element k is new element columns[k]."""
        assert self.grid is not None
        order: Array = np.arange(prod(self.grid)).reshape(self.grid).transpose(self.perm)
        return order.reshape(-1)


class Layout:
    """The new graph under construction, and the views of the old one's tensors."""

    def __init__(self, graph: Graph) -> None:
        """Starts with the constants, which are their own views."""
        self.graph = graph
        self.tensors = {name: t for name, t in graph.tensors.items() if t.data is not None}
        self.views = {name: plain_view(t) for name, t in self.tensors.items()}
        self.nodes: list[Node] = []
        self.producers: dict[str, Node] = {}
        self._made: dict[View, str] = {}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a new tensor."""
        return self.tensors[name].shape

    def emit(self, node: Node, op: Op, inputs: tuple[str, ...], perm: Perm) -> View:
        """Adds `op` in place of an old node; the old result is its result transposed by `perm`."""
        self._add(node.output, op, inputs, node)
        self.views[node.output] = View(node.output, perm)
        return self.views[node.output]

    def plain(self, name: str, node: Node) -> str:
        """A new tensor that equals an old one, made for `node` by transposing if need be."""
        view = self.views[name]
        if view.plain:
            return view.tensor
        if view not in self._made:
            self._made[view] = self._make(view, name, node)
        return self._made[view]

    def arranged(self, name: str, perm: Perm, node: Node) -> str:
        """A new tensor of which the old one is the view by `perm`."""
        view = self.views[name]
        if view.grid is None and view.perm == perm:
            return view.tensor
        tensor = self.plain(name, node)
        if self.tensors[tensor].data is not None:
            return self.constant(permuted(self.tensors[tensor], inverse(perm)), node)
        return self._transposed(tensor, inverse(perm), node)

    def constant(self, tensor: Tensor, node: Node) -> str:
        """Adds a changed constant under a new name."""
        name = self._fresh(f"{node.output}/{tensor.name}")
        self.tensors[name] = replace(tensor, name=name)
        return name

    def reshape(self, source: str, shape: tuple[int, ...], node: Node, name: str) -> str:
        """The tensor under another shape. A Reshape of a Reshape reads the first one's operand."""
        before = self.producers.get(source)
        if before is not None and isinstance(before.op, Reshape):
            source = before.inputs[0]
        if self.shape(source) == shape:
            return source
        return self._add(name, Reshape(shape), (source,), node)

    def _make(self, view: View, name: str, node: Node) -> str:
        if view.grid is None:
            return self._transposed(view.tensor, view.perm, node)
        image = self.reshape(view.tensor, view.grid, node, self._fresh(f"{name}/grid"))
        moved = self._transposed(image, view.perm, node)
        return self.reshape(moved, (1, prod(view.grid)), node, self._fresh(f"{name}/flat"))

    def _transposed(self, tensor: str, perm: Perm, node: Node) -> str:
        shape = self.shape(tensor)
        fresh = self._fresh(f"{tensor}/transposed")
        if moves_only_units(shape, perm):
            return self.reshape(tensor, tuple(shape[axis] for axis in perm), node, fresh)
        return self._add(fresh, Transpose(perm), (tensor,), node)

    def _add(self, name: str, op: Op, inputs: tuple[str, ...], node: Node) -> str:
        shape = op.infer(tuple(self.shape(operand) for operand in inputs))
        # What is made on the way to a node's operand has that operand's grid.
        model = self.graph.tensors.get(name) or self.tensors[inputs[0]]
        self.tensors[name] = Tensor(name, shape, model.quant, dtype=model.dtype)
        self.producers[name] = Node(op, inputs, name, node.sources)
        self.nodes.append(self.producers[name])
        return name

    def _fresh(self, hint: str) -> str:
        name, count = hint, 0
        while name in self.tensors or name in self.graph.tensors:
            count += 1
            name = f"{hint}.{count}"
        return name


def plain_view(tensor: Tensor) -> View:
    """The view of a tensor that is itself."""
    return View(tensor.name, tuple(range(len(tensor.shape))))
