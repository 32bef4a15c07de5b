"""Random quantized CNNs whose layers can run pixel by pixel."""

from __future__ import annotations

from math import inf

import numpy as np

from codegen.ir import Graph, Node, Op, Port, Quant, Tensor, per_tensor, verify_quantized
from codegen.ops import OPS

Shape = tuple[int, ...]


class Builder:
    """Grows a graph layer by layer."""

    def __init__(self, generator: np.random.Generator, shape: Shape) -> None:
        self.generator = generator
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.tensor("x", shape)

    def tensor(self, name: str, shape: Shape, quant: Quant | None = None) -> str:
        grid = quant or per_tensor(0.05, int(self.generator.integers(-20, 20)))
        self.tensors[name] = Tensor(name, shape, grid)
        return name

    def node(self, op: Op, inputs: tuple[str, ...], quant: Quant | None = None) -> str:
        name = f"t{len(self.nodes)}"
        shape = op.infer(tuple(self.tensors[i].shape for i in inputs))
        self.nodes.append(Node(op, inputs, name, (f"layer{len(self.nodes)}",)))
        return self.tensor(name, shape, quant)

    def conv(
        self,
        x: str,
        channels: int,
        kernel: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (1, 1),
        pads: tuple[int, int, int, int] = (1, 1, 1, 1),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
    ) -> str:
        depth = self.tensors[x].shape[3] // groups
        name = f"w{len(self.nodes)}"
        scales = tuple(float(s) for s in self.generator.uniform(0.0005, 0.003, channels))
        zeros = (0,) * channels
        w = self.generator.integers(-127, 128, (channels, *kernel, depth)).astype(np.int8)
        b = self.generator.integers(-3000, 3000, channels).astype(np.int32)
        self.tensors[name] = Tensor(name, w.shape, Quant(scales, zeros, 0), w)
        x_scale = self.tensors[x].grid.scale
        bias_grid = Quant(tuple(s * x_scale for s in scales), zeros, 0, 32)
        self.tensors[f"{name}b"] = Tensor(f"{name}b", b.shape, bias_grid, b)
        clamp = (0.0, inf) if self.generator.integers(2) else None
        op = OPS["conv2d"](stride, pads, dilation, groups, clamp)
        return self.node(op, (x, name, f"{name}b"))

    def depthwise(self, x: str, stride: tuple[int, int] = (1, 1)) -> str:
        channels = self.tensors[x].shape[3]
        return self.conv(x, channels, stride=stride, groups=channels)

    def graph(self, *outputs: str) -> Graph:
        def port(name: str) -> Port:
            shape = self.tensors[name].shape
            return Port(name, name, shape, tuple(range(len(shape))))

        ports = tuple(port(name) for name in outputs)
        return verify_quantized(Graph("net", self.tensors, tuple(self.nodes), (port("x"),), ports))


def random_chain(seed: int) -> Graph:
    """Two to six layers: windows of many kinds, skip connections, pools, sometimes a closing average."""
    generator = np.random.default_rng(seed)
    rows, columns = (int(n) for n in generator.integers(5, 12, 2))
    b = Builder(generator, (1, rows, columns, int(generator.choice([1, 3, 4, 8]))))
    x = "x"
    for _ in range(int(generator.integers(2, 6))):
        x = _block(b, x)
    if generator.integers(3) == 0:
        height, width = b.tensors[x].shape[1:3]
        x = b.node(OPS["average_pool"]((height, width), (height, width)), (x,))
    return b.graph(x)


def _block(b: Builder, x: str) -> str:
    _, height, width, _ = b.tensors[x].shape
    kind = int(b.generator.integers(len(_BLOCKS))) if min(height, width) >= 4 else 0
    return _BLOCKS[kind](b, x, int(b.generator.choice([3, 4, 8, 12])))


def _pointwise(b: Builder, x: str, channels: int) -> str:
    return b.conv(x, channels, (1, 1), pads=(0, 0, 0, 0))


def _depthwise(b: Builder, x: str, channels: int) -> str:
    return b.depthwise(x, _pair(b.generator, 2))


def _skip(b: Builder, x: str, channels: int) -> str:
    main = b.conv(b.conv(x, channels), b.tensors[x].shape[3])
    return b.node(OPS["add"](), (main, x))


def _shortcut(b: Builder, x: str, channels: int) -> str:
    stride = _pair(b.generator, 2)
    main = b.conv(x, channels, stride=stride)
    short = b.conv(x, channels, (1, 1), stride, (0, 0, 0, 0))
    return b.node(OPS["add"](clamp=(0.0, inf)), (main, short))


def _odd_window(b: Builder, x: str, channels: int) -> str:
    kernel, stride = _pair(b.generator, 3), _pair(b.generator, 3)
    pads = tuple(int(b.generator.integers(k)) for k in (*kernel, *kernel))
    return b.conv(x, channels, kernel, stride, (pads[0], pads[1], pads[2], pads[3]))


def _dilated(b: Builder, x: str, channels: int) -> str:
    return b.conv(x, channels, (2, 2), dilation=_pair(b.generator, 2))


def _pool(b: Builder, x: str, channels: int) -> str:
    op = OPS["max_pool"]((2, 2), _pair(b.generator, 2), (0, 0, 1, 1))
    return b.node(op, (x,), b.tensors[x].grid)


_BLOCKS = (_pointwise, _depthwise, _skip, _shortcut, _odd_window, _dilated, _pool)


def _pair(generator: np.random.Generator, most: int) -> tuple[int, int]:
    a, b = (int(n) for n in generator.integers(1, most + 1, 2))
    return a, b


def residual(width: int = 12) -> Graph:
    """Two residual blocks, the second with a stride and a convolution as its shortcut, then an average."""
    b = Builder(np.random.default_rng(5), (1, width, width, 3))
    first = b.conv("x", 8)
    second = b.node(OPS["add"](), (first, b.conv(b.conv(first, 8), 8)))
    short = b.conv(second, 12, (1, 1), (2, 2), (0, 0, 0, 0))
    main = b.conv(b.conv(second, 12, stride=(2, 2), pads=(0, 0, 1, 1)), 12)
    total = b.node(OPS["add"](clamp=(0.0, inf)), (short, main))
    pool = b.node(OPS["average_pool"]((width // 2, width // 2), (width // 2, width // 2)), (total,))
    return b.graph(pool)
