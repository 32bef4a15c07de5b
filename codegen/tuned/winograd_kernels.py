"""The variants of conv2d by exact Winograd transforms: with large weights in flash, and with small ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from codegen import window
from codegen.kernel import NO_LANE, NO_SMLAD, NOT_GROUPED, Instance, Kernel, Layer, unmet
from codegen.requantize import Scaling
from codegen.spatial import Window
from codegen.tuned import int4, winograd, winograd_small
from codegen.tuned.lanes import lane
from codegen.tuned.winograd import Geometry

Limits = tuple[int, int]
Packed = Callable[[Layer, Scaling, Geometry], Instance]
Cycles = Callable[[Geometry, Limits], float]
Scratch = Callable[[Geometry], int]
Passes = Callable[[Geometry], float]


def variants(
    groups: Callable[[Layer], int],
    scaling: Callable[[Layer], Scaling],
    sliding: Callable[[Layer], tuple[Window, window.Shape, window.Shape]],
    limits: Callable[[Layer], Limits],
) -> tuple[Kernel, ...]:
    """Both variants for int8 weights.

    Args:
        groups: how many groups a layer has.
        scaling: how a layer's sums become int8.
        sliding: a layer's window, and shapes of input and output.
        limits: least and largest result of a layer.
    """

    def shape(layer: Layer) -> Geometry:
        return Geometry(*sliding(layer))

    def refusal(layer: Layer) -> str:
        return _unsuited(layer, groups) or winograd.refusal(layer, scaling(layer), shape(layer))

    def instance(packed: Packed, layer: Layer) -> Instance:
        return packed(layer, scaling(layer), shape(layer))

    def kernel(
        name: str, packed: Packed, cycles: Cycles, scratch: Scratch, passes: Passes
    ) -> Kernel:
        return Kernel(
            name=name,
            template=f"ops/{name}.c.j2",
            assembly=f"ops/{name}.S.j2",
            serves=lambda layer: not refusal(layer),
            refusal=refusal,
            instance=partial(instance, packed),
            cycles=lambda layer: cycles(shape(layer), limits(layer)),
            footprints=lambda layer: (winograd.footprint(shape(layer)),),
            scratch=lambda layer: scratch(shape(layer)),
            passes=lambda layer: passes(shape(layer)),
        )

    large, small = winograd, winograd_small
    return (
        kernel("conv2d.winograd", large.instance, large.cycles, large.scratch, _units),
        kernel("conv2d.winograd_small", small.instance, small.cycles, small.scratch, _bands),
    )


def int4_kernel(
    groups: Callable[[Layer], int],
    scaling: Callable[[Layer], Scaling],
    sliding: Callable[[Layer], tuple[Window, window.Shape, window.Shape]],
    limits: Callable[[Layer], Limits],
) -> Kernel:
    """The variant for 4-bit weights. Arguments as of `variants`."""

    def shape(layer: Layer) -> Geometry:
        return Geometry(*sliding(layer))

    def refusal(layer: Layer) -> str:
        ruled_out = _unsuited(layer, groups) or unmet(
            (lambda: int4.fits(layer), int4.NOT_FITTING),
            (lambda: layer.inputs[0].shape[3] % 8 == 0, "channels in are no multiple of 8"),
            (lambda: lane(scaling(layer)) is not None, NO_LANE),
        )
        grown = winograd_small.times_sixteen
        return ruled_out or winograd.refusal(*grown(layer, scaling(layer)), shape(layer))

    return Kernel(
        name="conv2d.winograd_int4",
        template="ops/conv2d.winograd_small.c.j2",
        assembly="ops/conv2d.winograd_small.S.j2",
        serves=lambda layer: not refusal(layer),
        refusal=refusal,
        instance=lambda layer: winograd_small.instance_int4(layer, scaling(layer), shape(layer)),
        cycles=lambda layer: winograd_small.cycles_int4(shape(layer), limits(layer)),
        footprints=lambda layer: (winograd.footprint(shape(layer)),),
        scratch=lambda layer: winograd_small.scratch(shape(layer)),
        passes=lambda layer: _bands(shape(layer)),
    )


def _unsuited(layer: Layer, groups: Callable[[Layer], int]) -> str:
    return unmet((lambda: layer.core.dsp, NO_SMLAD), (lambda: groups(layer) == 1, NOT_GROUPED))


def _units(shape: Geometry) -> float:
    """Passes over the stream: one for every two tiles."""
    return float(len(shape.first_rows()) * len(shape.first_columns()))


def _bands(shape: Geometry) -> float:
    """Passes over the stream: one for every row of tiles."""
    return float(len(shape.first_rows()))
