"""Portable kernels for stored weights of any scheme: expand a channel's row once, then ordinary products.

A row serves all pixels, so kernels go through the channels first; input and output must not overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from codegen import window
from codegen.ir import Storage, Tensor
from codegen.kernel import Constant, Footprint, Instance, Kernel, Layer
from codegen.quant.packing import pack
from codegen.requantize import Scaling
from codegen.spatial import Window
from codegen.tuned.lanes import folded_bias

EXPANDING = 16.0  # cycles per weight, a rough guess
Sliding = Callable[[Layer], tuple[Window, window.Shape, window.Shape]]


def plain(kernel: Kernel) -> Kernel:
    """The kernel for layers whose weights lie in flash as they are, or in bytes."""

    def is_int8(layer: Layer) -> bool:
        stored = layer.inputs[1].storage
        return stored is None or stored.is_bytes

    def refusal(layer: Layer) -> str:
        stored = layer.inputs[1].storage
        if stored is not None and not stored.is_bytes:
            return f"multiplies int8 weights, flash holds {stored.weights}"
        return kernel.refusal(layer) if kernel.refusal else ""

    return replace(
        kernel,
        serves=lambda layer: is_int8(layer) and kernel.serves(layer),
        refusal=refusal,
    )


def unpacked(kernel: Kernel) -> Kernel:
    """The kernel for layers with weights of few bits too, which it holds in flash as int8."""

    def refusal(layer: Layer) -> str:
        if layer.inputs[1].grid.width > 8:
            return "the weights expand to more than 8 bits"
        return kernel.refusal(layer) if kernel.refusal else ""

    return replace(kernel, serves=lambda layer: not refusal(layer), refusal=refusal)


def storage(layer: Layer) -> Storage:
    """How flash holds the weights of a layer that has such."""
    found = layer.inputs[1].storage
    assert found is not None
    return found


def constants(stored: Storage) -> tuple[Constant, ...]:
    """The arrays in flash, packed; all of them count as weights."""
    codes = pack(stored.codes, stored.bits)
    arrays = [Constant("codes", "uint8_t", codes, codes.size)]
    if stored.offset is None:
        arrays.append(Constant("levels", "int8_t", stored.levels, stored.levels.size))
    for index, factors in enumerate(stored.factors):
        packed = pack(factors.values, factors.bits)
        arrays.append(Constant(f"factors{index}", "uint8_t", packed, packed.size))
    return tuple(arrays)


def params(weights: Tensor) -> dict[str, object]:
    """What templates/low_bit.j2 is told of stored weights."""
    stored = weights.storage
    assert stored is not None
    found = {c.name: c for c in constants(stored)}
    rows = stored.codes.shape[0]
    factors = tuple(
        {
            "name": f"factors{index}",
            "size": f.size,
            "bits": f.bits,
            "shifts": f.shifts,
            "stride": found[f"factors{index}"].bytes // rows,
        }
        for index, f in enumerate(stored.factors)
    )
    return {
        "type": f"int{weights.grid.width}_t",
        "bits": stored.bits,
        "length": stored.codes.shape[1],
        "stride": found["codes"].bytes // rows,
        "offset": stored.offset,
        "levels": stored.levels.shape[1],
        "own_levels": len(stored.levels) > 1,
        "factors": factors,
    }


def _nowhere(layer: Layer) -> tuple[Footprint | None, ...]:
    """A channel's results come before the next channel's reads: nothing may overlap."""
    return (None,)


def _row_bytes(layer: Layer) -> int:
    w = layer.inputs[1]
    return int(storage(layer).codes.shape[1]) * w.grid.width // 8


def _instance(
    layer: Layer, scaling: Scaling, label: str, numbers: Mapping[str, object], padded: bool
) -> Instance:
    x, w, b = layer.inputs
    bias = b.values.astype(np.int64) if padded else folded_bias(x, w, b)
    shared = {"channels": w.shape[0], "stored": params(w), "q": scaling.q}
    arrays = (
        *constants(storage(layer)),
        Constant("bias", "int32_t", bias),
        *scaling.constants(),
    )
    return Instance(f"{storage(layer).scheme}_{label}", {**numbers, **shared}, arrays)


def _is_stored(layer: Layer) -> bool:
    return layer.inputs[1].storage is not None


def _refusal(layer: Layer) -> str:
    return "" if _is_stored(layer) else "flash holds the weights in int8"


def conv_kernel(
    sliding: Sliding, groups: Callable[[Layer], int], scaling: Callable[[Layer], Scaling]
) -> Kernel:
    """The variant of conv2d, for any groups.

    Args:
        sliding: window, input and output shape of a layer.
        groups: of a layer.
        scaling: how its sums become int8.
    """

    def instance(layer: Layer) -> Instance:
        slides, x, y = sliding(layer)
        numbers = window.params(slides, x, y) | {
            "zero_point": layer.inputs[0].grid.zero_point,
            "group_depth": layer.inputs[1].shape[3],
            "group_channels": y[3] // groups(layer),
        }
        label = window.label(slides, x, y)
        return _instance(layer, scaling(layer), label, numbers, any(slides.pads))

    def cycles(layer: Layer) -> float:
        taps = layer.output.size * storage(layer).codes.shape[1]
        around = taps / layer.inputs[1].shape[3]
        expanding = EXPANDING * layer.inputs[1].size
        return float(7.0 * taps + 14.0 * around + 36.0 * layer.output.size + expanding)

    return Kernel(
        name="conv2d.expand",
        template="ops/conv2d.expand.c.j2",
        serves=_is_stored,
        refusal=_refusal,
        instance=instance,
        cycles=cycles,
        footprints=_nowhere,
        scratch=_row_bytes,
    )


def dense_kernel(scaling: Callable[[Layer], Scaling]) -> Kernel:
    """The variant of dense."""

    def instance(layer: Layer) -> Instance:
        channels, length = layer.inputs[1].shape
        numbers = {"rows": layer.output.size // channels, "length": length}
        return _instance(layer, scaling(layer), f"{length}_{channels}", numbers, False)

    def cycles(layer: Layer) -> float:
        length = layer.inputs[1].shape[1]
        expanding = EXPANDING * layer.inputs[1].size
        return 7.0 * layer.output.size * length + 36.0 * layer.output.size + expanding

    return Kernel(
        name="dense.expand",
        template="ops/dense.expand.c.j2",
        serves=_is_stored,
        refusal=_refusal,
        instance=instance,
        cycles=cycles,
        footprints=_nowhere,
        scratch=_row_bytes,
    )
