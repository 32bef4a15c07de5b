"""Products of signs in assembly: exclusive or, carry-save adders, one count of bits in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from codegen.kernel import Kernel, Layer
from codegen.spatial import Window

Sliding = tuple[Window, tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """A binary convolution as kernels need it.

    Attributes:
        slides: the window.
        x: shape of the input in bytes.
        y: shape of the output in bytes.
        layer: the layer.
        pad_value: what lies outside: 0 or a sign.
        binary: whether results are bits.
        shift: of the requantization.
        limits: least and largest result in int8.
    """

    slides: Window
    x: tuple[int, ...]
    y: tuple[int, ...]
    layer: Layer
    pad_value: int
    binary: bool
    shift: int
    limits: tuple[int, int]


def kernels(products: Callable[[Layer], Products]) -> tuple[Kernel, ...]:
    """The variants."""
    return ()
