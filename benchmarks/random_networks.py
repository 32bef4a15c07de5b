"""Random CNN-like networks as placement problems: chains, strides, residual sums, concatenations.

Seeded: the same numbers, the same problems. Only shapes are made, no weights: placement needs no more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from codegen.arena import Buffer, Overlap, Problem
from codegen.kernel import Footprint
from codegen.ops.conv2d import Conv2D
from codegen.window import footprint

Shape = tuple[int, int, int]  # rows, columns, channels
CHANNELS = (4, 8, 12, 16, 24, 32, 48, 64)
WEIGHTS = (4, 1, 3, 2, 2)  # how often: plain, stride, residual, branches, skip
LEAST, MOST = 16, 91  # tensors of a network


@dataclass(slots=True)
class _Network:
    """A network being drawn: tensor i is written at step max(i - 1, 0); tensor 0 is the input."""

    random: Random
    shapes: list[Shape] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    operands: dict[int, tuple[int, ...]] = field(default_factory=dict)  # of what may overlap them
    windows: dict[int, tuple[int, int]] = field(default_factory=dict)  # size and stride, by output

    def add(self, shape: Shape, *inputs: int) -> int:
        """A new tensor, read from `inputs`; its number."""
        self.shapes.append(shape)
        number = len(self.shapes) - 1
        step = max(number - 1, 0)
        self.last.append(step)
        for tensor in inputs:
            self.last[tensor] = step
        return number

    def convolution(self, x: int, channels: int, size: int, stride: int) -> int:
        """A convolution with SAME padding."""
        rows, columns, _ = self.shapes[x]
        out = (-(-rows // stride), -(-columns // stride), channels)
        y = self.add(out, x)
        self.operands[y], self.windows[y] = (x,), (size, stride)
        return y

    def residual(self, x: int) -> int:
        """Two or three convolutions and a sum with what went in."""
        channels = self.shapes[x][2]
        y = self.convolution(x, self.random.choice((channels, channels * 2)), 1, 1)
        if self.random.random() < 0.5:
            y = self.convolution(y, self.shapes[y][2], 3, 1)
        y = self.convolution(y, channels, self.random.choice((1, 3)), 1)
        z = self.add(self.shapes[y], x, y)
        self.operands[z] = (x, y)
        return z

    def branches(self, x: int) -> int:
        """Two to four convolutions of one tensor, side by side."""
        count = self.random.randint(2, 4)
        parts = [
            self.convolution(x, self.random.choice(CHANNELS[:5]), self.random.choice((1, 3)), 1)
            for _ in range(count)
        ]
        return self.concatenation(*parts)

    def skip(self, x: int) -> int:
        """A concatenation with a tensor of the same resolution from some steps before, if there is one."""
        same = [t for t in range(max(0, x - 12), x) if self.shapes[t][:2] == self.shapes[x][:2]]
        return self.concatenation(self.random.choice(same), x) if same else self.residual(x)

    def concatenation(self, *parts: int) -> int:
        """Along the channels."""
        rows, columns, _ = self.shapes[parts[0]]
        return self.add((rows, columns, sum(self.shapes[p][2] for p in parts)), *parts)


def network(seed: int, overlaps: bool) -> Problem:
    """The placement problem of a random network.

    Args:
        seed: of the generator.
        overlaps: whether outputs may run over dying inputs.
    """
    random = Random(seed)
    net = _Network(random)
    side = random.choice((16, 24, 32, 48, 64, 96))
    x = net.add((side, random.choice((side, side // 2)), random.choice((1, 3, 4))))
    count = random.randint(LEAST, MOST - 5)  # a block adds up to five
    while len(net.shapes) < count:
        kind = random.choices(("plain", "stride", "residual", "branches", "skip"), WEIGHTS)[0]
        if kind == "residual":
            x = net.residual(x)
        elif kind == "branches":
            x = net.branches(x)
        elif kind == "skip":
            x = net.skip(x)
        else:
            stride = 2 if kind == "stride" and min(net.shapes[x][:2]) > 4 else 1
            depth = random.choice(CHANNELS)
            x = net.convolution(x, depth * stride * stride, random.choice((1, 3)), stride)
    return _problem(net, overlaps)


def _problem(net: _Network, overlaps: bool) -> Problem:
    sizes = [rows * columns * channels for rows, columns, channels in net.shapes]
    buffers = tuple(
        Buffer(f"t{i}", size, max(i - 1, 0), net.last[i]) for i, size in enumerate(sizes)
    )
    return Problem(buffers, tuple(_overlaps(net, buffers)) if overlaps else ())


def _overlaps(net: _Network, buffers: tuple[Buffer, ...]) -> list[Overlap]:
    found = []
    for y, operands in net.operands.items():
        for x in operands:
            if net.last[x] != y - 1:
                continue
            if y in net.windows:
                events = _events(net, x, y)
                found.append(_distances(buffers[x], buffers[y], events))
            else:
                found.append(Overlap(buffers[x].name, buffers[y].name, ascending=0))
    return found


def _events(net: _Network, x: int, y: int) -> Footprint:
    size, stride = net.windows[y]
    op = Conv2D(stride=(stride, stride), pads=(size // 2,) * 4)
    window = op.window((1, size, size, 1))
    return footprint(window, (1, *net.shapes[x]), (1, *net.shapes[y]), reads_first=False)


def _distances(x: Buffer, y: Buffer, events: Footprint) -> Overlap:
    limit = -max(x.size, y.size)  # beyond it the two are disjoint anyway
    ascending = max(limit, events.ascending_distance())
    descending = max(limit, events.reversed().descending_distance())
    return Overlap(x.name, y.name, ascending, descending)
