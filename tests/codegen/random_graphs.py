"""Random small quantized networks with every kind of overlap: for tests of plans and of the emulator."""

from __future__ import annotations

from math import inf
from random import Random

import numpy as np

from codegen.ir import Graph, Node, Op, Port, Quant, Tensor, per_tensor, verify_quantized
from codegen.ops import OPS


class _Drawing:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.generator = np.random.default_rng(seed)
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []

    def tensor(self, shape: tuple[int, ...]) -> str:
        name = f"t{len(self.nodes)}"
        scale = self.random.uniform(0.04, 0.08)
        self.tensors[name] = Tensor(name, shape, per_tensor(scale, self.random.randint(-20, 20)))
        return name

    def node(self, op: Op, inputs: tuple[str, ...]) -> str:
        shape = op.infer(tuple(self.tensors[name].shape for name in inputs))
        label = f"n{len(self.nodes)}"
        self.nodes.append(Node(op, inputs, f"t{len(self.nodes) + 1}", (label,)))
        return self.tensor(shape)

    def weighted(self, op: Op, x: str, weights: tuple[int, ...]) -> str:
        channels, name = weights[0], f"w{len(self.nodes)}"
        scales = tuple(float(s) for s in self.generator.uniform(0.002, 0.01, channels))
        x_scale = self.tensors[x].grid.scale
        w = self.generator.integers(-127, 128, weights).astype(np.int8)
        b = self.generator.integers(-500, 500, channels).astype(np.int32)
        zeros = (0,) * channels
        self.tensors[name] = Tensor(name, weights, Quant(scales, zeros, 0), w)
        grid = Quant(tuple(x_scale * s for s in scales), zeros, 0, 32)
        self.tensors[f"{name}b"] = Tensor(f"{name}b", b.shape, grid, b)
        return self.node(op, (x, name, f"{name}b"))

    def layer(self, x: str) -> str:
        """A random layer on an image."""
        _, rows, columns, depth = self.tensors[x].shape
        conv, kind = OPS["conv2d"], self.random.choice("pwdsmra")
        channels = self.random.choice((4, 6, 8, 12))
        if kind == "d":
            op = conv(pads=(1, 1, 1, 1), groups=depth, clamp=(0.0, inf))
            return self.weighted(op, x, (depth, 3, 3, 1))
        if kind == "w":
            return self.weighted(conv(pads=(1, 1, 1, 1)), x, (channels, 3, 3, depth))
        if kind == "s" and min(rows, columns) > 3:
            op = conv(stride=(2, 2), pads=(0, 0, 1, 1))
            return self.weighted(op, x, (channels, 3, 3, depth))
        if kind == "m" and min(rows, columns) > 3:
            return self.node(OPS["max_pool"]((2, 2), (2, 2)), (x,))
        return self.block(kind, x, depth, channels)

    def block(self, kind: str, x: str, depth: int, channels: int) -> str:
        """A residual sum, a concatenation, or else a 1x1 convolution."""
        conv = OPS["conv2d"]
        if kind == "r":  # the sum reads last what a convolution in between has read too
            y = self.weighted(conv(pads=(1, 1, 1, 1)), x, (depth, 3, 3, depth))
            return self.node(OPS["add"](), (x, y))
        if kind == "a":
            y = self.weighted(conv(), x, (4, 1, 1, depth))
            return self.node(OPS["concat"](3), (y, x))
        return self.weighted(conv(), x, (channels, 1, 1, depth))


def graph(seed: int, layers: int = 6) -> Graph:
    """A network of some layers on an image of at most 9 by 9, ending in a dense layer."""
    drawing = _Drawing(seed)
    rows, columns = drawing.random.randint(6, 9), drawing.random.randint(6, 9)
    first = x = drawing.tensor((1, rows, columns, drawing.random.choice((2, 3, 4))))
    for _ in range(layers):
        x = drawing.layer(x)
    length = drawing.tensors[x].size
    x = drawing.node(OPS["reshape"]((1, length)), (x,))
    x = drawing.weighted(OPS["dense"](), x, (5, length))
    ports = [
        (Port(name, name, drawing.tensors[name].shape, tuple(range(rank))),)
        for name, rank in ((first, 4), (x, 2))
    ]
    return verify_quantized(Graph("net", drawing.tensors, tuple(drawing.nodes), ports[0], ports[1]))
