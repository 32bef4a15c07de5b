"""Replays a chain on painted bytes. Shares no code with the planner: order and windows are derived anew.

Every pixel that a member reads must still lie where the driver looks for it: in a ring at its number modulo
the ring's size, or in a whole tensor. Then the pixel that it writes is painted over whatever was there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from codegen.chain import Source
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
        self.source, self.pushed = chain.source, 0
        if chain.source is not None:
            self.places[chain.source.tensor] = _pushed(chain.source, rings, taken)
            taken += 1
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
        """The whole chain; where rows are pushed, one after the other, as far as each one carries."""
        if self.stages[-1].link.pixel.collects:
            self.paint(self.sums, np.zeros(1, np.int64))
        complete = False
        if self.source is None:
            complete = self.go_on()
        for row in range(self.source.rows if self.source else 0):
            if complete:
                break  # rows below the last window are not stored
            assert self.source is not None
            pixels = row * self.source.columns + np.arange(self.source.columns)
            self.paint(self.places[self.source.tensor], pixels)
            self.pushed = int(pixels[-1]) + 1
            complete = self.go_on()
        if not complete:
            raise ChainError("rows: the chain waits for more than there are")

    def go_on(self) -> bool:
        """Makes pixels until the chain is complete, or waits for a row; whether it is complete."""
        last = len(self.stages) - 1
        layer = self.stages[last].link.pixel.layer
        if not self.stages[last].link.pixel.collects:
            return self.until(last, layer.output.size // layer.output.shape[-1])
        everything = layer.inputs[0].size // layer.inputs[0].shape[-1]
        while self.made[last] < everything:
            pixel = self.made[last]
            if not self.ask(self.stages[last], pixel + 1):
                return False
            self.read(self.stages[last], pixel + np.zeros(1, np.int64))
            self.expect(self.sums, np.zeros(1, np.int64), self.stages[last])
            self.made[last] = pixel + 1
        self.paint(self.places[layer.output.name], np.zeros(1, np.int64))
        return True

    def until(self, index: int, count: int) -> bool:
        """Makes pixels of a member until so many exist; False where a row is missing."""
        stage = self.stages[index]
        out = self.places[stage.link.output]
        while self.made[index] < count:
            written = self.made[index] + np.arange(stage.link.pixel.step)
            views = [_sees(stage.link.pixel.layer, int(pixel)) for pixel in written]
            seen = np.concatenate([pixels for pixels, _ in views])
            ready = self.ask(stage, max(needed for _, needed in views)) and all(
                self.until(self.maker[name], int(written[-1]) + 1) for name in stage.asks
            )
            if not ready:
                return False
            self.read(stage, seen)
            if not stage.gathers:
                self.in_place(stage, seen, out, written)
            self.paint(out, written)
            self.made[index] = int(written[-1]) + 1
        return True

    def ask(self, stage: Stage, count: int) -> bool:
        """Has so many pixels made of every operand; False where a row is missing."""
        for name in stage.link.operands:
            if name in self.maker and not self.until(self.maker[name], count):
                return False
            if self.source is not None and name == self.source.tensor and self.pushed < count:
                return False
        return True

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


def _pushed(source: Source, rings: int, tag: int) -> _Place:
    """The ring of rows, which lies before all others."""
    if source.ring < source.columns or source.ring % source.columns:
        raise ChainError(f"ring: {source.tensor} has none of whole rows")
    return _Place(tag, rings, source.ring, source.depth)


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
