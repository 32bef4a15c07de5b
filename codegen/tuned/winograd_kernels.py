"""The variants of conv2d by exact Winograd transforms: with large weights in flash, and with small ones."""

from __future__ import annotations

from collections.abc import Callable

from codegen import window
from codegen.kernel import NO_SMLAD, NOT_GROUPED, Instance, Kernel, Layer, unmet
from codegen.requantize import Scaling
from codegen.spatial import Window
from codegen.tuned import winograd, winograd_small
from codegen.tuned.winograd import Geometry

Limits = tuple[int, int]


def variants(
    groups: Callable[[Layer], int],
    scaling: Callable[[Layer], Scaling],
    sliding: Callable[[Layer], tuple[Window, window.Shape, window.Shape]],
    limits: Callable[[Layer], Limits],
) -> tuple[Kernel, ...]:
    """Both variants.

    Args:
        groups: how many groups a layer has.
        scaling: how a layer's sums become int8.
        sliding: a layer's window, and shapes of input and output.
        limits: least and largest result of a layer.
    """

    def refusal(layer: Layer) -> str:
        ruled_out = unmet(
            (lambda: layer.core.dsp, NO_SMLAD), (lambda: groups(layer) == 1, NOT_GROUPED)
        )
        return ruled_out or winograd.refusal(layer, scaling(layer), Geometry(*sliding(layer)))

    def kernel(
        name: str,
        instance: Callable[[Layer, Scaling, Geometry], Instance],
        cycles: Callable[[Geometry, Limits], float],
        scratch: Callable[[Geometry], int],
        passes: Callable[[Geometry], float],
    ) -> Kernel:
        return Kernel(
            name=name,
            template=f"ops/{name}.c.j2",
            assembly=f"ops/{name}.S.j2",
            serves=lambda layer: not refusal(layer),
            refusal=refusal,
            instance=lambda layer: instance(layer, scaling(layer), Geometry(*sliding(layer))),
            cycles=lambda layer: cycles(Geometry(*sliding(layer)), limits(layer)),
            footprints=lambda layer: (winograd.footprint(Geometry(*sliding(layer))),),
            scratch=lambda layer: scratch(Geometry(*sliding(layer))),
            passes=lambda layer: passes(Geometry(*sliding(layer))),
        )

    large, small = winograd, winograd_small
    return (
        kernel("conv2d.winograd", large.instance, large.cycles, large.scratch, _units),
        kernel("conv2d.winograd_small", small.instance, small.cycles, small.scratch, _bands),
    )


def _units(shape: Geometry) -> float:
    """Passes over the stream: one for every two tiles."""
    return float(len(shape.first_rows()) * len(shape.first_columns()))


def _bands(shape: Geometry) -> float:
    """Passes over the stream: one for every row of tiles."""
    return float(len(shape.first_rows()))
