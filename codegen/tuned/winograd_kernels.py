"""The variants of conv2d by exact Winograd transforms: with large weights in flash, and with small ones."""

from __future__ import annotations

from collections.abc import Callable

from codegen import window
from codegen.kernel import Instance, Kernel, Layer
from codegen.requantize import Scaling
from codegen.spatial import Window
from codegen.tuned import winograd, winograd_small
from codegen.tuned.winograd import Geometry

Limits = tuple[int, int]


def variants(
    able: Callable[[Layer], bool],
    scaling: Callable[[Layer], Scaling],
    sliding: Callable[[Layer], tuple[Window, window.Shape, window.Shape]],
    limits: Callable[[Layer], Limits],
) -> tuple[Kernel, ...]:
    """Both variants.

    Args:
        able: whether a layer has one group, and its core SMLAD.
        scaling: how a layer's sums become int8.
        sliding: a layer's window, and shapes of input and output.
        limits: least and largest result of a layer.
    """

    def kernel(
        name: str,
        instance: Callable[[Layer, Scaling, Geometry], Instance],
        cycles: Callable[[Geometry, Limits], float],
        scratch: Callable[[Geometry], int],
        flash: Callable[[Geometry, Limits], int],
        read: Callable[[Geometry], int],
    ) -> Kernel:
        def price(layer: Layer) -> float:
            shape = Geometry(*sliding(layer))
            return cycles(shape, limits(layer)) + layer.core.flash_wait * read(shape)

        return Kernel(
            name=name,
            template=f"ops/{name}.c.j2",
            assembly=f"ops/{name}.S.j2",
            serves=lambda layer: (
                able(layer) and winograd.serves(layer, scaling(layer), Geometry(*sliding(layer)))
            ),
            instance=lambda layer: instance(layer, scaling(layer), Geometry(*sliding(layer))),
            cycles=price,
            footprints=lambda layer: (winograd.footprint(Geometry(*sliding(layer))),),
            scratch=lambda layer: scratch(Geometry(*sliding(layer))),
            flash=lambda layer: flash(Geometry(*sliding(layer)), limits(layer)),
        )

    large, small = winograd, winograd_small
    return (
        kernel(
            "conv2d.winograd",
            large.instance,
            large.cycles,
            large.scratch,
            large.flash,
            large.flash_bytes,
        ),
        kernel(
            "conv2d.winograd_small",
            small.instance,
            small.cycles,
            small.scratch,
            small.flash,
            small.flash_bytes,
        ),
    )
