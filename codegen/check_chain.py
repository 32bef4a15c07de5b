"""Replays a chain on painted bytes. Shares no code with the planner: order and windows are derived anew.

Every pixel that a member reads must still lie where the driver looks for it: in a ring at its number modulo
the ring's size, or in a whole tensor. Then the pixel that it writes is painted over whatever was there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from codegen.fused import Chain, Stage
from codegen.ir import IntArray
from codegen.kernel import Layer
from codegen.ops.average_pool import AveragePool
from codegen.ops.conv2d import Conv2D
from codegen.ops.max_pool import MaxPool


class ChainError(AssertionError):
    """A chain breaks a rule; the text says which member and tensor."""


class _Place(NamedTuple):
    """Where a tensor's pixels lie; `ring` 0 = one after the other."""

    tag: int
    base: int
    ring: int
    depth: int

    def addresses(self, pixels: IntArray) -> IntArray:
        slots = pixels % self.ring if self.ring else pixels
        found: IntArray = (self.base + slots[:, None] * self.depth + np.arange(self.depth)).ravel()
        return found

    def tags(self, pixels: IntArray) -> IntArray:
        found: IntArray = ((pixels[:, None] * self.depth + np.arange(self.depth)).ravel()) + (
            self.tag << 32
        )
        return found


class Outside(NamedTuple):
    """A tensor of the step: its number among the tags, and where it lies."""

    tag: int
    base: int


def replay(
    chain: Chain, tags: IntArray, inputs: Mapping[str, Outside], output: Outside, rings: int
) -> None:
    """Replays a chain on painted bytes.

    Args:
        chain: the members.
        tags: one per byte of the arena: number of the tensor in the high word, of its byte in the low one.
        inputs: tensors from outside.
        output: the chain's.
        rings: where the rings lie.

    Raises:
        ChainError: a member finds a byte that is not what it expects.
    """
    _Replay(chain, tags, inputs, output, rings).run()


class _Replay:
    def __init__(
        self,
        chain: Chain,
        tags: IntArray,
        inputs: Mapping[str, Outside],
        output: Outside,
        rings: int,
    ) -> None:
        self.stages = chain.stages
        self.tags = tags
        self.made = [0] * len(chain.stages)
        self.maker = {stage.link.output: i for i, stage in enumerate(chain.stages)}
        self.places: dict[str, _Place] = {}
        for stage in chain.stages:
            layer = stage.link.pixel.layer
            for name, tensor in zip(stage.link.operands, layer.activations, strict=True):
                if name in inputs:
                    self.places[name] = _Place(*inputs[name], 0, tensor.shape[-1])
        taken = max([output.tag, *(one.tag for one in inputs.values())]) + 1
        for number, stage in enumerate(chain.stages[:-1]):
            depth = stage.link.pixel.layer.output.shape[-1]
            if stage.ring < 1 or stage.ring % stage.link.pixel.step:
                raise ChainError(f"ring: {stage.link.name} has none of whole steps")
            base = rings + stage.offset
            self.places[stage.link.output] = _Place(taken + number, base, stage.ring, depth)
        last = chain.stages[-1]
        depth = last.link.pixel.layer.output.shape[-1]
        self.places[last.link.output] = _Place(output.tag, output.base, 0, depth)
        self.sums = _Place(taken + len(chain.stages), rings + last.offset, 0, 4 * depth)

    def run(self) -> None:
        last = len(self.stages) - 1
        layer = self.stages[last].link.pixel.layer
        if not self.stages[last].link.pixel.collects:
            self.until(last, layer.output.size // layer.output.shape[-1])
            return
        everything = np.arange(layer.inputs[0].size // layer.inputs[0].shape[-1])
        self.paint(self.sums, np.zeros(1, np.int64))
        for pixel in everything:
            self.ask(self.stages[last], int(pixel) + 1)
            self.read(self.stages[last], pixel + np.zeros(1, np.int64))
            self.expect(self.sums, np.zeros(1, np.int64), self.stages[last])
        self.paint(self.places[layer.output.name], np.zeros(1, np.int64))

    def until(self, index: int, count: int) -> None:
        stage = self.stages[index]
        out = self.places[stage.link.output]
        while self.made[index] < count:
            written = self.made[index] + np.arange(stage.link.pixel.step)
            views = [_sees(stage.link.pixel.layer, int(pixel)) for pixel in written]
            seen = np.concatenate([pixels for pixels, _ in views])
            self.ask(stage, max(needed for _, needed in views))
            for name in stage.asks:
                self.until(self.maker[name], int(written[-1]) + 1)
            self.read(stage, seen)
            if not stage.gathers:
                self.in_place(stage, seen, out, written)
            self.paint(out, written)
            self.made[index] = int(written[-1]) + 1

    def ask(self, stage: Stage, count: int) -> None:
        """Has so many pixels made of every operand that is a member's output."""
        for name in stage.link.operands:
            if name in self.maker:
                self.until(self.maker[name], count)

    def read(self, stage: Stage, pixels: IntArray) -> None:
        """Pixels of all operands."""
        for name in stage.link.operands:
            self.expect(self.places[name], pixels, stage)

    def expect(self, place: _Place, pixels: IntArray, stage: Stage) -> None:
        wrong = np.flatnonzero(self.tags[place.addresses(pixels)] != place.tags(pixels))
        if wrong.size:
            pixel = pixels[wrong[0] // place.depth]
            raise ChainError(f"stale byte: {stage.link.name} does not find pixel {pixel}")

    def paint(self, place: _Place, pixels: IntArray) -> None:
        self.tags[place.addresses(pixels)] = place.tags(pixels)

    def in_place(self, stage: Stage, seen: IntArray, out: _Place, written: IntArray) -> None:
        """A kernel that reads while it writes, upwards, may not write above what it has yet to read."""
        target = out.addresses(written)
        for name in stage.link.operands:
            source = self.places[name].addresses(seen)
            if np.intersect1d(source, target).size and (
                stage.link.pixel.window is not None or source[0] < target[0]
            ):
                raise ChainError(f"overlap: {stage.link.name} writes over what it reads")


def _sees(layer: Layer, pixel: int) -> tuple[IntArray, int]:
    """Numbers of the pixels that an output pixel is made from, and how many must have been made."""
    op = layer.node.op
    if not isinstance(op, Conv2D | MaxPool | AveragePool):
        return np.array([pixel]), pixel + 1
    _, height, width, _ = layer.activations[0].shape
    row, column = divmod(pixel, layer.output.shape[2])
    kernel = layer.inputs[1].shape[1:3] if isinstance(op, Conv2D) else op.kernel
    dilation = (1, 1) if isinstance(op, AveragePool) else op.dilation
    taps, ends = [], []
    for axis, (at, extent) in enumerate(((row, height), (column, width))):
        start = at * op.stride[axis] - op.pads[axis]
        reach = [start + tap * dilation[axis] for tap in range(kernel[axis])]
        taps.append(np.array([place for place in reach if 0 <= place < extent], np.int64))
        ends.append(min(extent - 1, reach[-1]))
    seen: IntArray = (taps[0][:, None] * width + taps[1]).ravel()
    return seen, ends[0] * width + ends[1] + 1
