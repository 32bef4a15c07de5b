"""Where everything lies: tensors alone first, for the figure, then tensors and scratch together.

Scratch is a buffer that lives for one step. Placing it with the tensors may need fewer bytes than
fitting it between tensors that were placed without it, but the figure of the tensors alone is what
planners are compared by: both are reported, with a bound for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from codegen.arena import Buffer, Placement, Problem, place


@dataclass(frozen=True, slots=True)
class Memory:
    """The arena of a plan.

    Attributes:
        bases: byte offset of every tensor.
        scratch: byte offset of the scratch of every step that has some.
        arena: bytes that the tensors alone need.
        bound: bytes that they cannot do without.
        size: bytes with scratch, a multiple of the alignment.
        size_bound: bytes that tensors and scratch cannot do without.
    """

    bases: Mapping[str, int]
    scratch: Mapping[int, int]
    arena: int
    bound: int
    size: int
    size_bound: int


def lay_out(problem: Problem, scratch: Mapping[int, int]) -> Memory:
    """Places the tensors of a problem, and so many bytes of scratch at these steps."""
    alone = place(problem)
    names = {step: f"scratch{step}" for step in scratch}
    while set(names.values()) & {b.name for b in problem.buffers}:
        names = {step: f"{name}_" for step, name in names.items()}  # a model may call a tensor so
    blocks = tuple(Buffer(names[step], size, step, step) for step, size in scratch.items())
    together = place(replace(problem, buffers=problem.buffers + blocks)) if blocks else alone
    fitted = _fitted(problem, alone, scratch)
    size = _top(problem, alone.bases, fitted, scratch)
    bases: Mapping[str, int] = alone.bases
    if together.size < size:
        size, bases = together.size, together.bases
        fitted = {step: bases[name] for step, name in names.items()}
    unit = problem.alignment
    return Memory(
        bases={b.name: bases[b.name] for b in problem.buffers},
        scratch=fitted,
        arena=alone.size,
        bound=alone.bound,
        size=-(-size // unit) * unit,
        size_bound=max(together.bound, alone.bound),
    )


def _fitted(problem: Problem, placed: Placement, scratch: Mapping[int, int]) -> dict[int, int]:
    """Scratch of each step: the lowest gap between the tensors that live at it."""
    found = {}
    ordered = sorted(problem.buffers, key=lambda b: placed.bases[b.name])
    for step, size in scratch.items():
        offset = 0
        for buffer in ordered:
            base = placed.bases[buffer.name]
            if buffer.first <= step <= buffer.last and offset + size > base:
                end = -(-(base + buffer.size) // problem.alignment) * problem.alignment
                offset = max(offset, end)
        found[step] = offset
    return found


def _top(
    problem: Problem,
    bases: Mapping[str, int],
    offsets: Mapping[int, int],
    scratch: Mapping[int, int],
) -> int:
    ends = [bases[b.name] + b.size for b in problem.buffers]
    return max([*ends, *(offsets[step] + size for step, size in scratch.items())], default=0)
