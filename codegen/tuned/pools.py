"""Pools over windows that lie inside the image, four channels at a time, for cores with the DSP extension.

A window's words are loaded in batches, as many as there are registers, and reduced: to the largest bytes, or
to sums of two channels a word.
"""

from __future__ import annotations

from dataclasses import dataclass

from codegen import window
from codegen.spatial import Window

WORD = 4
FURTHEST = 4_095  # immediate offset of a load
MOST_TAPS = 64  # they are not looped
NO_WORDS = "channels are no multiple of 4"
PADDED = "windows leave the image"
TOO_LARGE = f"a window has over {MOST_TAPS} elements, or a row of it over {FURTHEST} bytes"


@dataclass(frozen=True, slots=True)
class Tap:
    """Where a word of a window lies.

    Attributes:
        offset: bytes from the base.
        far: whether the base is the start of the tap's row; else it is one word behind the window's start.
        advance: bytes from there to the start of the row, where the base has to be moved there first.
    """

    offset: int
    far: bool = False
    advance: int | None = None


def whole(slides: Window) -> bool:
    """Whether no window leaves the image."""
    return not any(slides.pads)


def small(slides: Window, x: window.Shape) -> bool:
    """Whether a window's taps can all be instructions of their own."""
    rows, columns = slides.kernel
    reach = (columns - 1) * slides.dilation[1] * x[3]
    return rows * columns <= MOST_TAPS and reach <= FURTHEST


def taps(slides: Window, x: window.Shape) -> tuple[Tap, ...]:
    """All taps of a window but the first, whose load moves the base a word on."""
    found: list[Tap] = []
    for i in range(slides.kernel[0]):
        row = i * slides.dilation[0] * x[2] * x[3] - WORD
        places = [j * slides.dilation[1] * x[3] for j in range(slides.kernel[1])]
        if row + places[-1] <= FURTHEST:
            found += [Tap(row + place) for place in places]
        else:
            found.append(Tap(places[0], True, row))
            found += [Tap(place, True) for place in places[1:]]
    return tuple(found[1:])


def params(slides: Window, x: window.Shape, y: window.Shape, batch: int) -> dict[str, object]:
    """What templates/pool_walk.j2 and the windows are told; a batch is so many taps."""
    all_taps, columns = taps(slides, x), slides.stride[1] * x[3]
    return {
        "batches": tuple(all_taps[at : at + batch] for at in range(0, len(all_taps), batch)),
        "groups": x[3] // WORD,
        "next_column": columns - x[3],
        "next_row": slides.stride[0] * x[2] * x[3] - y[2] * columns,
    }


def cycles(slides: Window, x: window.Shape, y: window.Shape, batch: int, reducing: int) -> float:
    """Predicted cycles but for what a template does once a word; m4-simple.

    Args:
        slides: the window.
        x: input shape.
        y: output shape.
        batch: taps that are loaded together.
        reducing: cycles that reduce a tap.
    """
    others = taps(slides, x)
    batches = max(1, -(-len(others) // batch))
    far = sum(2 if tap.advance <= FURTHEST else 3 for tap in others if tap.advance is not None)
    word = reducing * len(others) + len(others) + batches + far + 6
    return 36 + y[1] * (8 + y[2] * (4 + y[3] // WORD * word))
