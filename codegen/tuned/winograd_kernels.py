"""The variants of conv2d by exact Winograd transforms: with large weights in flash, and with small ones."""

from __future__ import annotations

from collections.abc import Callable

from codegen import window
from codegen.kernel import NO_LANE, NO_SMLAD, NOT_GROUPED, Instance, Kernel, Layer, unmet
from codegen.requantize import Scaling
from codegen.spatial import Window
from codegen.tuned import int4, winograd, winograd_small
from codegen.tuned.lanes import lane
from codegen.tuned.winograd import Geometry

Limits = tuple[int, int]


def variants(
    groups: Callable[[Layer], int],
    scaling: Callable[[Layer], Scaling],
    sliding: Callable[[Layer], tuple[Window, window.Shape, window.Shape]],
    limits: Callable[[Layer], Limits],
) -> tuple[Kernel, ...]:
    """Both variants for int8 weights, and the one for 4-bit weights.

    Args:
        groups: how many groups a layer has.
        scaling: how a layer's sums become int8.
        sliding: a layer's window, and shapes of input and output.
        limits: least and largest result of a layer.
    """

    def refusal(layer: Layer) -> str:
        ruled_out = unsuited(layer)
        return ruled_out or winograd.refusal(layer, scaling(layer), Geometry(*sliding(layer)))

    def unsuited(layer: Layer) -> str:
        return unmet((lambda: layer.core.dsp, NO_SMLAD), (lambda: groups(layer) == 1, NOT_GROUPED))

    def refusal_int4(layer: Layer) -> str:
        ruled_out = unsuited(layer) or unmet(
            (lambda: int4.fits(layer), int4.NOT_FITTING),
            (lambda: layer.inputs[0].shape[3] % 8 == 0, "channels in are no multiple of 8"),
            (lambda: lane(scaling(layer)) is not None, NO_LANE),
        )
        grown = winograd_small.times_sixteen
        shape = Geometry(*sliding(layer))
        return ruled_out or winograd.refusal(*grown(layer, scaling(layer)), shape)

    def kernel(
        name: str,
        refusal: Callable[[Layer], str],
        instance: Callable[[Layer, Scaling, Geometry], Instance],
        cycles: Callable[[Geometry, Limits], float],
        scratch: Callable[[Geometry], int],
        passes: Callable[[Geometry], float],
    ) -> Kernel:
        return Kernel(
            name=name,
            template=f"ops/{name.replace('int4', 'small')}.c.j2",
            assembly=f"ops/{name.replace('int4', 'small')}.S.j2",
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
        kernel("conv2d.winograd", refusal, large.instance, large.cycles, large.scratch, _units),
        kernel(
            "conv2d.winograd_small", refusal, small.instance, small.cycles, small.scratch, _bands
        ),
        kernel(
            "conv2d.winograd_int4",
            refusal_int4,
            small.instance_int4,
            small.cycles_int4,
            small.scratch,
            _bands,
        ),
    )


def _units(shape: Geometry) -> float:
    """Passes over the stream: one for every two tiles."""
    return float(len(shape.first_rows()) * len(shape.first_columns()))


def _bands(shape: Geometry) -> float:
    """Passes over the stream: one for every row of tiles."""
    return float(len(shape.first_rows()))
