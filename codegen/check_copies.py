"""What copies of plain numbers read and write, event by event: for codegen/check_plan.py.

Derived from the operators' meaning, never from the footprints that the planner used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from codegen.plan import Step

# (operand, first byte, end byte) read by an event; then the bytes of the output that it writes.
Event = tuple[list[tuple[int, int, int]], int, int]


def _moved(step: Step) -> Iterator[Event]:
    """One box of one operand: element by element in the order of the result. Of more, all at the end."""
    layer = step.layer
    whole = [(index, 0, slot.size) for index, slot in enumerate(step.inputs)]
    if len(layer.inputs) == len(step.inputs) == 1:
        numbers = np.arange(1, layer.inputs[0].size + 1).reshape(layer.inputs[0].shape)
        sources = layer.node.op.evaluate((numbers,)).ravel().astype(np.int64)
        if sources.min() > 0 and step.instance.params["fill"] is None:
            yield from _items(step, (sources - 1).tolist())
            return
    yield [], 0, step.output.size
    yield whole, 0, 0


def _scattered(step: Step) -> Iterator[Event]:
    """Operand 0 is copied element by element, then the others are read and any element is written."""
    copied = step.layer.inputs[0].data is None
    if copied:
        yield from _items(step, range(step.layer.output.size))
    others = list(enumerate(step.inputs))[1 if copied else 0 :]
    yield [], 0, step.output.size
    yield [(index, 0, slot.size) for index, slot in others], 0, 0


def _items(step: Step, sources: list[int] | range) -> Iterator[Event]:
    """Every element of the output is written after the element of operand 0 that it copies was read."""
    width = step.output.size // step.layer.output.size
    for item, source in enumerate(sources):
        yield [(0, source * width, (source + 1) * width)], item * width, (item + 1) * width


EVENTS: Mapping[str, Callable[[Step], Iterator[Event]]] = {
    "move": _moved,
    "scatter": _scattered,
    "triangle": lambda step: _items(step, range(step.layer.output.size)),
}
