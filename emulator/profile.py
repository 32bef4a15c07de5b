"""Where the cycles of an inference go: by layer, function, source line and kind of instruction."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from emulator.blocks import BlockCount
from emulator.elf import Image
from emulator.lines import Line, LineTable
from emulator.monitor import Events
from emulator.timing.instruction import decode
from emulator.timing.price import NO_EVENTS, Pricing

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Step:
    """What a step of the model executed."""

    name: str  # of the layer
    blocks: tuple[BlockCount, ...]
    events: Mapping[int, Events]


@dataclass(frozen=True, slots=True)
class Spent:
    """What one instruction took in one layer, all executions together."""

    layer: str
    symbol: str
    line: Line
    kind: str
    instructions: int
    cycles: float


@dataclass(frozen=True, slots=True)
class Total:
    """Instructions and cycles of a group."""

    instructions: int
    cycles: float


def spent(
    steps: Iterable[Step], pricing: Pricing, image: Image, lines: LineTable
) -> Iterator[Spent]:
    """Every executed instruction of every layer."""
    for step in steps:
        events = dict(step.events)
        for block in step.blocks:
            code = image.code(block.address, block.size)
            _, shares = pricing.block(block, code, events.pop(block.address, NO_EVENTS))
            address = block.address
            for instruction, cycles in zip(decode(code), shares, strict=True):
                yield Spent(
                    step.name,
                    image.function_at(address),
                    lines.at(address),
                    instruction.kind,
                    block.executions,
                    cycles,
                )
                address += instruction.size


def group(found: Iterable[Spent], key: Callable[[Spent], K]) -> dict[K, Total]:
    """Totals by a key, the most cycles first."""
    totals: dict[K, Total] = {}
    for one in found:
        before = totals.get(key(one), Total(0, 0.0))
        totals[key(one)] = Total(before.instructions + one.instructions, before.cycles + one.cycles)
    return dict(sorted(totals.items(), key=lambda item: (-item[1].cycles, str(item[0]))))


def speedscope(name: str, found: tuple[Spent, ...]) -> dict[str, object]:
    """A file for speedscope.app: layers call functions, functions hold lines; weights are cycles.

    Format: https://github.com/jlfwong/speedscope/wiki/Importing-from-custom-sources
    """
    stacks = group(found, lambda one: (one.layer, one.symbol, one.line))
    frames: dict[tuple[str, str, int], int] = {}

    def frame(name: str, file: str = "", line: int = 0) -> int:
        return frames.setdefault((name, file, line), len(frames))

    # Layers in the order of execution: the order of the steps, not of their cycles.
    order = {layer: i for i, layer in enumerate(dict.fromkeys(one.layer for one in found))}
    ordered = sorted(
        stacks.items(), key=lambda item: (order[item[0][0]], item[0][1], str(item[0][2]))
    )
    samples, weights = [], []
    for (layer, symbol, line), total in ordered:
        place = f"{line.file}:{line.line}" if line.line else "?"
        samples.append([frame(layer), frame(symbol or "?"), frame(place, line.file, line.line)])
        weights.append(round(total.cycles, 2))
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "name": name,
        "exporter": "thumbnet",
        "shared": {
            "frames": [
                {"name": frame_name, "file": file, "line": line} if line else {"name": frame_name}
                for frame_name, file, line in frames
            ]
        },
        "profiles": [
            {
                "type": "sampled",
                "name": f"{name}: cycles of one inference",
                "unit": "none",
                "startValue": 0,
                "endValue": round(sum(weights), 2),
                "samples": samples,
                "weights": weights,
            }
        ],
    }
