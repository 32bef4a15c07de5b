"""The report's data -> where the shapes of its charts stand. Templates draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Found = Mapping[str, Any]
WIDTH = 960.0
LEFT = 64.0
COLOURS = 8  # classes of colour in the style sheet
BAR = 160.0
HISTOGRAM = (102.0, 28.0)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: its place, its colour's number and the index of what it stands for."""

    x: float
    y: float
    width: float
    height: float
    colour: int
    index: int


@dataclass(frozen=True, slots=True)
class Tick:
    """A label on an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """The arena over time: steps to the right, offsets upwards."""

    height: float
    boxes: tuple[Box, ...]
    ticks: tuple[Tick, ...]
    steps: tuple[Tick, ...]
    bound: float
    total: float


def strip(layers: Sequence[Found], key: str) -> tuple[Box, ...]:
    """Layers side by side, as wide as their share of a figure."""
    colours = kernels(layers)
    total = sum(layer[key] or 0 for layer in layers) or 1
    boxes, x = [], 0.0
    for index, layer in enumerate(layers):
        width = (layer[key] or 0) / total * WIDTH
        boxes.append(Box(x, 0, width, 36, colours[layer["kernel"]], index))
        x += width
    return tuple(_rounded(boxes))


def kernels(layers: Sequence[Found]) -> dict[str, int]:
    """Colour of every kernel, in order of appearance."""
    names = dict.fromkeys(layer["kernel"] for layer in layers)
    return {name: index % COLOURS for index, name in enumerate(names)}


def memory(data: Found) -> MemoryMap:
    """The places of all tensors and scratch over the steps that they live in."""
    height, steps = 300.0, max(len(data["layers"]), 1)
    size = max(data["sram"]["total_static"], 1)
    column, row = (WIDTH - LEFT) / steps, height / size
    boxes = [
        Box(
            LEFT + slot["first"] * column,
            height - (slot["offset"] + slot["size"]) * row,
            (slot["last"] - slot["first"] + 1) * column,
            slot["size"] * row,
            COLOURS if slot["name"].startswith("scratch") else index % COLOURS,
            index,
        )
        for index, slot in enumerate(data["memory_map"])
    ]
    every = max(1, -(-steps // 16))
    return MemoryMap(
        height=height,
        boxes=tuple(_rounded(boxes)),
        ticks=tuple(
            Tick(round(height - offset * row, 1), f"{offset:,}") for offset in _ticks(size)
        ),
        steps=tuple(
            Tick(round(LEFT + (i + 0.5) * column, 1), str(i)) for i in range(0, steps, every)
        ),
        bound=round(height - data["sram"]["arena_bound"] * row, 1),
        total=round(height - size * row, 1),
    )


def _ticks(size: int) -> list[int]:
    """Round offsets, four to eight of them."""
    step = 16
    while size / step > 8:
        step *= 2
    return list(range(0, size + 1, step))


def flash(split: Found) -> tuple[Box, ...]:
    """Weights, constants and code as one bar."""
    parts = [split[key] or 0 for key in ("weights", "constants", "code")]
    total, x, boxes = sum(parts) or 1, 0.0, []
    for index, part in enumerate(parts):
        width = part / total * WIDTH
        boxes.append(Box(x, 0, width, 36, index, index))
        x += width
    return tuple(_rounded(boxes))


def bar(value: float | None, largest: float) -> float:
    """Length of a bar in a table."""
    return round((value or 0) / largest * BAR, 1) if largest else 0.0


def histogram(counts: Sequence[int]) -> tuple[Box, ...]:
    """Bars of a layer's values over its grid; the outermost two are what the grid cuts off."""
    width, height = HISTOGRAM
    column, largest = width / len(counts), max(counts) or 1
    boxes = []
    for index, count in enumerate(counts):
        tall = max(count / largest * height, 1.0 if count else 0.0)
        outside = index in (0, len(counts) - 1)
        boxes.append(Box(index * column, height - tall, column, tall, 1 if outside else 0, index))
    return tuple(_rounded([box for box in boxes if box.height]))


def shades(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """How dark each cell of a matrix of confusions is, 0 to 9, by its share of the row."""
    return [[0 if not count else 1 + round(8 * count / sum(row)) for count in row] for row in rows]


def _rounded(boxes: Sequence[Box]) -> list[Box]:
    """A tenth of a pixel is enough; it keeps the page small."""
    return [
        replace(
            box,
            x=round(box.x, 1),
            y=round(box.y, 1),
            width=round(box.width, 1),
            height=round(box.height, 1),
        )
        for box in boxes
    ]
