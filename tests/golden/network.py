"""A small network with fixed integers, whose emitted C is kept beside this file and reviewed."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path

import numpy as np

from codegen import check_plan, emit, plan
from codegen.ir import Graph, Node, Op, Port, Quant, Tensor, per_tensor, verify_quantized
from codegen.ops import OPS
from targets.target import load

FOLDER = Path(__file__).parent
CHAINED = "-chain"
STREAMED = "-stream"
NAMES = ("generic-m0plus", "generic-m4", "generic-m4-chain", "generic-m4-stream")
SHA256 = "0" * 64


class _Network:
    def __init__(self) -> None:
        self.generator = np.random.default_rng(2024)
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []

    def tensor(self, name: str, shape: tuple[int, ...], quant: Quant) -> str:
        self.tensors[name] = Tensor(name, shape, quant)
        return name

    def layer(self, op: Op, x: str, weights: tuple[int, ...], name: str, out: Quant) -> str:
        channels = weights[0]
        scales = tuple(0.004 * (1 + i % 3) for i in range(channels))
        bias_scales = tuple(scale * self.tensors[x].grid.scale for scale in scales)
        w = self.generator.integers(-127, 128, weights).astype(np.int8)
        b = self.generator.integers(-900, 900, channels).astype(np.int32)
        zeros = (0,) * channels
        self.tensors[f"{name}.w"] = Tensor(f"{name}.w", weights, Quant(scales, zeros, 0), w)
        bias_grid = Quant(bias_scales, zeros, 0, 32)
        self.tensors[f"{name}.b"] = Tensor(f"{name}.b", b.shape, bias_grid, b)
        return self.node(op, (x, f"{name}.w", f"{name}.b"), name, out)

    def node(self, op: Op, inputs: tuple[str, ...], name: str, out: Quant) -> str:
        shape = op.infer(tuple(self.tensors[i].shape for i in inputs))
        self.nodes.append(Node(op, inputs, name, (f"/{name}/{op.kind}",)))
        return self.tensor(name, shape, out)


def network() -> Graph:
    """A residual block, a pool, a dense layer and a softmax."""
    n = _Network()
    grid = per_tensor(0.05, -128)
    x = n.tensor("image", (1, 8, 8, 3), per_tensor(1 / 255, -128))
    stem = OPS["conv2d"](stride=(2, 2), pads=(0, 0, 1, 1), clamp=(0.0, inf))
    a = n.layer(stem, x, (4, 3, 3, 3), "stem", grid)
    deep = OPS["conv2d"](pads=(1, 1, 1, 1), groups=4, clamp=(0.0, 6.0))
    b = n.layer(deep, a, (4, 3, 3, 1), "deep", grid)
    c = n.layer(OPS["conv2d"](), b, (4, 1, 1, 4), "point", per_tensor(0.08, 4))
    d = n.node(OPS["add"](clamp=(0.0, inf)), (a, c), "sum", grid)
    e = n.node(OPS["max_pool"]((2, 2), (2, 2)), (d,), "pool", grid)
    f = n.node(OPS["reshape"]((1, 16)), (e,), "flat", grid)
    g = n.layer(OPS["dense"](), f, (3, 16), "head", per_tensor(0.1, 10))
    h = n.node(OPS["softmax"](), (g,), "classes", per_tensor(1 / 256, -128))
    image = Port("image", x, (1, 3, 8, 8), (0, 2, 3, 1))
    classes = Port("classes", h, (1, 3), (0, 1))
    return verify_quantized(Graph("golden", n.tensors, tuple(n.nodes), (image,), (classes,)))


def planned(name: str) -> plan.Plan:
    """The network as it will run on a target; its image layers as a chain, fed in rows, by its name."""
    graph = network()
    chained = [node.label for node in graph.nodes[:5]]
    chains = [chained] if name.endswith((CHAINED, STREAMED)) else None
    stream = name.endswith(STREAMED)
    core = load(_target(name)).core
    return check_plan.check(plan.make(graph, core, "speed", chains=chains, stream=stream))


def _target(name: str) -> str:
    return name.removesuffix(CHAINED).removesuffix(STREAMED)


def project(name: str) -> emit.Project:
    """The C project of the network."""
    return emit.emit(planned(name), load(_target(name)), SHA256)


def files(name: str) -> Mapping[str, str]:
    """Its files by name."""
    return project(name).files
