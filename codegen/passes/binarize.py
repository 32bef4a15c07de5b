"""Layers that multiply signs with signs become binary: bits in memory, sums by counting them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from codegen.forms import Reshape
from codegen.ir import Array, Graph, Node, Tensor
from codegen.ops.binarize import Binarize
from codegen.ops.binary_conv2d import BinaryConv2D
from codegen.ops.bit_max_pool import BitMaxPool
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.ops.lookup import Lookup
from codegen.ops.max_pool import MaxPool
from codegen.ops.mul import Mul
from codegen.ops.pad import Pad
from codegen.passes.lift_signs import is_sign
from codegen.quant.binary import meets_zero
from codegen.rewrite import Uses, merged_sources, rebuilt, uses


def binarize(graph: Graph) -> Graph:
    """The graph with its binary layers as such.

    1. A Conv2D of one group, or a Dense, is binary if each of its output channels has weights of one
       magnitude and its input is a sign. Between the two may lie MaxPools, which become BitMaxPool,
       products with one number, and for a Conv2D a Pad with -1 or 1, for a Dense a Reshape to one row.
    2. A sign becomes bits if all that reads it is so, and it never meets 0 where the model's sign of 0
       is 0: what it reads must be a binary layer that cannot sum up to 0, or a layer all of whose biases
       are other than 0.
    3. Such a sign of a binary layer that nobody else reads becomes that layer's result. Of a depthwise
       1x1 Conv2D it becomes a comparison per channel.

    Everything else stays: signs are then a table, and their layers int8.
    """
    found = _Found(graph, uses(graph))
    for node in graph.nodes:
        if is_sign(node):
            found.consider(node)
    return rebuilt(graph, list(_rewritten(found)), found.tensors, {}) if found.bits else graph


@dataclass(frozen=True, slots=True, eq=False)
class _Link:
    """A binary layer to be.

    Attributes:
        node: the layer as it is.
        bits: the tensor of bits that it reads.
        factor: what the signs are multiplied with.
        pad: the Pad before it.
    """

    node: Node
    bits: str
    factor: float = 1.0
    pad: Pad | None = None


@dataclass(eq=False)
class _Found:
    """What becomes of nodes, by their outputs."""

    graph: Graph
    index: Uses
    bits: dict[str, Node] = field(default_factory=dict)  # signs
    links: dict[str, _Link] = field(default_factory=dict)  # layers
    fused: dict[str, Node] = field(default_factory=dict)  # signs, by the layer that makes them
    slopes: dict[str, Node] = field(default_factory=dict)  # depthwise layers, by their sign
    pools: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.tensors: dict[str, Tensor] = dict(self.graph.tensors)

    def consider(self, sign: Node) -> None:
        """Decides on a sign; those before it are decided."""
        walk = _Walk(self)
        if not walk.from_tensor(sign.output, sign.output) or not walk.links:
            return
        producer = self._producer(sign)
        assert isinstance(sign.op, Lookup)
        if sign.op.alpha == 0 and self._may_be_zero(producer):
            return
        self.bits[sign.output] = sign
        self.links |= {link.node.output: link for link in walk.links}
        self.pools |= walk.pools
        self.dropped |= walk.dropped
        if producer is None:
            return
        if producer.output in self.links:
            self.fused[producer.output] = sign
        elif _is_affine(self.graph, producer):
            self.slopes[sign.output] = producer
            self.dropped.add(producer.output)

    def _producer(self, sign: Node) -> Node | None:
        """The layer that a sign can be computed with."""
        name = sign.inputs[0]
        alone = self.index.sole_reader(name) and self.graph.tensors[name].quant is None
        node = self.index.producers.get(name) if alone else None
        clamped = node is None or getattr(node.op, "clamp", None) is not None
        return None if clamped else node

    def _may_be_zero(self, producer: Node | None) -> bool:
        if producer is None or not isinstance(producer.op, Conv2D | Dense):
            return True
        offset = self.graph.tensors[producer.inputs[2]].values
        if producer.output not in self.links:
            return not bool(np.all(offset != 0))
        w = self.graph.tensors[producer.inputs[1]].values
        scale = _magnitudes(w).astype(np.float64) * abs(self.links[producer.output].factor)
        return meets_zero(scale, offset, w[0].size)


@dataclass(eq=False)
class _Walk:
    """Everything that reads a sign."""

    found: _Found
    links: list[_Link] = field(default_factory=list)
    pools: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)

    def from_tensor(
        self, name: str, bits: str, factor: float = 1.0, pad: Pad | None = None
    ) -> bool:
        """Whether all readers of a tensor are binary layers, or lead to some."""
        graph = self.found.graph
        if graph.is_output(name) or graph.tensors[name].quant is not None:
            return False
        readers = self.found.index.readers.get(name, ())
        return all(self._reader(node, name, bits, factor, pad) for node in readers)

    def _reader(self, node: Node, name: str, bits: str, factor: float, pad: Pad | None) -> bool:
        graph, op = self.found.graph, node.op
        if isinstance(op, Conv2D | Dense):
            fits = _has_sign_weights(graph, node) and name not in node.inputs[1:]
            if isinstance(op, Conv2D):
                fits = fits and op.groups == 1 and not (pad is not None and any(op.pads))
            else:
                fits = fits and len(graph.tensors[name].shape) == 2 and pad is None
            self.links.append(_Link(node, bits, factor, pad))
            return fits
        if pad is not None:
            return False
        if isinstance(op, MaxPool):
            self.pools.add(node.output)
            return factor == 1.0 and self.from_tensor(node.output, node.output)
        return self._passes(node, bits, factor)

    def _passes(self, node: Node, bits: str, factor: float) -> bool:
        """Whether a node only says how a layer behind it takes the signs."""
        graph, op = self.found.graph, node.op
        self.dropped.add(node.output)
        if isinstance(op, Mul) and op.clamp is None:
            number = graph.tensors[node.inputs[1]].data
            if number is None or number.size != 1 or not number.reshape(-1)[0]:
                return False
            return self.from_tensor(node.output, bits, factor * float(number.reshape(-1)[0]))
        if isinstance(op, Pad) and factor == 1.0:
            spatial = len(op.pads) == 4 and not any(op.pads[0]) and not any(op.pads[3])
            fits = spatial and op.value in (-1.0, 1.0)
            return fits and self.from_tensor(node.output, bits, factor, op)
        if isinstance(op, Reshape):
            flat = len(op.shape) == 2 and len(graph.tensors[node.inputs[0]].shape) == 4
            return flat and self.from_tensor(node.output, bits, factor)
        return False


def _has_sign_weights(graph: Graph, node: Node) -> bool:
    w, b = (graph.tensors[name] for name in node.inputs[1:3])
    if w.data is None or w.quant is not None or b.quant is not None:
        return False
    rows = np.abs(w.data).reshape(len(w.data), -1)
    return bool(np.all(rows == rows[:, :1]))


def _magnitudes(w: Array) -> Array:
    return np.abs(w.reshape(len(w), -1)[:, 0])


def _is_affine(graph: Graph, node: Node) -> bool:
    """Whether a node multiplies each channel by a number and adds one."""
    x = graph.tensors[node.inputs[0]]
    if not isinstance(node.op, Conv2D) or graph.tensors[node.inputs[1]].quant is not None:
        return False
    depth = x.shape[-1]
    return node.op == Conv2D(groups=depth) and graph.tensors[node.inputs[1]].shape == (
        depth,
        1,
        1,
        1,
    )


def _rewritten(found: _Found) -> Iterator[Node]:
    for node in found.graph.nodes:
        if node.output in found.links:
            yield from _layer(found, found.links[node.output])
        elif node.output in found.pools:
            op = node.op
            assert isinstance(op, MaxPool)
            bit_pool = BitMaxPool(op.kernel, op.stride, op.pads, op.dilation)
            yield replace(node, op=bit_pool)
        elif node.output in found.bits:
            if node not in found.fused.values():
                yield _comparison(found, node)
        elif node.output not in found.dropped:
            yield node


def _layer(found: _Found, link: _Link) -> Iterator[Node]:
    """A binary layer; a Dense is one of a single pixel, reshaped."""
    node, op = link.node, link.node.op
    sign = found.fused.get(node.output)
    output = node.output if sign is None else sign.output
    sources = node.sources if sign is None else merged_sources(node, sign)
    zero = 1
    if sign is not None:
        assert isinstance(sign.op, Lookup)
        zero = -1 if sign.op.alpha < 0 else 1
    assert isinstance(op, Conv2D | Dense)
    made = BinaryConv2D(binary=sign is not None, zero=zero, clamp=op.clamp)
    if isinstance(op, Conv2D):
        made = replace(made, stride=op.stride, pads=op.pads, dilation=op.dilation)
        if link.pad is not None:
            (top, bottom), (left, right) = link.pad.pads[1:3]
            pads = (top, left, bottom, right)
            made = replace(made, pads=pads, pad_value=int(link.pad.value))
        operands = (link.bits, *_constants(found, link, ()))
        yield Node(made, operands, output, sources)
        return
    bits = found.tensors[link.bits]
    image = bits.name
    if len(bits.shape) == 2:
        image = f"{node.output}/pixel"
        shape = (1, 1, 1, bits.shape[1])
        found.tensors[image] = Tensor(image, shape)
        yield Node(Reshape(shape), (bits.name,), image, node.sources)
    pixel = f"{node.output}/sums"
    area = found.tensors[image].shape[1:]
    channels = found.tensors[node.output].shape[-1]
    found.tensors[pixel] = Tensor(pixel, (1, 1, 1, channels))
    yield Node(made, (image, *_constants(found, link, area)), pixel, sources)
    yield Node(Reshape((1, channels)), (pixel,), output, sources)


def _constants(found: _Found, link: _Link, area: Sequence[int]) -> tuple[str, str, str]:
    """Weights as signs, in an image's shape if that is given; scales, which are not negative; offsets."""
    node = link.node
    w, offset = (found.graph.tensors[name] for name in node.inputs[1:3])
    values = w.values * np.sign(link.factor)
    signs = np.where(values < 0, np.float32(-1), np.float32(1))
    if area:
        signs = signs.reshape(len(signs), *area)
    scale = (_magnitudes(w.values) * np.abs(link.factor)).astype(np.float32)
    names = (f"{node.output}/signs", f"{node.output}/scale")
    for name, data in zip(names, (signs, scale), strict=True):
        found.tensors[name] = Tensor(name, data.shape, None, data)
    return (*names, offset.name)


def _comparison(found: _Found, sign: Node) -> Node:
    """Bits of an int8 tensor, of each channel times a slope plus an offset if that was its producer."""
    assert isinstance(sign.op, Lookup)
    layer = found.slopes.get(sign.output)
    depth = found.graph.tensors[sign.output].shape[-1]
    slope: Array = np.ones(depth, np.float32)
    offset: Array = np.zeros(depth, np.float32)
    source, sources = sign.inputs[0], sign.sources
    if layer is not None:
        source, sources = layer.inputs[0], merged_sources(layer, sign)
        slope, offset = (found.graph.tensors[name].values.reshape(-1) for name in layer.inputs[1:])
    names = (f"{sign.output}/slope", f"{sign.output}/offset")
    for name, data in zip(names, (slope, offset), strict=True):
        found.tensors[name] = Tensor(name, data.shape, None, data)
    zero = -1 if sign.op.alpha < 0 else 1
    return Node(Binarize(zero), (source, *names), sign.output, sources)
