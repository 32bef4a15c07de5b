"""One item per layer, fewest cycles and bytes: a multiple-choice knapsack whose items may share a part.

An item costs cycles and bytes; items with the same `part` pay its bytes once. Layers that may share a part
form a group. Groups follow each other, and within a group the state of the dynamic program is the set of
parts paid so far: so sharing is exact. Per state, a front of totals that no other beats in both costs is
kept (all of it where there are limits, else the cheapest): so the answer is exact too.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence, Set
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Paid = frozenset[Hashable]


@dataclass(frozen=True, slots=True)
class Item:
    """A choice for a layer.

    Attributes:
        cycles: it takes.
        flash: bytes of its own.
        part: what it may share with others.
        part_flash: bytes of that.
    """

    cycles: float
    flash: int
    part: Hashable
    part_flash: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper limits of the totals."""

    cycles: float = inf
    flash: float = inf


@dataclass(frozen=True, slots=True, eq=False)
class _Front:
    """Totals, and where each comes from: state and point of the stage before, item of this one."""

    cycles: Floats
    flash: Ints
    state: Ints
    point: Ints
    item: Ints


Stage = dict[Paid, _Front]


def cheapest(
    layers: Sequence[Sequence[Item]], price: float, limits: Limits | None = None
) -> tuple[int, ...] | None:
    """The item of each layer with the least cycles + price * flash within the limits; None if there is none.

    Args:
        layers: at least one item each.
        price: cycles that a byte is worth.
        limits: of cycles and flash.
    """
    found = _solved(layers, price, None)
    if limits is None or _within(layers, found, limits):
        return found
    return _solved(layers, price, limits)


def totals(layers: Sequence[Sequence[Item]], chosen: Sequence[int]) -> tuple[float, int]:
    """Cycles and bytes of a choice."""
    items = [items[index] for items, index in zip(layers, chosen, strict=True)]
    parts = {item.part: item.part_flash for item in items}
    return sum(i.cycles for i in items), sum(i.flash for i in items) + sum(parts.values())


def _within(layers: Sequence[Sequence[Item]], chosen: Sequence[int] | None, limits: Limits) -> bool:
    if chosen is None:
        return False
    cycles, flash = totals(layers, chosen)
    return cycles <= limits.cycles and flash <= limits.flash


def _solved(
    layers: Sequence[Sequence[Item]], price: float, limits: Limits | None
) -> tuple[int, ...] | None:
    order = [index for group in _groups(layers) for index in group]
    last_of = _last_layers(layers, order)
    rest = _least_after(layers, order)
    none, zero = np.zeros(0, np.int64), np.zeros(1, np.int64)
    stages: list[Stage] = [{frozenset(): _Front(np.zeros(1), zero, none, none, none)}]
    for at, index in enumerate(order):
        grown = _grown(stages[-1], layers[index], {p for p, last in last_of.items() if last > at})
        stages.append(
            {paid: _pruned(front, price, limits, rest[at + 1]) for paid, front in grown.items()}
        )
    ends = [(paid, front) for paid, front in stages[-1].items() if len(front.cycles)]
    if not ends:
        return None
    paid, front = min(ends, key=lambda end: float((end[1].cycles + price * end[1].flash).min()))
    return _walked(stages, order, paid, int(np.argmin(front.cycles + price * front.flash)))


def _groups(layers: Sequence[Sequence[Item]]) -> list[list[int]]:
    """Layers that are linked by parts, in order of their first."""
    group_of: dict[Hashable, int] = {}
    groups: dict[int, list[int]] = {}
    for index, items in enumerate(layers):
        linked = sorted({group_of[item.part] for item in items if item.part in group_of})
        merged = sorted(index for group in linked for index in groups.pop(group))
        home = merged[0] if merged else index
        groups[home] = [*merged, index]
        for member in groups[home]:
            group_of.update((item.part, home) for item in layers[member])
    return [groups[home] for home in sorted(groups)]


def _last_layers(layers: Sequence[Sequence[Item]], order: list[int]) -> dict[Hashable, int]:
    """The last place in the order where a part may be used."""
    return {item.part: at for at, index in enumerate(order) for item in layers[index]}


def _least_after(layers: Sequence[Sequence[Item]], order: list[int]) -> list[tuple[float, int]]:
    """Cycles and bytes that the layers from a place on take at least, parts left out."""
    least: list[tuple[float, int]] = [(0.0, 0)]
    for index in reversed(order):
        cycles, flash = least[-1]
        cycles += min(item.cycles for item in layers[index])
        least.append((cycles, flash + min(item.flash for item in layers[index])))
    return least[::-1]


def _grown(stage: Stage, items: Sequence[Item], later: Set[Hashable]) -> Stage:
    """Every state and point with every item; parts that no later layer can use are forgotten."""
    parts: dict[Paid, list[_Front]] = {}
    for state, (paid, front) in enumerate(stage.items()):
        for number, item in enumerate(items):
            if _is_beaten(item, items):
                continue
            more = item.flash + (0 if item.part in paid else item.part_flash)
            kept = (paid | {item.part}) & later
            size = len(front.cycles)
            parts.setdefault(kept, []).append(
                _Front(
                    front.cycles + item.cycles,
                    front.flash + more,
                    np.full(size, state),
                    np.arange(size),
                    np.full(size, number),
                )
            )
    return {paid: _joined(fronts) for paid, fronts in parts.items()}


def _is_beaten(item: Item, items: Sequence[Item]) -> bool:
    """Whether another one is better even if it shares nothing and this one shares all."""
    return any(
        other.cycles < item.cycles and other.flash + other.part_flash < item.flash
        for other in items
    )


def _joined(fronts: list[_Front]) -> _Front:
    return _Front(
        np.concatenate([f.cycles for f in fronts]),
        np.concatenate([f.flash for f in fronts]),
        np.concatenate([f.state for f in fronts]),
        np.concatenate([f.point for f in fronts]),
        np.concatenate([f.item for f in fronts]),
    )


def _pruned(front: _Front, price: float, limits: Limits | None, rest: tuple[float, int]) -> _Front:
    """The points that may be part of the answer, by rising flash and falling cycles."""
    if limits is None:
        return _taken(front, np.argmin(front.cycles + price * front.flash, keepdims=True))
    order = np.lexsort((front.cycles, front.flash))
    cycles, flash = front.cycles[order], front.flash[order]
    before = np.concatenate([[inf], np.minimum.accumulate(cycles)[:-1]])
    fits = (cycles + rest[0] <= limits.cycles) & (flash + rest[1] <= limits.flash)
    return _taken(front, order[(cycles < before) & fits])


def _taken(front: _Front, chosen: Ints) -> _Front:
    return _Front(
        front.cycles[chosen],
        front.flash[chosen],
        front.state[chosen],
        front.point[chosen],
        front.item[chosen],
    )


def _walked(stages: list[Stage], order: list[int], paid: Paid, point: int) -> tuple[int, ...]:
    """The items that led to a point of the last stage."""
    chosen = [0] * len(order)
    for at in range(len(order), 0, -1):
        front = stages[at][paid]
        chosen[order[at - 1]] = int(front.item[point])
        paid = list(stages[at - 1])[int(front.state[point])]
        point = int(front.point[point])
    return tuple(chosen)
