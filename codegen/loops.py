"""Element strides of tensors, and the nested loops that walk them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Shape = tuple[int, ...]


def strides(shape: Shape) -> tuple[int, ...]:
    """Element stride of every axis of a dense row-major tensor."""
    result = [1]
    for extent in reversed(shape[1:]):
        result.append(result[-1] * extent)
    return tuple(reversed(result))


def broadcast_strides(shape: Shape, to: Shape) -> tuple[int, ...]:
    """Strides of an operand inside loops over `to`: 0 along the axes that it is repeated on."""
    padded = (1,) * (len(to) - len(shape)) + shape
    return tuple(
        0 if extent == 1 else step for extent, step in zip(padded, strides(padded), strict=True)
    )


def loops(extents: Shape, operands: Mapping[str, Sequence[int]]) -> list[dict[str, object]]:
    """The fewest nested loops over `extents`: axes of extent 1 drop out, neighbours merge.

    Two neighbouring axes are one loop when for every operand the outer stride is the inner stride times
    the inner extent. Each entry has `name`, `extent` and one stride per operand.
    """
    merged: list[tuple[int, dict[str, int]]] = []
    for axis, extent in enumerate(extents):
        if extent == 1:
            continue
        steps = {name: operand[axis] for name, operand in operands.items()}
        if merged and all(merged[-1][1][n] == steps[n] * extent for n in operands):
            merged[-1] = (merged[-1][0] * extent, steps)
        else:
            merged.append((extent, steps))
    if not merged:
        merged = [(1, dict.fromkeys(operands, 0))]
    return [
        {"name": name, "extent": extent, **steps}
        for name, (extent, steps) in zip("ijklmnop", merged, strict=False)
    ]
