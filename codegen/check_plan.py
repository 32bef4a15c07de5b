"""Proves a Plan by replaying it on painted bytes. Shares no code with the planner.

Every byte of the arena carries a tag: which tensor, which of its bytes. Steps are replayed event by
event in the order of the kernels' loops: each byte that an event reads must still carry the tag that is
expected there, then the bytes that it writes are painted. What an event reads is derived here from the
operator's own attributes, never from the footprints that the planner used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from codegen import check_chain, check_copies
from codegen.arrange import Slot
from codegen.fused import Chain
from codegen.ir import Array, IntArray, Op, Tensor
from codegen.ops.average_pool import AveragePool
from codegen.ops.binary_conv2d import BinaryConv2D
from codegen.ops.bit_max_pool import BitMaxPool
from codegen.ops.conv2d import Conv2D
from codegen.ops.max_pool import MaxPool
from codegen.ops.mean import Mean
from codegen.plan import Plan, Step

# (operand, first byte, end byte) read by an event; then the bytes of the output that it writes.
Event = tuple[list[tuple[int, int, int]], int, int]
WEIGHTED = BinaryConv2D | Conv2D
WINDOWED = AveragePool | BinaryConv2D | BitMaxPool | Conv2D | MaxPool


class PlanError(AssertionError):
    """A plan breaks a rule: a bug of the planner. The text says which rule, step and tensor."""


def check(plan: Plan) -> Plan:
    """Returns the plan if replaying it finds every byte where it is expected, else raises PlanError."""
    for slot in plan.slots.values():
        if slot.offset < 0 or slot.end > plan.size or slot.offset % 4:
            raise PlanError(f"range: {slot.name} at {slot.offset}, arena of {plan.size}")
    tags = np.full(plan.size, -1, np.int64)
    identity = {slot.name: number for number, slot in enumerate(plan.slots.values())}
    for port in plan.graph.inputs if plan.source is None else ():
        _paint(tags, plan.slots[port.tensor], identity, 0, plan.slots[port.tensor].size)
    for step in plan.steps:
        _check_scratch(step, tags, identity, plan)
        if step.chain is None:
            _replay(step, tags, identity)
        else:
            _replay_chain(step, step.chain, tags, identity)
    for port in plan.graph.outputs:
        slot = plan.slots[port.tensor]
        _expect(tags, slot, identity, 0, slot.size, f"output {port.name}")
    return plan


def _replay(step: Step, tags: IntArray, identity: Mapping[str, int]) -> None:
    overlapping = any(
        slot.offset < step.output.end and step.output.offset < slot.end for slot in step.inputs
    )
    events = _events(step) if overlapping else _whole(step)
    if events is None:
        raise PlanError(f"overlap: step {step.index} ({step.layer.label}) must not overlap")
    for reads, start, end in events:
        for operand, low, high in reads:
            slot = step.inputs[operand]
            _expect(tags, slot, identity, low, high, f"step {step.index} ({step.layer.label})")
        _paint(tags, step.output, identity, start, end)


def _replay_chain(step: Step, chain: Chain, tags: IntArray, identity: Mapping[str, int]) -> None:
    inputs = {
        name: check_chain.Outside(identity[slot.name], slot.offset)
        for name, slot in zip(chain.outside, step.inputs, strict=True)
    }
    output = check_chain.Outside(identity[step.output.name], step.output.offset)
    if step.rings is None:
        raise PlanError(f"rings: step {step.index} has none")
    try:
        check_chain.replay(chain, tags, inputs, output, step.rings.offset)
    except check_chain.ChainError as error:
        raise PlanError(f"step {step.index}: {error}") from error


def _check_scratch(step: Step, tags: IntArray, identity: Mapping[str, int], plan: Plan) -> None:
    if step.scratch is None:
        return
    if step.scratch.end > plan.size or step.scratch.offset % 4:
        raise PlanError(f"range: scratch of step {step.index}")
    for slot in (*step.inputs, step.output, *([step.rings] if step.rings else [])):
        if slot.offset < step.scratch.end and step.scratch.offset < slot.end:
            raise PlanError(f"scratch: step {step.index} works on its own {slot.name}")
    tags[step.scratch.offset : step.scratch.end] = -1


def _paint(tags: IntArray, slot: Slot, identity: Mapping[str, int], start: int, end: int) -> None:
    tags[slot.offset + start : slot.offset + end] = (identity[slot.name] << 32) + np.arange(
        start, end
    )


def _expect(
    tags: IntArray, slot: Slot, identity: Mapping[str, int], low: int, high: int, who: str
) -> None:
    found = tags[slot.offset + low : slot.offset + high]
    wanted = (identity[slot.name] << 32) + np.arange(low, high)
    wrong = np.flatnonzero(found != wanted)
    if wrong.size:
        raise PlanError(f"stale byte: {who} reads byte {low + wrong[0]} of {slot.name}")


def _whole(step: Step) -> list[Event]:
    reads = [(i, 0, slot.size) for i, slot in enumerate(step.inputs)]
    return [(reads, 0, step.output.size)]


def _events(step: Step) -> list[Event] | None:
    """Events of a step whose output overlaps an input; None when its operator allows no overlap."""
    kind = step.layer.node.op.kind
    if kind in check_copies.EVENTS:
        return list(check_copies.EVENTS[kind](step))
    if step.layer.is_plain:
        return list(_item_by_item(step)) if kind in IN_PLACE else None
    find = EVENTS.get(kind)
    return None if find is None else list(find(step))


def _item_by_item(step: Step) -> Iterator[Event]:
    """Plain numbers: what lies at an element's place is read, then the element is written."""
    count, end = step.layer.output.size, step.output.size
    size = end // count
    operands: list[tuple[int, int]] = []  # operand, bytes of an element
    whole: list[tuple[int, int]] = []  # operand, bytes
    for index, (slot, tensor) in enumerate(zip(step.inputs, step.layer.activations, strict=True)):
        if tensor.size == count:
            operands.append((index, slot.size // count))
        else:
            whole.append((index, slot.size))
    for item in range(count):
        reads = [(index, item * width, (item + 1) * width) for index, width in operands]
        reads += [(index, 0, all_of_it) for index, all_of_it in whole]
        yield reads, item * size, (item + 1) * size


def _elementwise(step: Step) -> Iterator[Event]:
    size = step.output.size
    operands = [i for i, slot in enumerate(step.inputs) if slot.size == size]
    broadcast = [(i, 0, s.size) for i, s in enumerate(step.inputs) if s.size != size]
    for byte in range(size):
        yield [*((i, byte, byte + 1) for i in operands), *broadcast], byte, byte + 1


def _moved(step: Step) -> Iterator[Event]:
    """Data movement: run on an array of byte numbers, the operator itself tells what goes where."""
    x = step.layer.activations[0]
    numbers = np.arange(x.size, dtype=np.float64).reshape(x.shape)
    operands: tuple[Array, ...] = (numbers,)
    sources = step.layer.node.op.evaluate(operands).ravel().astype(np.int64)
    for byte, source in enumerate(sources.tolist()):
        yield [(0, source, source + 1)], byte, byte + 1


def _windowed(step: Step) -> Iterator[Event]:
    """Convolution and pooling: one output pixel after the other, raster order, or strips of them."""
    return _in_strips(step) if step.kernel.name in STRIPS else _pixels(step)


def _pixels(step: Step) -> Iterator[Event]:
    op: Op = step.layer.node.op
    if not isinstance(op, WINDOWED):
        raise PlanError(f"window: step {step.index} is no window operator")
    _, height, width, depth = _bytes_shape(step.layer.activations[0])
    _, rows, columns, channels = _bytes_shape(step.layer.output)
    dilation = getattr(op, "dilation", (1, 1))
    kernel = _extent(step, op)
    if step.kernel.name in BANDS:
        yield from _banded(step, BANDS[step.kernel.name], op.stride[0], op.pads[0], kernel[0])
        return
    reads_first = step.kernel.name in READ_FIRST
    block: list[tuple[list[tuple[int, int, int]], int]] = []  # pixels of an unfinished block
    for row in _walk(step, rows):
        for column in _walk(step, columns):
            window = [
                (0, (y * width + x) * depth, (y * width + x + 1) * depth)
                for y in _taps(row, op.stride[0], op.pads[0], kernel[0], dilation[0], height)
                for x in _taps(column, op.stride[1], op.pads[1], kernel[1], dilation[1], width)
            ]
            first = (row * columns + column) * channels
            if step.kernel.name in BLOCKS or step.kernel.name in GROUPS:
                block.append((window, first))
                if _is_last(step, len(block), first // channels, rows * columns):
                    reads = [read for part, _ in block for read in part]
                    yield reads, block[0][1], first + channels
                    block = []
            elif reads_first:
                yield window, first, first + channels
            else:  # the window is read anew for every channel
                yield window, first, first + channels - 1
                yield window, first + channels - 1, first + channels


def _extent(step: Step, op: WINDOWED) -> tuple[int, ...]:
    """Rows and columns of a window: those of the weights where there are some."""
    return step.layer.inputs[1].shape[1:3] if isinstance(op, WEIGHTED) else op.kernel


def _bytes_shape(tensor: Tensor) -> tuple[int, ...]:
    """A tensor's shape in bytes; of bits, every 32 channels are a word."""
    if tensor.grid.width != 1:
        return tensor.shape
    return (*tensor.shape[:-1], (tensor.shape[-1] + 31) // 32 * 4)


def _binarized(step: Step) -> Iterator[Event]:
    """Signs: up to 32 values of a pixel are read, then their word is written."""
    channels = step.layer.output.shape[-1]
    at = 0
    for pixel in range(step.layer.output.size // channels):
        for first in range(0, channels, 32):
            end = min(first + 32, channels)
            yield [(0, pixel * channels + first, pixel * channels + end)], at, at + 4
            at += 4


def _is_last(step: Step, length: int, pixel: int, pixels: int) -> bool:
    """Whether a pixel, number `length` of its block, ends it; groups of pairs leave an odd pixel alone."""
    if pixel == pixels - 1:
        return True
    if step.kernel.name in BLOCKS:
        return length == BLOCKS[step.kernel.name]
    pairs = step.instance.params["group"]
    assert isinstance(pairs, int)
    return length == 2 * pairs or pixel == pixels // 2 * 2 - 1


def _banded(step: Step, count: int, stride: int, pad: int, size: int) -> Iterator[Event]:
    """So many output rows at a time: all input under them is read, then they are written.

    Where the rows are no multiple of the count, the last ones are computed anew.
    """
    _, height, width, depth = step.layer.activations[0].shape
    _, rows, columns, channels = step.layer.output.shape
    for band in range(0, rows, count):
        first = min(band, rows - count)
        seen = {
            y
            for row in range(first, first + count)
            for y in _taps(row, stride, pad, size, 1, height)
        }
        reads = [(0, y * width * depth, (y + 1) * width * depth) for y in sorted(seen)]
        yield reads, first * columns * channels, (first + count) * columns * channels


def _in_strips(step: Step) -> Iterator[Event]:
    """Strips of rows: a kernel that takes one channel after the other reads them until its last byte."""
    _, rows, columns, channels = step.layer.output.shape
    height = STRIPS[step.kernel.name]
    pixels = {end: reads for reads, start, end in _pixels(step) if end > start}
    for strip in _walk(step, -(-rows // height)):
        top = strip * height
        if step.kernel.name in WHOLE_STRIPS:
            top = min(top, rows - height)
        first, end = (min(row, rows) * columns * channels for row in (top, top + height))
        inside = range(first + channels, end + 1, channels)
        reads = [read for pixel in inside for read in pixels[pixel]]
        yield reads, first, end - 1
        yield reads, end - 1, end


def _rows(step: Step) -> Iterator[Event]:
    """Dense: every row of the input is read anew for each of its outputs, unless it is copied first."""
    length = step.layer.activations[0].shape[-1]
    channels = step.layer.output.shape[-1]
    for row in _walk(step, step.output.size // channels):
        window = [(0, row * length, (row + 1) * length)]
        first = row * channels
        if step.kernel.name in READ_FIRST:
            yield window, first, first + channels
            continue
        yield window, first, first + channels - 1
        yield window, first + channels - 1, first + channels


def _averaged(step: Step) -> Iterator[Event]:
    """Mean: each output reads every element that it averages, then is written."""
    op = step.layer.node.op
    if not isinstance(op, Mean):
        raise PlanError(f"mean: step {step.index} is no mean")
    shape = step.layer.activations[0].shape
    numbers = np.moveaxis(
        np.arange(step.inputs[0].size).reshape(shape), op.axes, range(-len(op.axes), 0)
    )
    sources = numbers.reshape(step.output.size, -1)
    for element, read in enumerate(sources.tolist()):
        yield [(0, source, source + 1) for source in read], element, element + 1


def _walk(step: Step, count: int) -> range:
    """0 .. count - 1 in the order of the step's kernel."""
    return range(count - 1, -1, -1) if step.order == "descending" else range(count)


def _taps(index: int, stride: int, pad: int, size: int, dilation: int, extent: int) -> list[int]:
    start = index * stride - pad
    return [p for p in range(start, start + size * dilation, dilation) if 0 <= p < extent]


# Variants that have copied their whole window before the first store of a pixel, or row before that of a row.
READ_FIRST = frozenset(
    {
        "binary_conv2d.xnor",
        "binary_conv2d.xnor_small",
        "conv2d.window",
        "dense.bits",
        "dense.dsp",
        "dense.factors",
        "dense.int4",
        "dense.pairs",
        "dense.tables",
    }
)

# Variants that have copied the windows of so many pixels before the first store of any of them.
BLOCKS: Mapping[str, int] = {
    "conv2d.gemm": 2,
    "conv2d.bits": 3,
    "conv2d.int4": 2,
    "conv2d.factors": 2,
    "conv2d.tables": 2,
    "conv2d.pairs": 4,
    "conv2d.signed_sums": 4,
}

# The same, of as many pairs of pixels as the template is told.
GROUPS = frozenset({"conv2d.gemm_staged"})

# Variants that work on so many output rows at once, and read them anew for every channel.
STRIPS: Mapping[str, int] = {
    "conv2d.depthwise_pairs": 2,
    "conv2d.depthwise_rows": 2,
    "conv2d.depthwise_bytes": 2,
    "conv2d.depthwise_int4": 2,
    "conv2d.depthwise_strips": 2,
}

# Of these, variants whose last strip starts earlier where strips do not divide the rows.
WHOLE_STRIPS = frozenset(
    {"conv2d.depthwise_rows", "conv2d.depthwise_bytes", "conv2d.depthwise_int4"}
)

# Variants that have read all input under so many output rows before the first store of any of them.
BANDS: Mapping[str, int] = {
    "conv2d.winograd": 2,
    "conv2d.winograd_small": 2,
    "conv2d.winograd_int4": 2,
}

IN_PLACE = frozenset({"map"})
"""Operators on plain numbers that may write over an operand."""
EVENTS: Mapping[str, Callable[[Step], Iterator[Event]]] = {
    "add": _elementwise,
    "average_pool": _windowed,
    "binarize": _binarized,
    "binary_conv2d": _windowed,
    "bit_max_pool": _windowed,
    "conv2d": _windowed,
    "dense": _rows,
    "lookup": _elementwise,
    "max_pool": _windowed,
    "mean": _averaged,
    "mul": _elementwise,
    "resize": _moved,
    "slice": _moved,
    "softmax": _elementwise,
}
